"""Samples to encoded tensors, one at a time, in the workers of a data loader.

    index ─(epoch, place)─ sample ─load_image─ pictures ─processor.encode─ tensors

Nothing here depends on which worker does it: an index holds its epoch (see ``sampler``), and the
seed of an augmentation is made of (seed, epoch, place).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from manyeyes.data.counters import mixed_seed
from manyeyes.data.mixture import Mixture
from manyeyes.errors import DataError, ImageError, ManyEyesError
from manyeyes.images import MAX_PIXELS, image_size, load_image
from manyeyes.records import Sample

_MAX_REPLACEMENTS = 100

Encoded = Mapping[str, Tensor]
Augment = Callable[[Sample, list[Image.Image], int], tuple[Sample, list[Image.Image]]]
"""(sample, pictures, seed) -> what to encode instead; must depend on its arguments only."""


class SampleEncoder(Protocol):
    """What the data set needs of a processor."""

    def encode(self, sample: Sample, images: list[Image.Image]) -> Encoded:
        """Tensors of one sample, without a batch dimension."""
        ...


class ConversationDataset(Dataset[Encoded]):
    """Map-style data set over samples or a mixture of them.

    ``dataset[epoch * len(dataset) + place]`` is one encoded sample; indices of `ResumableSampler`
    fit. Iterating yields epoch 0.

    Args:
        samples: a list of samples or a `Mixture`.
        processor: anything with ``encode``.
        seed: of the augmentation.
        skip_bad_images: replace a sample whose image cannot be read by the next one that can
            (of the same epoch, by place), instead of raising. Replaced places are remembered in
            memory that all workers share: see `replaced`.
        augment: optional change of pictures and sample before encoding.
        max_pixels: of an image; larger ones are refused unread.

    Raises (on access):
        ImageError: an image is unreadable; names the sample and the path.
        ManyEyesError: whatever the processor refuses, with the sample's id as a note.
    """

    def __init__(
        self,
        samples: Sequence[Sample] | Mixture,
        processor: SampleEncoder,
        *,
        seed: int = 0,
        skip_bad_images: bool = False,
        augment: Augment | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.mixture = samples if isinstance(samples, Mixture) else Mixture([samples])
        self.processor = processor
        self.seed = seed
        self.skip_bad_images = skip_bad_images
        self.augment = augment
        self.max_pixels = max_pixels
        # One byte per place, set by whichever worker meets a bad image: no lock is needed.
        self._replaced = torch.zeros(len(self.mixture), dtype=torch.uint8)
        if skip_bad_images:
            self._replaced.share_memory_()

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, index: int) -> Encoded:
        if index < 0:
            raise IndexError(f"index {index}; indices start at 0")
        epoch, place = divmod(index, len(self))
        sample, images = self._readable(epoch, place)
        try:
            if self.augment is not None:
                seed = mixed_seed(self.seed, epoch, place)
                sample, images = self.augment(sample, images, seed)
            return self.processor.encode(sample, images)
        except ManyEyesError as error:
            error.add_note(f"in sample {sample.id!r}")
            raise

    def __iter__(self) -> Iterator[Encoded]:
        return (self[index] for index in range(len(self)))

    def replaced(self) -> list[str]:
        """Ids of the samples whose images could not be read so far, in any worker, by place.

        A place counts once, however often it came up; ids are those of epoch 0.
        """
        places = torch.nonzero(self._replaced).flatten().tolist()
        return [self.mixture.draw(0, place).id for place in places]

    def _readable(self, epoch: int, place: int) -> tuple[Sample, list[Image.Image]]:
        """The sample of a place with its pictures, or the nearest later one that has them."""
        for step in range(min(_MAX_REPLACEMENTS, len(self))):
            sample = self.mixture.draw(epoch, (place + step) % len(self))
            try:
                return sample, load_images(sample, max_pixels=self.max_pixels)
            except ImageError:
                if not self.skip_bad_images:
                    raise
                if step == 0:
                    self._replaced[place] = 1
        tried = min(_MAX_REPLACEMENTS, len(self))
        raise DataError(
            f"{tried} samples in a row, from {sample.id!r} back, have unreadable images"
        )


def load_images(sample: Sample, *, max_pixels: int = MAX_PIXELS) -> list[Image.Image]:
    """Decode all images of a sample.

    Raises:
        ImageError: names the sample's id and the path.
    """
    images = []
    for path in sample.images:
        try:
            images.append(load_image(path, max_pixels=max_pixels))
        except ImageError as error:
            raise _of_sample(error, sample) from error
    return images


def verify_images(
    samples: Sequence[Sample] | Mixture,
    *,
    max_workers: int = 4,
    decode: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> list[ImageError]:
    """Try every image file once, in threads, and return the errors in the order of the samples.

    ``decode`` off reads headers only: faster, but a truncated file passes.
    """
    owners: dict[str, Sample] = {}
    for sample in samples:
        for path in sample.images:
            owners.setdefault(path, sample)

    def attempt(path: str) -> ImageError | None:
        try:
            if decode:
                load_image(path, max_pixels=max_pixels)
            else:
                image_size(path, max_pixels=max_pixels)
        except ImageError as error:
            return _of_sample(error, owners[path])
        return None

    with ThreadPoolExecutor(max_workers) as pool:
        return [error for error in pool.map(attempt, owners) if error is not None]


def _of_sample(error: ImageError, sample: Sample) -> ImageError:
    """The same error with the sample's id in front of the path."""
    named = ImageError(f"sample {sample.id!r}: {error}")
    named.file = error.file
    return named
