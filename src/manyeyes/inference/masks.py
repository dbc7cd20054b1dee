"""A model with some of its encoders masked: the rest of the line runs as always.

    zero      every feature is 0
    mean      every image has the mean features of some images
    shuffle   the encoder sees another image

Zeros are something the model has never met; the mean is likelier, and another image's features are
as real as its own. So all three are asked, and none alone is the truth.
Shapes: I images, N patches, D width.
"""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from manyeyes.encoders import Encoder, GridEncoder
from manyeyes.errors import UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.inference.ranking import Likelihood
from manyeyes.model.inputs import PIXELS
from manyeyes.records import GridFeatures

DONORS = 64
"""Images whose features or pixels stand in for others, at most."""
_CHUNK = 16


class Mask(ABC):
    """One way to take an encoder's view of the image away.

    Args:
        predictor: of the unmasked model. images: paths of images to put in place of others.
    """

    grid_only: ClassVar[bool] = True
    """Whether it suits encoders of patches alone: a detector's objects have no zero and no mean."""

    def __init__(self, predictor: ModelPredictor, images: Sequence[str]) -> None:
        self.predictor, self.images = predictor, tuple(images)

    @property
    def identity(self) -> str:
        """Differs where answers may."""
        return type(self).__name__.lower()

    def suits(self, encoder: Encoder) -> bool:
        """Whether this encoder can be masked so."""
        return isinstance(encoder, GridEncoder) or not self.grid_only

    @abstractmethod
    def install(self, name: str, encoder: Encoder) -> RemovableHandle:
        """Mask encoder ``name`` until the handle is removed."""


class Zero(Mask):
    """Every feature is 0."""

    def install(self, name: str, encoder: Encoder) -> RemovableHandle:
        def hook(module: Any, args: Any, features: GridFeatures) -> GridFeatures:
            return _with(features, [torch.zeros_like(x) for x in _tensors(features)])

        return encoder.register_forward_hook(hook)


class FromImages(Mask):
    """Masks that need other images; ``identity`` holds their hash."""

    def __init__(self, predictor: ModelPredictor, images: Sequence[str]) -> None:
        super().__init__(predictor, images)
        self._found: dict[str, list[Tensor]] = {}
        if len(self.images) < 2:
            raise UsageError(
                f"masking by {type(self).__name__.lower()} needs at least two images, got "
                f"{len(self.images)}"
            )

    @property
    def identity(self) -> str:
        digest = hashlib.sha256(self._pixels_of(next(iter(self._all))).numpy().tobytes())
        return f"{super().identity} {digest.hexdigest()[:16]}"

    @cached_property
    def _all(self) -> Mapping[str, Tensor]:
        pictures = [load_image(path) for path in self.images]
        pixels: dict[str, Tensor] = self.predictor.processor.pixels(pictures)
        return {key.removeprefix(PIXELS): value for key, value in pixels.items()}

    def _pixels_of(self, name: str) -> Tensor:
        return self._all[name]


class Mean(FromImages):
    """Every image has the mean features of ``images``."""

    def install(self, name: str, encoder: Encoder) -> RemovableHandle:
        if name not in self._found:
            self._found[name] = self._means(name, encoder)
        means = self._found[name]

        def hook(module: Any, args: Any, features: GridFeatures) -> GridFeatures:
            tensors = _tensors(features)
            filled = [mean.to(x).expand_as(x) for mean, x in zip(means, tensors, strict=True)]
            return _with(features, filled)

        return encoder.register_forward_hook(hook)

    @torch.inference_mode()
    def _means(self, name: str, encoder: Encoder) -> list[Tensor]:
        """Mean over the images of every tensor of the features, ``[1, N, D]``."""
        sums: list[Tensor] = []
        pixels, device = self._pixels_of(name), self.predictor.model.device
        for part in pixels.split(_CHUNK):
            with _computing(self.predictor):
                found = _tensors(encoder(part.to(device)))
            totals = [x.float().sum(dim=0, keepdim=True) for x in found]
            sums = [a + b for a, b in zip(sums, totals, strict=True)] if sums else totals
        return [total / len(pixels) for total in sums]


class Shuffle(FromImages):
    """The encoder sees another of ``images``: which one follows from the image's own pixels.

    It does not suit encoders that see pictures in tiles.
    """

    grid_only = False

    def suits(self, encoder: Encoder) -> bool:
        tiles = self.predictor.model.tiles  # whose donors would be tiles of other places
        return tiles is None or encoder.spec.name not in tiles.encoders

    def install(self, name: str, encoder: Encoder) -> RemovableHandle:
        donors = self._pixels_of(name)

        def hook(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            pixels: Tensor = args[0]
            chosen = [_another(own, donors) for own in pixels.cpu()]
            return (donors[chosen].to(pixels), *args[1:])

        return encoder.register_forward_pre_hook(hook)


def _another(own: Tensor, donors: Tensor) -> int:
    """Place of a donor that is not the image itself; the same in every batch.

    Raises:
        UsageError: all donors look like the image.
    """
    start = zlib.crc32(own.contiguous().numpy().tobytes()) % len(donors)
    for step in range(len(donors)):
        place = (start + step) % len(donors)
        if not torch.equal(donors[place], own):
            return place
    raise UsageError("masking by shuffle: all images look the same to the encoder")


class NoPlaces(Mask):
    """Every patch is the mean over the image's own patches; class tokens stay as they are.

    Of an encoder that sees tiles, over the tile's own.
    """

    def install(self, name: str, encoder: Encoder) -> RemovableHandle:
        def hook(module: Any, args: Any, features: GridFeatures) -> GridFeatures:
            means = [x.mean(dim=1, keepdim=True).expand_as(x) for x in features.levels]
            return replace(features, levels=tuple(means))

        return encoder.register_forward_hook(hook)


class Blank(Mask):
    """The encoder sees a plain picture of the image's mean colour.

    One that sees tiles sees plain tiles, each of its own mean colour.
    """

    grid_only = False

    def install(self, name: str, encoder: Encoder) -> RemovableHandle:
        def hook(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            pixels: Tensor = args[0]
            return (pixels.mean(dim=(-2, -1), keepdim=True).expand_as(pixels), *args[1:])

        return encoder.register_forward_pre_hook(hook)


MASKS: dict[str, type[Mask]] = {"zero": Zero, "mean": Mean, "shuffle": Shuffle}

LONE_MASKS: dict[str, type[Mask]] = {"zero": Zero, "mean": NoPlaces, "blank": Blank}
"""Masks that need no other image."""


class MaskedPredictor:
    """A predictor of the same model with encoders ``names`` masked; see ``Predictor``."""

    def __init__(self, base: ModelPredictor, names: Sequence[str], mask: Mask) -> None:
        self.base, self.names, self.mask = base, tuple(names), mask

    @property
    def box_style(self) -> str:
        return self.base.box_style

    @property
    def generation(self) -> Mapping[str, Any]:
        """The unmasked model's, and what is masked."""
        return {**self.base.generation, "masked": [*self.names], "mask": self.mask.identity}

    @property
    def fingerprint(self) -> str:
        parts = f"{self.base.fingerprint} {' '.join(self.names)} {self.mask.identity}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        with self._masked():
            return self.base.answer(items, with_images=with_images)

    def rank(self, items: Sequence[Item], *, with_images: bool) -> list[list[Likelihood]]:
        with self._masked():
            return self.base.rank(items, with_images=with_images)

    @contextmanager
    def _masked(self) -> Iterator[None]:
        with ExitStack() as stack:
            encoders: Any = self.base.model.encoders
            # what a mask measures of an encoder comes from one that is not masked yet
            for name in self.names:
                stack.enter_context(self.mask.install(name, encoders[name]))
            yield


def _computing(predictor: ModelPredictor) -> torch.autocast:
    lower = predictor.dtype
    return torch.autocast(predictor.model.device.type, lower, enabled=lower is not None)


def _tensors(features: Any) -> list[Tensor]:
    return [*features.levels, *features.prefix]


def _with(features: GridFeatures, tensors: Sequence[Tensor]) -> GridFeatures:
    count = len(features.levels)
    return replace(features, levels=tuple(tensors[:count]), prefix=tuple(tensors[count:]))
