"""Features of one frozen encoder on disk, one store per level, shared by all runs that can use it.

A store is found by what its features depend on: weights, architecture, preprocessing, level, number
format, and the bytes of each image. Names, recipes and the other levels do not matter, so an arm
that reads level 23 finds what an arm that reads levels 1 to 24 has written. Levels that a fusion
only ever averages are averaged before they are stored.

Shapes: I images.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from manyeyes.checkpoints import hub
from manyeyes.data.feature_store import FeatureStore
from manyeyes.encoders import Encoder, GridEncoder, PixelTransform
from manyeyes.errors import UsageError
from manyeyes.layers.level_merge import mean_level
from manyeyes.options import plain
from manyeyes.records import Features

GB = 1e9
_WITHOUT_EFFECT = frozenset(
    "name checkpoint backbone levels mask_ratio decoder target grid prefix".split()
)
"""Fields of an encoder's spec that do not change the features of a level."""

_VOLATILE = frozenset(
    ("_name_or_path", "architectures", "dtype", "mask_ratio", "transformers_version")
)
"""Fields of a configuration that do not say what is computed; ``mask_ratio`` follows the spec."""


@dataclass(frozen=True)
class StorePlace:
    """A folder of stores, and how much may be in it (1 GB = 10^9 bytes).

    ``shared``: the user asked for a store, which with all that is in it must not grow beyond
    ``max_gb``; one that has no room is an error. Otherwise ``max_gb`` is what one run may need, and
    without room training goes on without a store.
    """

    folder: Path
    max_gb: float
    shared: bool = False


@dataclass(frozen=True)
class Room:
    """Bytes needed in all, still to be written, in the folder now, and free on its disk."""

    needed: int
    missing: int
    present: int
    free: int

    def refusal(self, place: StorePlace) -> str | None:
        """Return why the missing features cannot be written, or None."""
        after = (self.present + self.missing if place.shared else self.needed) / GB
        if after > place.max_gb and (self.missing or not place.shared):
            return f"the store would hold {after:.3g} GB, and its limit is {place.max_gb:.3g} GB"
        if self.missing > self.free:
            return f"the disk has {self.free / GB:.3g} GB free, {self.missing / GB:.3g} are needed"
        return None


@dataclass(frozen=True)
class Seeing:
    """How images become an encoder's pixels."""

    transform: PixelTransform
    geometry: str
    pad_color: tuple[int, ...]


class EncoderStore:
    """The stored features of one encoder: every level of a grid encoder apart, a detector's whole.

    Args:
        place: where. encoder: the frozen encoder, as it will compute. seeing: its preprocessing.
        dtype: of the stored numbers, where the encoder's kind allows it. compute: what the encoder
            computes in; ``torch.bfloat16`` = under autocast. averaged: only the mean of the levels
            is read, so that it is stored in their place.

    Raises:
        DataError: the folder cannot be used. RecipeError: features without a fixed shape.
    """

    def __init__(
        self,
        place: StorePlace,
        encoder: Encoder,
        seeing: Seeing,
        dtype: torch.dtype,
        *,
        compute: torch.dtype = torch.float32,
        averaged: bool = False,
    ) -> None:
        self.encoder, self.compute = encoder, compute
        self.dtype, size = encoder.packed_dtype(dtype), encoder.packed_size()
        self.groups: tuple[tuple[int, ...], ...] | None = None
        """Stored levels, each as the mean of some; None for features without levels."""
        if isinstance(encoder, GridEncoder):
            levels, size = encoder.levels, size[1:]
            self.groups = (levels,) if averaged else tuple((level,) for level in levels)
        key = encoder_key(encoder, seeing, compute)
        parts = ["all"] if self.groups is None else [repr(group) for group in self.groups]
        self.stores = [
            FeatureStore(
                place.folder, {**key, "levels": part}, size, self.dtype, max_gb=place.max_gb
            )
            for part in parts
        ]

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """Those ids of which any level is not stored, each once, in order."""
        ids = list(image_ids)
        absent = {image_id for store in self.stores for image_id in store.missing(ids)}
        return [image_id for image_id in dict.fromkeys(ids) if image_id in absent]

    def needed_bytes(self, image_ids: Sequence[str]) -> tuple[int, int]:
        """Bytes of these images' features: in all, and of those that are missing."""
        ids = list(dict.fromkeys(image_ids))
        every = sum(store.estimate_bytes(len(ids)) for store in self.stores)
        missing = sum(store.estimate_bytes(len(store.missing(ids))) for store in self.stores)
        return every, missing

    def write(self, image_ids: Sequence[str], features: Features) -> None:
        """Store what is not there yet of I images.

        Raises:
            WriteError: the disk refuses; nothing half-written stays.
        """
        for store, tokens in zip(self.stores, self._parts(features), strict=True):
            rows = [row for row, image_id in enumerate(image_ids) if image_id not in store]
            if rows:
                store.write([image_ids[row] for row in rows], tokens[rows].to(self.dtype))

    def read(self, image_ids: Sequence[str]) -> Tensor:
        """Features ``[I, ...]`` in the order of the ids, as the encoder's ``unpack`` takes them.

        Raises:
            DataError: an image is not stored.
        """
        parts = [store.read(image_ids) for store in self.stores]
        return parts[0] if self.groups is None else torch.stack(parts, dim=1)

    def refresh(self) -> None:
        """Take in what other processes have written since."""
        for store in self.stores:
            store.refresh()

    def _parts(self, features: Features) -> list[Tensor]:
        packed = self.encoder.pack(features)
        if self.groups is None:
            return [packed]
        levels = packed.unbind(dim=1)
        return list(levels) if len(self.groups) == len(levels) else [mean_level(levels)]


def encoder_key(encoder: Encoder, seeing: Seeing, compute: torch.dtype) -> dict[str, str]:
    """Return everything the features of one image and level depend on."""
    spec = {k: v for k, v in plain(encoder.spec).items() if k not in _WITHOUT_EFFECT}
    for field, unset in (("feature_norm", "none"), ("tiles", 1)):
        if spec[field] == unset:  # stores of before it was there go on
            del spec[field]
    config = {k: v for k, v in encoder.backbone.config.to_dict().items() if k not in _VOLATILE}
    return {
        "weights": hub.module_fingerprint(encoder),
        "architecture": json.dumps(config, sort_keys=True, default=str),
        "spec": repr(sorted(spec.items())),
        "transform": repr(seeing.transform),
        "geometry": repr((seeing.geometry, tuple(seeing.pad_color))),
        "compute": str(compute),
    }


def room(place: StorePlace, stores: Mapping[str, EncoderStore], ids: Sequence[str]) -> Room:
    """Return what storing these images needs, and what there is."""
    sizes = [store.needed_bytes(ids) for store in stores.values()]
    present = sum(path.stat().st_size for path in place.folder.glob("*/*.bin"))
    free = shutil.disk_usage(place.folder).free
    return Room(sum(every for every, _ in sizes), sum(m for _, m in sizes), present, free)


def check_room(place: StorePlace, found: Room) -> None:
    """Refuse before anything is written.

    Raises:
        UsageError: the limit or the disk does not allow it.
    """
    reason = found.refusal(place)
    if reason is not None:
        raise UsageError(
            f"feature store {place.folder}: {reason}; raise --max-gb, choose another "
            "--features, or leave it out to encode at every step"
        )
