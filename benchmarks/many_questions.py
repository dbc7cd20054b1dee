"""k questions on one image: the image encoded once for all of them, or once for every question.

Two encoders (CLIP and DINOv2, base size) under COMM, a 135M language model, short answers.
``batch`` asks all k at once, as ``manyeyes evaluate`` does; ``chat`` asks one after another.
Encoding once must give the same tokens as encoding for each.

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
from manyeyes.records import Turn

NEW_TOKENS = 3
BATCH_ONCE, BATCH_EACH = "batch, encoded once", "batch, encoded for each"
CHAT_ONCE, CHAT_EACH = "chat, encoded once", "chat, encoded for each"


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
    """Asks the same k questions on one image in four ways."""

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
    def ask(self, prompts: list[str], *, together: bool, once: bool) -> Tensor:
        """Return the answers' tokens ``[k, new]``."""
        evidence = self.model.encode_images(**self.pixels(1)) if once else None
        groups = [prompts] if together else [[prompt] for prompt in prompts]
        answers = []
        for group in groups:
            inputs = self.processor.answer_inputs(group, images_encoded=True)
            visual: dict[str, Any] = {
                "evidence": evidence,
                "image_index": torch.zeros(len(group)).long(),
            }
            visual = visual if once else self.pixels(len(group))
            sequences = self.model.generate(
                **inputs,
                **visual,
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
            )
            answers.append(sequences[:, inputs["input_ids"].shape[1] :])
        return torch.cat(answers)

    def pixels(self, copies: int) -> dict[str, Tensor]:
        """Pixels of ``copies`` copies of the image."""
        return {k: v.bfloat16() for k, v in self.processor.pixels([self.image] * copies).items()}

    def timed(self, prompts: list[str], *, together: bool, once: bool) -> Callable[[], Clock]:
        """A measured call of `ask`."""

        def run() -> Clock:
            with measured() as clock:
                self.ask(prompts, together=together, once=once)
            return clock

        return run


def main() -> None:
    """Check, measure and print."""
    parser = arguments(str(__doc__).partition("\n")[0])
    parser.add_argument("--k", type=int, default=8, help="questions on the image")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else FULL
    asker = Asker(*build_comm(sizes), sizes)
    prompts = asker.prompts(options.k)
    ways = {
        BATCH_EACH: {"together": True, "once": False},
        BATCH_ONCE: {"together": True, "once": True},
        CHAT_EACH: {"together": False, "once": False},
        CHAT_ONCE: {"together": False, "once": True},
    }
    answers = [asker.ask(prompts, **way) for way in ways.values()]
    for first, second in ((0, 1), (2, 3)):
        assert torch.equal(answers[first], answers[second]), "encoding once changed the answers"
    runs = {name: asker.timed(prompts, **way) for name, way in ways.items()}
    series = interleave(runs, options.k, options.rounds or (2 if options.quick else 5))
    ratios = {
        "batch: once / each": ratio(series[BATCH_EACH], series[BATCH_ONCE]),
        "chat: once / each": ratio(series[CHAT_EACH], series[CHAT_ONCE]),
    }
    title = f"{options.k} questions on one image, questions per second"
    show(title, series, ratios, "questions/s", as_json=options.json)


if __name__ == "__main__":
    main()
