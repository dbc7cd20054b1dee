"""Features of frozen encoders, computed once before a stage and read back in every epoch.

Rows then carry ``features_<encoder>`` ``[images, ...]``, from the encoder's ``pack``, in place of
pixels, and images are not decoded any more. Several runs may share one folder.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from manyeyes.data.counters import mixed_seed
from manyeyes.data.dataset import Augment, image_of, load_images
from manyeyes.data.feature_store import content_id
from manyeyes.data.mixture import Mixture
from manyeyes.errors import RecipeError
from manyeyes.images.reading import image_size, load_image
from manyeyes.model.inputs import FEATURES, PIXELS
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import Features, Sample
from manyeyes.training.arguments import rank, world_size
from manyeyes.training.precomputed.encoder_store import (
    GB,
    EncoderStore,
    Seeing,
    StorePlace,
    check_room,
    room,
)
from manyeyes.training.ranks import held_by_run

logger = logging.getLogger(__name__)

CHUNK = 64
"""Images encoded and stored at a time."""

KEPT_ROWS = 50_000
"""Tokenised conversations a process keeps; a few kilobytes each."""


class FeatureDataset(Dataset[Mapping[str, Tensor]]):
    """A mixture whose images are looked up in stores; indices as for ``ConversationDataset``.

    ``seen``: encoders without a store, which get pixels. ``augment``: of samples whose objects are
    written, as for ``ConversationDataset``; their rows are made anew each time.
    """

    def __init__(
        self,
        mixture: Mixture,
        processor: ManyEyesProcessor,
        stores: Mapping[str, EncoderStore],
        ids: Mapping[str, str],
        seen: Collection[str] = (),
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.mixture, self.processor, self.seen = mixture, processor, tuple(seen)
        self.stores, self.ids = dict(stores), dict(ids)
        self.augment, self.seed = augment, seed
        self._rows: dict[tuple[int, int], dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        epoch, position = divmod(index, len(self))
        place = self.mixture.locate(epoch, position)
        sample = self.mixture.sources[place[0]][place[1]]
        changes = self.augment is not None and sample.objects is not None
        row = None if changes else self._rows.get(place)
        if row is None:
            written = sample
            if self.augment is not None and changes:
                written, _ = self.augment(sample, [], mixed_seed(self.seed, epoch, position))
            with image_of(sample):
                sizes = [image_size(path) for path in sample.images]
            row = self.processor.encode_text(written, sizes)
            if len(self._rows) < KEPT_ROWS and not changes:
                self._rows[place] = row
        return {**row, **self._features(sample)}

    def _features(self, sample: Sample) -> dict[str, Tensor]:
        ids = [self.ids[path] for path in sample.images]
        features = {f"{FEATURES}{name}": store.read(ids) for name, store in self.stores.items()}
        if not self.seen:
            return features
        return features | self.processor.pixels(load_images(sample), self.seen)


def cached_dataset(
    mixture: Mixture,
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    place: StorePlace,
    *,
    dtype: torch.dtype,
    device: torch.device,
    augment: Augment | None = None,
    seed: int = 0,
) -> FeatureDataset | None:
    """Return the mixture over stored features, computing those that are missing.

    Encoders that are trained, or that hide other patches at every step, keep their pixels. Returns
    None where no encoder can be stored or, unless the folder is shared, where the features need
    more than the limit or the disk has; the log says so, and how large the features are.

    Raises:
        UsageError: a shared folder has no room for them; nothing was written.
        ImageError: an image cannot be read; names sample and path.
    """
    fixed = storable(model, processor)
    if not fixed:
        logger.warning("feature store is off: no encoder of this stage gives the same every time")
        return None
    owners = unique_images(mixture)
    stores = {name: open_store(model, processor, name, place, dtype) for name in fixed}
    ids = {path: _content_id(path, owner) for path, owner in owners.items()}
    if not _computed(model, processor, stores, ids, owners, place, device):
        return None
    seen = [name for name in processor.pixels.fused if name not in stores]
    return FeatureDataset(mixture, processor, stores, ids, seen, augment, seed)


def _computed(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    stores: Mapping[str, EncoderStore],
    ids: Mapping[str, str],
    owners: Mapping[str, Sample],
    place: StorePlace,
    device: torch.device,
) -> bool:
    """Compute what is missing, one run at a time; False where there is no room for it."""
    if not _missing(stores, ids.values()):
        return _has_room(place, stores, ids)
    with held_by_run(place.folder, waits=True):
        _missing(stores, ids.values())  # what was written while this run waited
        if not _has_room(place, stores, ids):
            return False
        model.to(device)  # type: ignore[arg-type]
        fill(model, processor, stores, ids, owners)
        return True


def _has_room(
    place: StorePlace, stores: Mapping[str, EncoderStore], ids: Mapping[str, str]
) -> bool:
    found = room(place, stores, list(ids.values()))
    logger.info(
        "features of %d images: %.3g GB, of which %.3g GB are to be computed, in %s",
        len(ids),
        found.needed / GB,
        found.missing / GB,
        place.folder,
    )
    if place.shared:
        check_room(place, found)
    elif (reason := found.refusal(place)) is not None:
        logger.warning("feature store is off for %d images: %s", len(ids), reason)
        return False
    return True


def storable(model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor) -> list[str]:
    """Return the encoders whose features of an image stay as they are; the log names the others."""
    fixed = []
    for name in processor.pixels.fused:
        reason = _why_not(model.encoders[name])
        if model.tiles is not None and name in model.tiles.encoders:
            reason = "it sees tiles, of which pictures have different numbers"
        if reason is None:
            fixed.append(name)
        else:
            logger.warning("feature store is off for encoder %r: %s", name, reason)
    return fixed


def _why_not(encoder: Any) -> str | None:
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        return "it is trained"
    if encoder.changes:
        return "it hides other patches each time"
    try:
        encoder.packed_size()
    except RecipeError as error:
        return str(error)
    return None


def unique_images(mixture: Mixture) -> dict[str, Sample]:
    """Return every image path of the mixture once, in order, with a sample that shows it."""
    owners: dict[str, Sample] = {}
    for source in mixture.sources:
        for sample in source:
            for path in sample.images:
                owners.setdefault(path, sample)
    return owners


def _content_id(path: str, owner: Sample) -> str:
    with image_of(owner):
        return content_id(path)


def open_store(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    name: str,
    place: StorePlace,
    dtype: torch.dtype,
) -> EncoderStore:
    """Return the store of one encoder's features; bfloat16 features are computed in bfloat16."""
    transform = model.config.pixel_transforms()[name]
    return EncoderStore(
        place,
        model.encoders[name],
        Seeing(transform, processor.geometry, tuple(processor.pad_color)),
        dtype,
        compute=torch.bfloat16 if dtype == torch.bfloat16 else torch.float32,
        averaged=model.fusion.plan.averaged,
    )


def fill(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    stores: Mapping[str, EncoderStore],
    ids: Mapping[str, str],
    owners: Mapping[str, Sample],
) -> None:
    """Compute what is missing of ``ids`` (path → content id); process r takes every W-th chunk.

    ``owners``: a sample that shows each path, for messages.

    Raises:
        DataError: the disk refuses. ImageError: an image cannot be read; names sample and path.
    """
    paths = {image_id: path for path, image_id in ids.items()}
    model.eval()
    while missing := _missing(stores, paths):
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        for chunk in chunks[rank() :: world_size()]:
            wanted = [name for name, store in stores.items() if store.missing(chunk)]
            pictures = [_picture(paths[i], owners[paths[i]]) for i in chunk]
            found = _encode(model, processor, pictures, wanted, stores)
            for name, features in found.items():
                stores[name].write(chunk, features)
        _wait()


def _picture(path: str, owner: Sample) -> Image.Image:
    with image_of(owner):
        return load_image(path)


def _missing(stores: Mapping[str, EncoderStore], ids: Collection[str]) -> list[str]:
    """Images that some store lacks: the first process looks, so that all have the same list."""
    _wait()
    for store in stores.values():
        store.refresh()
    found = list(dict.fromkeys(i for store in stores.values() for i in store.missing(ids)))
    if world_size() > 1:
        shared = [found]
        torch.distributed.broadcast_object_list(shared)
        found = shared[0]
    return found


def _wait() -> None:
    if world_size() > 1:
        torch.distributed.barrier()


@torch.no_grad()
def _encode(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    pictures: Sequence[Image.Image],
    names: Collection[str],
    stores: Mapping[str, EncoderStore],
) -> dict[str, Features]:
    """Features of images as the encoders give them in training."""
    pixels = processor.pixels(pictures, names)
    device = next(model.parameters()).device
    found: dict[str, Features] = {}
    for name in names:
        lower = stores[name].compute
        with torch.autocast(device.type, lower, enabled=lower != torch.float32):
            found[name] = model.encoders[name](pixels[f"{PIXELS}{name}"].to(device))
    return found
