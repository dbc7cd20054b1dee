"""Helpers of the tests that run the whole model over tiny parts."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from torch import Tensor, nn

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.records import Sample, Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]
Pictures = list[Image.Image]


def batch(processor: ManyEyesProcessor, pictures: Pictures, count: int = 2) -> dict[str, Tensor]:
    rows = [
        processor.encode(
            Sample(
                str(i),
                ("x",),
                (Turn("user", f"<image>\nwhat{i}" + "?" * i), Turn("assistant", "a" * (i + 2))),
            ),
            [pictures[i]],
        )
        for i in range(count)
    ]
    return processor.collate(rows)


def freeze(model: ManyEyesForConditionalGeneration, *parts: str) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(parts))


def prompts(processor: ManyEyesProcessor, *questions: str) -> list[str]:
    return [processor.prompt([Turn("user", f"<image>\n{q}")]) for q in questions]


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def size(found: dict[str, Tensor], prefix: str) -> float:
    return sum(float(g.abs().sum()) for name, g in found.items() if name.startswith(prefix))
