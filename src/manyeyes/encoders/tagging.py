"""What every tagger is: pixels in, the names of what is in the picture out, with scores in 0..1.

A tagger never runs inside a model's ``forward``: tags become words of the prompt, once per image
(see ``manyeyes.inference.tagging``). Shapes: I images, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manyeyes.encoders.contract import PixelTransform
from manyeyes.errors import CheckpointError, RecipeError
from manyeyes.lines import split_lines
from manyeyes.options import check_choice
from manyeyes.records import USES, TagFeatures

DEFAULT_THRESHOLD = 0.5
"""Of taggers that bring no thresholds (ours)."""


FILE = "file"
"""The family of tags that are read from a file."""


@dataclass(frozen=True, kw_only=True)
class TaggerSpec:
    """A recipe's ``tagger:`` block."""

    family: str = "classifier"
    """A key of ``TAGGERS``. ``file`` takes a tags file in place of a tagger, for evaluation."""
    checkpoint: str = ""
    """What the tagger is loaded from. The path of a tags file is relative to the data folder and
    may hold ``{split}``."""
    tags: str | None = None
    """File of the class names, one a line, for checkpoints without them."""
    thresholds: str | None = None
    """File of one threshold per class, one a line."""
    threshold: float | None = None
    """One threshold for all classes. By default that of the file, or else 0.5."""
    backbone: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the image tower's configuration that differ from the published ones."""
    use: str = "given"
    """Tags file: each image gets its own tags (``given``), another image's (``shuffled``), or none
    (``empty``)."""

    def __post_init__(self) -> None:
        check_choice("tagger", "use", self.use, USES if self.family == FILE else USES[:1])
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise RecipeError(f"tagger.threshold: {self.threshold!r} is not in 0..1")
        if not self.checkpoint:
            raise RecipeError("tagger.checkpoint: name the tagger's weights")


class Tagger(nn.Module, ABC):
    """Base of all taggers; frozen and in ``eval()``.

    Args:
        spec: its block of the recipe. names: of the C classes, in order.

    Raises:
        CheckpointError: a list of thresholds of another length than the names.
    """

    def __init__(self, spec: TaggerSpec, names: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.names = spec, tuple(names)
        self.register_buffer("thresholds", _thresholds(spec, len(names)), persistent=False)

    @classmethod
    @abstractmethod
    def load(cls, spec: TaggerSpec) -> Tagger:
        """Return the tagger of ``spec`` with its weights, in float32.

        Raises:
            CheckpointError: a file is missing, or holds something else.
        """

    @property
    @abstractmethod
    def transform(self) -> PixelTransform:
        """How an image becomes its pixels; the whole image, squashed."""

    @abstractmethod
    def logits(self, pixels: Tensor) -> Tensor:
        """Return ``[I, C]`` of pixels ``[I, 3, height, width]``; scores are their sigmoids."""

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> TagFeatures:
        """Return the tags of each image whose score exceeds their threshold, in class order."""
        thresholds: Any = self.thresholds
        first = next(self.parameters())
        scores = self.logits(pixels.to(first.device, first.dtype)).float().sigmoid()
        kept = scores > thresholds.to(scores.device)
        places = [row.nonzero().flatten().tolist() for row in kept]
        return TagFeatures(
            tuple(tuple(self.names[place] for place in row) for row in places),
            tuple(
                tuple(image[row].tolist()) for image, row in zip(scores.cpu(), places, strict=True)
            ),
        )


def read_lines(file: str, what: str) -> list[str]:
    """Return the lines of a list that comes with a tagger.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return split_lines(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{what}: cannot read {file!r} ({error})") from error


def _thresholds(spec: TaggerSpec, classes: int) -> Tensor:
    if spec.threshold is not None or spec.thresholds is None:
        chosen = DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
        return torch.full((classes,), chosen)
    lines = [line for line in read_lines(spec.thresholds, "tagger.thresholds") if line.strip()]
    if len(lines) != classes:
        raise CheckpointError(
            f"tagger.thresholds: {spec.thresholds!r} holds {len(lines)} thresholds for "
            f"{classes} tags; they belong to another list"
        )
    try:
        return torch.tensor([float(line) for line in lines])
    except ValueError as error:
        raise CheckpointError(f"tagger.thresholds: {spec.thresholds!r}: {error}") from error
