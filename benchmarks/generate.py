"""Greedy generation: manyeyes against LLaVA of transformers, same weights, batch 1 and 8.

Both must write the same tokens, in float32 and in bfloat16; then bfloat16 is timed.

    python benchmarks/generate.py [--quick] [--json]
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from pair import FULL, QUICK, Sizes, build_ours, build_peer, picture, words
from timing import Clock, Series, arguments, interleave, measured, ratio, show
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.records import Turn

BATCHES = (1, 8)
Inputs = dict[str, Tensor]


def our_inputs(sizes: Sizes, processor: ManyEyesProcessor, batch: int) -> Inputs:
    """Left-padded questions of different lengths, one image each."""
    draw = random.Random(batch)
    lengths = [sizes.prompt_words + 3 * number for number in range(batch)]
    turns = [[Turn("user", f"<image>\n{words(sizes, draw, length)}")] for length in lengths]
    images = [picture(sizes, number) for number in range(batch)]
    return dict(processor.answer_inputs([processor.prompt(turn) for turn in turns], images))


def peer_inputs(inputs: Inputs, sizes: Sizes, processor: ManyEyesProcessor) -> Inputs:
    """The same inputs in the peer's names."""
    image = inputs["input_ids"] == processor.image_token_ids_by_role.image
    return {
        "input_ids": inputs["input_ids"].masked_fill(image, sizes.vocabulary - 1),
        "attention_mask": inputs["attention_mask"],
        "pixel_values": inputs["pixel_values_clip"],
    }


def writer(
    model: ManyEyesForConditionalGeneration | LlavaForConditionalGeneration,
    inputs: Inputs,
    new: int,
) -> Callable[[], Tensor]:
    """A call that writes ``new`` tokens greedily and returns them, ``[batch, new]``."""
    dtype = next(model.parameters()).dtype
    placed = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}

    @torch.inference_mode()
    def write() -> Tensor:
        length = {"max_new_tokens": new, "min_new_tokens": new}
        sequences: Tensor = model.generate(**placed, do_sample=False, **length)
        return sequences[:, inputs["input_ids"].shape[1] :]

    return write


def timed(write: Callable[[], Tensor]) -> Callable[[], Clock]:
    """Measure a call."""

    def run() -> Clock:
        with measured() as clock:
            write()
        return clock

    return run


def check_equal(ours: Callable[[], Tensor], peer: Callable[[], Tensor]) -> None:
    """Raise AssertionError unless both write the same tokens."""
    mine, theirs = ours(), peer()
    assert torch.equal(mine, theirs), "ours and the peer write different tokens"


def main() -> None:
    """Check, measure and print."""
    options = arguments(str(__doc__).partition("\n")[0]).parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes, new = (QUICK, 8) if options.quick else (FULL, 32)
    rounds = options.rounds or (2 if options.quick else 5)
    ours, processor = build_ours(sizes)
    peer = build_peer(sizes, ours)
    series: dict[str, Series] = {}
    ratios = {}
    for dtype in (torch.float32, torch.bfloat16):
        ours.to(dtype=dtype)
        peer.to(dtype=dtype)
        for batch in BATCHES:
            inputs = our_inputs(sizes, processor, batch)
            mine = writer(ours, inputs, new)
            theirs = writer(peer, peer_inputs(inputs, sizes, processor), new)
            check_equal(mine, theirs)
            if dtype is torch.bfloat16:
                names = f"peer, batch {batch}", f"ours, batch {batch}"
                pair = {names[0]: timed(theirs), names[1]: timed(mine)}
                series |= interleave(pair, batch * new, rounds)
                ratios[f"batch {batch}: ours / peer"] = ratio(*(series[name] for name in names))
    checked = {"tokens": f"equal in float32 and bfloat16, {new} per answer, batches {BATCHES}"}
    title = "generation, tokens per second (image and prompt included)"
    show(title, series, ratios, "tokens/s", as_json=options.json, extra=checked)


if __name__ == "__main__":
    main()
