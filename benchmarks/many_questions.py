"""k questions on one image: encoded once and its beginning read once, or all of it for each.

Two encoders (CLIP and DINOv2, base size) under COMM, a 135M language model, short answers.
``batch`` asks all k at once, as ``manyeyes evaluate`` and ``serve`` do; ``chat`` asks one after
another. ``encoded once`` shares the image's evidence; ``read once`` also the keys and values of
what stands before the question. Both must give the same tokens as doing all of it for each.

    python benchmarks/many_questions.py [--k 8] [--quick] [--json]
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from pair import FULL, QUICK, Sizes, picture, text_config, tokenizer, vision_config, words
from timing import Clock, arguments, interleave, measured, ratio, show
from torch import Tensor
from transformers import Dinov2Config

from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.inference.prefix_cache import PrefixCache
from manyeyes.inference.ranking import ShownImages
from manyeyes.records import Turn

NEW_TOKENS = 3
BATCH_EACH, BATCH_ONCE, BATCH_READ = (
    f"batch, {how}" for how in ("all for each", "encoded once", "read once")
)
CHAT_EACH, CHAT_ONCE, CHAT_READ = (
    f"chat, {how}" for how in ("all for each", "encoded once", "read once")
)


def build_comm(sizes: Sizes) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    """COMM with random weights in bfloat16: all CLIP levels, the deep quarter of DINOv2's."""
    dinov2 = Dinov2Config(
        hidden_size=sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=sizes.image_size,
        patch_size=sizes.patch,
    )
    backbones: dict[str, Any] = {"clip": vision_config(sizes), "dinov2": dinov2}
    levels = {"clip": "all", "dinov2": f"{1 + 3 * sizes.vision_layers // 4}-{sizes.vision_layers}"}
    config = ManyEyesConfig(
        encoders=[
            {"name": n, "family": n, "levels": levels[n], "backbone": backbones[n].to_dict()}
            for n in backbones
        ],
        fusion={"name": "comm", "align_encoders": ["dinov2"]},
        language={"config": text_config(sizes).to_dict()},
        prompt_style="plain",
    )
    processor = ManyEyesProcessor.from_config(config, tokenizer(sizes))
    return ManyEyesForConditionalGeneration.from_parts(config, dtype=torch.bfloat16), processor


class Asker:
    """Asks the same k questions on one image in six ways."""

    def __init__(
        self, model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor, sizes: Sizes
    ) -> None:
        self.model, self.processor, self.image = model, processor, picture(sizes, 0)
        self.sizes = sizes

    def prompts(self, k: int) -> list[str]:
        """k questions of equal length."""
        draw = random.Random(0)
        texts = [f"<image>\n{words(self.sizes, draw, 10)}" for _ in range(k)]
        return [self.processor.prompt([Turn("user", text)]) for text in texts]

    @torch.inference_mode()
    def ask(self, prompts: list[str], *, together: bool, once: bool, read: bool = False) -> Tensor:
        """Return the answers' tokens ``[k, new]``."""
        evidence = self.model.encode_images(**self.pixels(1)) if once else None
        groups = [prompts] if together else [[prompt] for prompt in prompts]
        prefixes = PrefixCache(self.model, limit=2**30)
        answers = []
        for group in groups:
            inputs: dict[str, Any] = dict(self.processor.answer_inputs(group, images_encoded=True))
            if evidence is None:
                inputs |= self.pixels(len(group))
            else:
                shown = ShownImages(evidence, torch.zeros(len(group)).long())
                if read:
                    inputs = prefixes.share(inputs, shown, [0] * len(group))
                inputs |= {"evidence": evidence, "image_index": shown.rows}
            sequences = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
            )
            answers.append(sequences[:, inputs["input_ids"].shape[1] :])
        return torch.cat(answers)

    def pixels(self, copies: int) -> dict[str, Tensor]:
        """Pixels of ``copies`` copies of the image."""
        pixels = self.processor.pixels([self.image] * copies)
        return {k: v.to(self.model.dtype) for k, v in pixels.items()}

    def timed(self, prompts: list[str], **way: bool) -> Callable[[], Clock]:
        """A measured call of `ask`."""

        def run() -> Clock:
            with measured() as clock:
                self.ask(prompts, **way)
            return clock

        return run


def main() -> None:
    """Check, measure and print."""
    parser = arguments(str(__doc__).partition("\n")[0])
    parser.add_argument("--k", type=int, default=8, help="questions on the image")
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 or float32")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else FULL
    model, processor = build_comm(sizes)
    asker = Asker(model.to(getattr(torch, options.dtype)), processor, sizes)
    prompts = asker.prompts(options.k)
    ways = {
        BATCH_EACH: {"together": True, "once": False},
        BATCH_ONCE: {"together": True, "once": True},
        BATCH_READ: {"together": True, "once": True, "read": True},
        CHAT_EACH: {"together": False, "once": False},
        CHAT_ONCE: {"together": False, "once": True},
        CHAT_READ: {"together": False, "once": True, "read": True},
    }
    answers = {name: asker.ask(prompts, **way) for name, way in ways.items()}
    for name, found in answers.items():
        slow = BATCH_EACH if name.startswith("batch") else CHAT_EACH
        assert torch.equal(found, answers[slow]), f"{name}: other answers than {slow}"
    runs = {name: asker.timed(prompts, **way) for name, way in ways.items()}
    series = interleave(runs, options.k, options.rounds or (2 if options.quick else 5))
    pairs = (
        (BATCH_EACH, BATCH_ONCE),
        (BATCH_EACH, BATCH_READ),
        (CHAT_EACH, CHAT_ONCE),
        (CHAT_EACH, CHAT_READ),
        (CHAT_EACH, BATCH_READ),
    )
    ratios = {f"{fast} / {slow}": ratio(series[slow], series[fast]) for slow, fast in pairs}
    title = f"{options.k} questions on one image, questions per second"
    show(title, series, ratios, "questions/s", as_json=options.json)


if __name__ == "__main__":
    main()
