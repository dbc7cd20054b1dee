"""Decoding with adapter prompts against the same language model without them.

Batch 8, prompts of different lengths, greedy, every answer equally long. With gates at zero both
must write the same tokens; then the gates open and both are timed, prompt included. On an
accelerator if there is one, else on the CPU.

    python benchmarks/adapter_decoding.py [--quick] [--json]
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from pair import FULL, QUICK, Sizes, text_config
from timing import Clock, arguments, interleave, measured, ratio, show
from torch import Tensor
from transformers import AutoModelForCausalLM

from manyeyes.bridge import Given
from manyeyes.bridge.adapter_prompts import AdapterPromptsBridge, AdapterPromptsOptions
from manyeyes.layers.adapters.attention import answering
from manyeyes.records import VisualEvidence

BATCH, PROMPTS = 8, 10
PLAIN, ADAPTED = "without prompts", "with adapter prompts"
Write = Callable[[], Tensor]


def build(sizes: Sizes, device: torch.device) -> tuple[Any, Any, AdapterPromptsBridge]:
    """The language model twice, with the same weights, in bfloat16; and a bridge for the second."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(AutoModelForCausalLM.from_config(text_config(sizes)))
    bridge = AdapterPromptsBridge(AdapterPromptsOptions(), text_config(sizes), Given(0, PROMPTS))
    plain, adapted = (model.to(device, torch.bfloat16).eval() for model in models)
    return plain, adapted, bridge.to(device)


def left_padded(sizes: Sizes, device: torch.device) -> dict[str, Tensor]:
    """Random prompts of different lengths."""
    draw = random.Random(0)
    lengths = [sizes.prompt_words + 3 * number for number in range(BATCH)]
    ids = torch.zeros(BATCH, max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, -length:] = torch.tensor(
            [draw.randrange(3, sizes.vocabulary) for _ in range(length)]
        )
    return {"input_ids": ids.to(device), "attention_mask": (ids > 0).long().to(device)}


def writers(
    plain: Any, adapted: Any, bridge: AdapterPromptsBridge, inputs: dict[str, Tensor], new: int
) -> dict[str, Write]:
    """Calls that write ``new`` tokens per prompt, without and with a different image for each."""
    width = bridge.queries.weight.shape[1]
    images = VisualEvidence(prompts=torch.randn(BATCH, 1, PROMPTS, width).to(bridge.gates.device))
    length = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}

    @torch.inference_mode()
    def without() -> Tensor:
        return plain.generate(**inputs, **length).cpu()

    @torch.inference_mode()
    def with_prompts() -> Tensor:
        with answering(bridge.prompts(adapted, BATCH, images, None)):
            return adapted.generate(**inputs, **length).cpu()

    return {PLAIN: without, ADAPTED: with_prompts}


def timed(write: Write) -> Callable[[], Clock]:
    """Measure a call."""

    def run() -> Clock:
        with measured() as clock:
            write()
        return clock

    return run


def main() -> None:
    """Check, measure and print."""
    options = arguments(str(__doc__).partition("\n")[0]).parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes, new = (QUICK, 8) if options.quick else (FULL, 32)
    rounds = options.rounds or (2 if options.quick else 7)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = accelerator or torch.device("cpu")
    plain, adapted, bridge = build(sizes, device)
    inputs = left_padded(sizes, device)
    calls = writers(plain, adapted, bridge, inputs, new)
    same = torch.equal(calls[PLAIN](), calls[ADAPTED]())
    assert same, "at zero gates the prompts changed the text"
    with torch.no_grad():
        bridge.gates.normal_()
        before = plain(**inputs).logits
        with answering(bridge.prompts(adapted, BATCH, None, None)):
            assert not torch.equal(adapted(**inputs).logits, before), "open gates change nothing"
    series = interleave({name: timed(call) for name, call in calls.items()}, BATCH * new, rounds)
    ratios = {"with prompts / without": ratio(series[PLAIN], series[ADAPTED])}
    checked = {"device": str(device), "tokens": f"equal at zero gates, {new} per answer"}
    title = f"decoding, batch {BATCH}, tokens per second (prompt included)"
    show(title, series, ratios, "tokens/s", as_json=options.json, extra=checked)


if __name__ == "__main__":
    main()
