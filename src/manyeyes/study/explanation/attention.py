"""Where in one image a fusion's queries read: attention weights laid back onto the picture.

weights of the fusion's attentions + what they read ─→ `AttentionMap`, in the image's own pixels

Shapes: h heads, X queries, Y tokens or objects that are read, N patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from manyeyes.images.reading import box_map
from manyeyes.layers.attention.maps import AttentionSite, watching
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.perception.detections import to_corners
from manyeyes.records import Box, FeatureBundle, Features, GridFeatures, ObjectFeatures

Frame = Box
"""What a grid covers, in pixels of the original image; reaches beyond it where bars were added."""


@dataclass(frozen=True)
class AttentionMap:
    """Mean over heads and queries of one attention in one image.

    ``weights``: of the places, patches of ``grid`` (rows, columns; row-major) or ``boxes``; their
    sum ``share`` is what of the attention lies on them, the rest is on class tokens, on the queries
    themselves or on another encoder.
    """

    title: str
    encoder: str
    weights: tuple[float, ...]
    grid: tuple[int, int] | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def share(self) -> float:
        """Share 0..1 of the attention that lies on the places."""
        return sum(self.weights)

    @property
    def peak(self) -> float:
        """Largest weight as a multiple of an even one; near 1 the map is flat."""
        return max(self.weights) * len(self.weights) / (self.share or 1.0)


@dataclass
class Watched:
    """What one pass of a fusion read, and how; empty until it has run."""

    bundle: FeatureBundle = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)


@contextmanager
def watched(model: ManyEyesForConditionalGeneration) -> Iterator[Watched]:
    """Keep what the fusion reads in the last of its passes inside a block of code."""
    seen = Watched()

    def note(module: Any, args: tuple[Any, ...]) -> None:
        seen.bundle = args[0]

    handle = model.fusion.register_forward_pre_hook(note)
    try:
        with watching(model.fusion.attentions()) as seen.weights:
            yield seen
    finally:
        handle.remove()


def frame_of(size: tuple[int, int], geometry: str) -> Frame:
    """Return the square that encoders see of an image of ``size`` (width, height)."""
    unit = 1024
    return box_map(*size, unit, geometry=geometry).invert((0.0, 0.0, float(unit), float(unit)))


def attention_maps(
    sites: Sequence[AttentionSite], seen: Watched, size: tuple[int, int]
) -> tuple[AttentionMap, ...]:
    """Return the maps of the one image of a pass; ``size`` is its (width, height) in pixels.

    Objects that are places of a detector's own feature map have no boxes and give no map.
    """
    found: list[AttentionMap] = []
    for site in sites:
        weights_hXY = seen.weights[site.title][0]
        rows = weights_hXY[:, : site.joint] if site.joint else weights_hXY
        read_Y = rows.float().mean(dim=(0, 1))[site.joint :].cpu()
        lengths = [_length(seen.bundle[name]) for name in site.encoders]
        for name, part in zip(site.encoders, read_Y.split(lengths), strict=True):
            title = site.title if len(lengths) == 1 else f"{site.title}, {name}"
            made = _map(title, name, part, seen.bundle[name], size)
            found += [] if made is None else [made]
    return tuple(found)


def _length(features: Features) -> int:
    """How many columns an encoder has in an attention: class tokens, then patches; or objects."""
    if isinstance(features, GridFeatures):
        return _prefix(features) + features.levels[0].shape[1]
    assert isinstance(features, ObjectFeatures), "attentions read patches or objects"
    return features.queries.shape[1]


def _prefix(features: GridFeatures) -> int:
    return features.prefix[0].shape[1] if features.prefix else 0


def _map(
    title: str, name: str, read_Y: Tensor, features: Features, size: tuple[int, int]
) -> AttentionMap | None:
    if isinstance(features, GridFeatures):
        places_N = _on_grid(read_Y[_prefix(features) :], features)
        return AttentionMap(title, name, tuple(places_N.tolist()), grid=features.grid)
    assert isinstance(features, ObjectFeatures), "attentions read patches or objects"
    if not features.aligned:
        return None
    corners: list[Box] = [
        (x1, y1, x2, y2) for x1, y1, x2, y2 in to_corners(features.boxes[0].float(), size).tolist()
    ]
    return AttentionMap(title, name, tuple(read_Y.tolist()), boxes=tuple(corners))


def _on_grid(read: Tensor, features: GridFeatures) -> Tensor:
    """Weights of patches in their places; those that the encoder did not see have none."""
    if features.masking is None:
        return read
    places_N = features.masking.restore[0].argsort().cpu()
    return torch.zeros(len(places_N)).scatter(0, places_N[: len(read)], read)
