"""One encoder of a recipe: its keys, and what they may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manyeyes.errors import PartError, RecipeError
from manyeyes.layers.feature_norm import FEATURE_NORMS
from manyeyes.options import check_choice, check_counts

NORMALIZATIONS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation per channel, of pixels in 0..1."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """One encoder of a recipe."""

    name: str
    """Its key among the features."""
    family: str
    """A key of ``ENCODERS``."""
    checkpoint: str = ""
    """Hub id, folder or ``world:`` part."""
    levels: Any = (-2,)
    """Indices of hidden states. Negative ones count from the end, ``"19-24"`` is a range, ``"all"``
    is 1..L."""
    image_size: int | None = None
    """Side of the square input in pixels. By default the checkpoint's own."""
    tiles: int = 1
    """Cut the picture into this many rows and columns of tiles. The encoder sees each of them at
    ``image_size``, and their maps are put together: as many times as many patches in each
    direction, and ``tiles``² times as many prefix tokens."""
    sees: str = "tiles"
    """In a model with ``tiling``: each of the ``tiles`` of a picture, or the ``whole`` of it at
    once. What the encoder gives of the whole is cut into the tiles' parts, each on the grid of the
    first encoder that sees tiles."""
    normalization: str = "own"
    """Of pixels: ``clip``, ``imagenet``, ``half`` (−1..1) or ``none`` (0..1). ``own`` is the
    family's."""
    final_norm: bool = False
    """Apply the backbone's last LayerNorm to every level."""
    feature_norm: str = "none"
    """Bring every level to one scale, last of all. ``rms`` divides each token by its root mean
    square, ``layer`` takes its mean away first. ``standardize`` gives every channel mean 0 and
    standard deviation 1 over images of the training data, measured before the first step and saved
    with the model. None has weights that learn."""
    keep_prefix: bool = False
    """Keep class and register tokens."""
    resample: tuple[int, int] | None = None
    """Resize the grid of features to these rows and columns. By default the encoder's own grid
    stays."""
    resample_mode: str = "bilinear"
    """How the grid is resized: ``bilinear``, ``bicubic`` or ``area``."""
    bgr: bool = False
    """Feed channels in the order blue, green, red, as models trained on OpenCV's images expect."""
    backbone: Mapping[str, Any] = field(default_factory=dict)
    """Configuration fields of the backbone. With them the encoder is built without any file."""
    fused: bool = True
    """The fusion reads this encoder. Switch it off for a detector that only writes text."""
    mask_ratio: float = 0.0
    """Masked autoencoders: share of patches hidden in training."""
    eval_mask_ratio: float = 0.0
    """Masked autoencoders: share of patches hidden outside training."""
    decoder: bool = False
    """Masked autoencoders: keep the checkpoint's pixel decoder, for reconstruction."""
    target: str = "own"
    """Masked autoencoders: what the decoder predicts, ``raw`` or per-patch ``normalized`` pixels.
    ``own`` is what its configuration says."""
    grid: tuple[int, int] | None = None
    """Families ``auto``, ``timm``: rows and columns of patches that the recipe counts on. A model
    that gives others is refused."""
    prefix: int | None = None
    """Families ``auto``, ``timm``: number of tokens before the patches that the recipe counts on.
    A model that gives another is refused."""
    object_source: str = "decoder"
    """Detectors: what describes the objects, the last states of the ``decoder`` (one per query) or
    of the ``encoder`` (one per place)."""
    labels: tuple[str, ...] = ()
    """Detectors: the class names that the recipe counts on, in order. A checkpoint with others is
    refused. Empty: the checkpoint's own."""

    def __post_init__(self) -> None:
        where = f"encoders.{self.name}"
        check_choice(where, "object_source", self.object_source, ("decoder", "encoder"))
        check_choice(where, "target", self.target, ("own", "raw", "normalized"))
        for key in ("mask_ratio", "eval_mask_ratio"):
            if not 0.0 <= getattr(self, key) < 1.0:
                raise RecipeError(f"{where}.{key}: {getattr(self, key)!r} is not in 0 <= r < 1")
        check_counts(where, tiles=self.tiles)
        check_choice(where, "sees", self.sees, ("tiles", "whole"))
        if self.tiles > 1 and (self.decoder or self.mask_ratio or self.eval_mask_ratio):
            raise RecipeError(f"{where}.tiles: patches are hidden, or a decoder reads them, whole")
        check_choice(where, "feature_norm", self.feature_norm, FEATURE_NORMS)
        if self.decoder and self.feature_norm != "none":
            raise RecipeError(f"{where}.feature_norm: its decoder reads features as they are")
        check_choice(where, "normalization", self.normalization, ("own", *NORMALIZATIONS))
        check_choice(where, "resample_mode", self.resample_mode, ("bilinear", "bicubic", "area"))


def check_declared(spec: EncoderSpec, model: str, grid: tuple[int, int], prefix: int) -> None:
    """Raise ``PartError`` unless ``model`` gives the grid and prefix that the recipe counts on."""
    if spec.grid is not None and tuple(spec.grid) != grid:
        raise PartError(
            f"encoder {spec.name!r}: the recipe counts on a grid of {list(spec.grid)}, but "
            f"{model!r} gives {list(grid)}"
        )
    if spec.prefix is not None and spec.prefix != prefix:
        raise PartError(
            f"encoder {spec.name!r}: the recipe counts on {spec.prefix} tokens before the "
            f"patches, but {model!r} gives {prefix}"
        )
