"""Features of frozen encoders, computed once before a stage and read back in every epoch.

Rows then carry ``features_<encoder>`` ``[images, ...]``, from the encoder's ``pack``, in place of
pixels, and images are not decoded any more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from manyeyes import hub
from manyeyes.data.counters import mixed_seed
from manyeyes.data.dataset import Augment
from manyeyes.data.feature_store import FeatureStore, content_id
from manyeyes.data.mixture import Mixture
from manyeyes.errors import RecipeError
from manyeyes.images import image_size, load_image
from manyeyes.modeling import FEATURES, ManyEyesForConditionalGeneration
from manyeyes.options import plain
from manyeyes.processing import ManyEyesProcessor
from manyeyes.records import Sample
from manyeyes.training.arguments import rank, world_size

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
        stores: Mapping[str, FeatureStore],
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
            told = sample
            if self.augment is not None and changes:
                told, _ = self.augment(sample, [], mixed_seed(self.seed, epoch, position))
            row = self.processor.encode_text(told, [image_size(path) for path in sample.images])
            if len(self._rows) < KEPT_ROWS and not changes:
                self._rows[place] = row
        return {**row, **self._features(sample)}

    def _features(self, sample: Sample) -> dict[str, Tensor]:
        ids = [self.ids[path] for path in sample.images]
        features = {f"{FEATURES}{name}": store.read(ids) for name, store in self.stores.items()}
        if not self.seen:
            return features
        return features | self.processor.pixels(list(map(load_image, sample.images)), self.seen)


def cached_dataset(
    mixture: Mixture,
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    folder: Path,
    *,
    max_gb: float,
    dtype: torch.dtype,
    device: torch.device,
    augment: Augment | None = None,
    seed: int = 0,
) -> FeatureDataset | None:
    """Return the mixture over stored features, computing those that are missing.

    Returns None, and says so in the log, when the features would need more than ``max_gb``.

    Raises:
        RecipeError: an encoder is trained, so its features change at every step.
        ImageError: an image cannot be read.
    """
    for name, encoder in model.encoders.items():
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise RecipeError(
                f"cache_features: encoder {name!r} is trained, so nothing can be kept"
            )
    paths = unique_images(mixture)
    changing = [name for name in processor.fused if model.encoders[name].changes]
    stores = {
        name: _open_store(model, processor, name, folder, max_gb, dtype)
        for name in processor.fused
        if name not in changing
    }
    needed = sum(store.estimate_bytes(len(paths)) for store in stores.values()) / 1e9
    if needed > max_gb:
        logger.warning(
            "cache_features is off: the features of %d images need %.1f GB, cache_max_gb is %.1f",
            len(paths),
            needed,
            max_gb,
        )
        return None
    ids = {path: content_id(path) for path in paths}
    model.to(device)  # type: ignore[arg-type]
    _fill(model, processor, stores, ids)
    return FeatureDataset(mixture, processor, stores, ids, changing, augment, seed)


def unique_images(mixture: Mixture) -> list[str]:
    """Return every image path of the mixture once, in order."""
    samples = (sample for source in mixture.sources for sample in source)
    return list(dict.fromkeys(path for sample in samples for path in sample.images))


def _open_store(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    name: str,
    folder: Path,
    max_gb: float,
    dtype: torch.dtype,
) -> FeatureStore:
    encoder: Any = model.encoders[name]
    shape = model.config.encoder_shapes()[name]
    spec = next(spec for spec in model.config.encoder_specs() if spec.name == name)
    key = {
        "weights": hub.module_fingerprint(model.encoders[name]),
        "spec": repr({k: v for k, v in plain(spec).items() if k not in ("checkpoint", "backbone")}),
        "shape": repr(shape),
        "transform": repr(model.config.pixel_transforms()[name]),
        "geometry": repr((processor.geometry, tuple(processor.pad_color))),
    }
    return FeatureStore(
        folder, key, encoder.packed_size(), encoder.packed_dtype(dtype), max_gb=max_gb
    )


def _fill(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    stores: Mapping[str, FeatureStore],
    ids: Mapping[str, str],
) -> None:
    """Compute what is missing; with several processes each takes every W-th chunk."""
    paths = {image_id: path for path, image_id in ids.items()}
    missing = list(dict.fromkeys(i for store in stores.values() for i in store.missing(paths)))
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    if missing:
        logger.info("storing features of %d images", len(missing))
    model.eval()
    for chunk in chunks[rank() :: world_size()]:
        found = _encode(model, processor, [paths[i] for i in chunk], stores)
        for name, features in found.items():
            stores[name].write(chunk, features.to(stores[name].dtype))
    if world_size() > 1:
        torch.distributed.barrier()
    for store in stores.values():
        store.refresh()


@torch.no_grad()
def _encode(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    paths: Sequence[str],
    names: Collection[str],
) -> dict[str, Tensor]:
    pixels: dict[str, Any] = processor.pixels([load_image(path) for path in paths], processor.fused)
    device = next(model.parameters()).device
    bundle = model.encode(**{key: value.to(device) for key, value in pixels.items()})
    encoders: Any = model.encoders
    return {name: encoders[name].pack(bundle[name]) for name in names}
