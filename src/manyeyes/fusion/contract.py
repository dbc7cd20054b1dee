"""What every fusion is: a feature bundle in, visual evidence out.

Shapes: I images, N patches, D encoder width, K visual tokens, H language-model width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from manyeyes.conversation.fusion_text import ReaderSpec
from manyeyes.encoders import GridShape, ObjectShape, Shape
from manyeyes.errors import PartError
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.records import FeatureBundle, FusionText, GridFeatures, ObjectFeatures, VisualEvidence

Shapes = Mapping[str, GridShape]
"""Shape of each encoder by its name, in the recipe's order."""

Kind = TypeVar("Kind", GridFeatures, ObjectFeatures)

IMAGE_POSITIONS = ("none", "waves")
"""Whether a fusion whose queries look for places adds each patch's place to what they read (ours).
Published encoders' features say where they are; those of small encoders may have lost it."""

_KINDS: Mapping[type[Shape], str] = {GridShape: "patch features", ObjectShape: "detected objects"}


@dataclass(frozen=True, kw_only=True)
class FusionPlan:
    """What the rest of the library must know of a fusion before it is built.

    tokens: K, the visual tokens of one image. grid: rows and columns where they are the cells of
    one, row by row. places: the same where several tokens stand at each place, one after the other.
    prompts: P, the adapter prompts per layer of one image. layers: S, the layers of the language
    model that add as many tokens again. text: what the processor must write for it. object_texts:
    it reads the texts about detected objects, ``PERCEPTION`` in the bundle. averaged: it reads
    nothing of an encoder but the mean of its levels, which is then what stores keep and ``forward``
    must take in their place. refines: the detector whose objects it gives anew, as ``REFINED`` in
    the trace. reconstructs: the encoder whose decoder can read its ``LOCAL_STATES``.
    """

    tokens: int = 0
    grid: tuple[int, int] | None = None
    places: tuple[int, int] | None = None
    prompts: int = 0
    layers: int = 0
    text: ReaderSpec | None = None
    object_texts: bool = False
    averaged: bool = False
    refines: str | None = None
    reconstructs: str | None = None


class Fusion(nn.Module, ABC):
    """Base of all fusions.

    A file has one order: the equations, the options and what they allow by themselves, then the
    fusion: its parts (``__init__``), which encoders suit it (``check``), what it will give
    (``planned``), the pass (``forward`` and its steps), pictures.

    ``reads``: kinds of encoders it can read. ``partial``: patterns of own parameters that only some
    options have, so that a stage may go on without what an earlier stage trained.
    """

    options_class: ClassVar[type[Any]]
    partial: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[type[Shape], ...]] = (GridShape,)

    def __init__(self, options: Any, shapes: Mapping[str, Shape], out_width: int) -> None:
        super().__init__()
        self.options, self.out_width = options, out_width
        self.plan = self.planned(options, shapes)

    @classmethod
    def accept(cls, shapes: Mapping[str, Shape]) -> Any:
        """Return ``shapes`` if this fusion reads encoders of their kinds.

        Raises:
            PartError: one that it does not; names it.
        """
        for name, shape in shapes.items():
            if not isinstance(shape, cls.reads):
                kinds = " or ".join(_KINDS[kind] for kind in cls.reads)
                raise PartError(
                    f"{cls.__name__} reads {kinds}, but encoder {name!r} gives "
                    f"{_KINDS[type(shape)]}"
                )
        return shapes

    @classmethod
    @abstractmethod
    def check(cls, options: Any, shapes: Any) -> None:
        """Raise ``PartError`` unless the encoders suit this fusion."""

    @classmethod
    @abstractmethod
    def planned(cls, options: Any, shapes: Any) -> FusionPlan:
        """Return what a fusion with these options gives, without building anything."""

    @classmethod
    def resolve(cls, values: dict[str, Any]) -> None:
        """Write into a ``fusion:`` block what must be read from a checkpoint."""

    @abstractmethod
    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """Turn the features of I images into evidence."""

    def intermediates(
        self, bundle: FeatureBundle, captions: FusionText | None, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """Return those of ``wanted`` that objectives read and ``forward`` does not compute."""
        return {}

    def attentions(self) -> tuple[AttentionSite, ...]:
        """Return the attentions that show where in the image it reads, for pictures."""
        return ()

    def level_weights(self) -> dict[str, Tensor]:
        """Return the weight of each level by encoder, float32; empty where levels have none."""
        return {}


def common_grid(shapes: Shapes, fusion: str) -> tuple[int, int]:
    """Return the one grid all encoders share.

    Raises:
        PartError: the grids differ; names each and the key that declares a resampler.
    """
    grids = {name: shape.grid for name, shape in shapes.items()}
    if len(set(grids.values())) > 1:
        listed = ", ".join(f"{name} {rows}x{columns}" for name, (rows, columns) in grids.items())
        raise PartError(
            f"fusion {fusion!r} joins patch by patch, but the grids differ: {listed}. Choose image "
            "sizes that give one grid, or declare `resample: [rows, columns]` on an encoder"
        )
    return next(iter(grids.values()))


def check_one_encoder(shapes: Mapping[str, Shape], fusion: str) -> None:
    """Raise ``PartError`` unless there is one encoder; names those there are."""
    if len(shapes) != 1:
        raise PartError(f"fusion {fusion!r} takes one encoder, got {', '.join(shapes) or 'none'}")


def check_one_level(shapes: Mapping[str, Shape], fusion: str) -> None:
    """Raise ``PartError`` unless every encoder gives one level; names one that does not."""
    for name, shape in shapes.items():
        if isinstance(shape, GridShape) and len(shape.level_indices) != 1:
            raise PartError(
                f"fusion {fusion!r} takes one level of {name!r}, got {shape.level_indices}"
            )


def merged_grid(grid: tuple[int, int], factor: int, fusion: str) -> tuple[int, int]:
    """Return the grid after folding ``factor x factor`` patches into one.

    Raises:
        PartError: the grid is not divisible.
    """
    if grid[0] % factor or grid[1] % factor:
        raise PartError(
            f"fusion {fusion!r}: merge_patches {factor} does not divide the grid "
            f"{grid[0]}x{grid[1]}"
        )
    return grid[0] // factor, grid[1] // factor


def grid_features(bundle: FeatureBundle, name: str) -> GridFeatures:
    """Return the grid features of encoder ``name``.

    Raises:
        PartError: the bundle lacks them, or they are of another kind.
    """
    return _features_of(bundle, name, GridFeatures, "grid features")


def object_features(bundle: FeatureBundle, name: str) -> ObjectFeatures:
    """Return the objects of detector ``name``; raises as ``grid_features`` does."""
    return _features_of(bundle, name, ObjectFeatures, "objects")


def _features_of(bundle: FeatureBundle, name: str, kind: type[Kind], what: str) -> Kind:
    features = bundle.get(name)
    if not isinstance(features, kind):
        held = ", ".join(bundle)
        raise PartError(f"the fusion needs {what} of {name!r}; the bundle holds {held}")
    return features


def all_tokens(features: GridFeatures) -> Tensor:
    """Return class and register tokens, then patches, of the one level: ``[I, R + N, D]``."""
    (level,) = features.level_indices
    return tokens_at(features, level)


def tokens_at(features: GridFeatures, level: int) -> Tensor:
    """Return class and register tokens, then patches, of one level: ``[I, R + N, D]``."""
    place = features.level_indices.index(level)
    prefix = [features.prefix[place]] if features.prefix else []
    return torch.cat([*prefix, features.levels[place]], dim=1)
