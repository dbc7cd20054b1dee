"""Samples to encoded tensors, one at a time, in the workers of a data loader.

    index ─(epoch, place)─ sample ─load_image─ pictures ─processor.encode─ tensors

Nothing here depends on which worker does it: an index holds its epoch (see ``sampler``), and the
seed of an augmentation is made of (seed, epoch, place).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from manyeyes.data.counters import mixed_seed
from manyeyes.data.mixture import Mixture
from manyeyes.errors import DataError, ImageError, ManyEyesError
from manyeyes.images.reading import MAX_PIXELS, load_image
from manyeyes.records import Sample

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
        augment: Augment | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.mixture = samples if isinstance(samples, Mixture) else Mixture([samples])
        self.processor = processor
        self.seed = seed
        self.augment = augment
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, index: int) -> Encoded:
        if index < 0:
            raise IndexError(f"index {index}; indices start at 0")
        epoch, place = divmod(index, len(self))
        sample = self.mixture.draw(epoch, place)
        images = load_images(sample, max_pixels=self.max_pixels)
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


def load_images(sample: Sample, *, max_pixels: int = MAX_PIXELS) -> list[Image.Image]:
    """Decode all images of a sample.

    Raises:
        ImageError: names the sample's id and the path.
    """
    with image_of(sample):
        return [load_image(path, max_pixels=max_pixels) for path in sample.images]


@contextmanager
def image_of(sample: Sample) -> Iterator[None]:
    """Errors of an image that is read in this block name the sample too.

    Raises:
        ImageError: in place of any ``DataError``.
    """
    try:
        yield
    except DataError as error:
        named = ImageError(f"sample {sample.id!r}: {error}")
        named.file = error.file
        raise named from error
