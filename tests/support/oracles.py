"""Predictors for evaluation tests that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from manyeyes.conversation.boxes import format_boxes
from manyeyes.evaluation.benchmarks.grounding import sized
from manyeyes.inference.questions import Item

WORLD_BENCHMARKS = ("caption", "exact", "gqa", "pope", "rec", "vqa", "vsr")
"""Benchmarks whose files a generated world holds."""


def true_answer(item: Item) -> str:
    """What a perfect model says."""
    if item.target is None:
        return item.references[0]
    width, height = sized(item).size or (0, 0)
    return format_boxes([item.target], style="shikra", width=width, height=height)


class Oracle:
    """Right with the image, "yes" without it; counts what it is asked and can be interrupted."""

    box_style = "shikra"
    generation: Mapping[str, Any] = {"do_sample": False}

    def __init__(
        self, fingerprint: str = "oracle", answers_until_killed: int | None = None
    ) -> None:
        self.fingerprint = fingerprint
        self.left = answers_until_killed
        self.asked: list[tuple[str, bool]] = []

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        if self.left is not None:
            self.left -= len(items)
            if self.left < 0:
                raise KeyboardInterrupt
        self.asked += [(item.id, with_images) for item in items]
        return [f" {true_answer(item)}\nmore" if with_images else "yes" for item in items]
