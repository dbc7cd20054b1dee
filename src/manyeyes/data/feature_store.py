"""Outputs of frozen encoders on disk: computed once, read back bit for bit.

    ROOT/<hash of key, shape, dtype>/store.json          what is stored here, in words
                                     <name>.bin          one shard: rows of raw tensor bytes
                                     <name>.json         its index: ids, size, checksum

A shard appears whole or not at all (see ``files``); its index follows in the same way and comes
last. What has no index, or another size than its index says, does not count: its images are missing
and will be computed again. A shard is compared with its checksum when a process first reads it.
Several processes may write at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError, UsageError
from manyeyes.files import naming, remove_unfinished, write_bytes, write_text
from manyeyes.images.reading import ImageSource
from manyeyes.records import PackedImage

_OPEN_SHARDS = 64
_GB = 1e9
_STALE_SECONDS = 3600.0
_REWRITING_SECONDS = 5.0


class FeatureStore:
    """One tensor of a fixed shape and dtype per image id.

    Args:
        root: folder of all stores.
        key: everything the features depend on besides the image: encoder fingerprint,
            preprocessing, levels. A change of any value gives another, empty store.
        shape: of one image's features, without a batch dimension.
        dtype: kept exactly, bfloat16 included.
        max_gb: `write` refuses to let the store grow beyond this (1 GB = 10^9 bytes).

    Ids are texts, normally `content_id` of the image file: a changed file is another image. An id
    that was written twice has the same features by the meaning of the key; either copy is read.

    Raises:
        UsageError: an impossible shape.
        DataError: the folder cannot be used, or belongs to another key.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        key: Mapping[str, str],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        *,
        max_gb: float = 8.0,
    ) -> None:
        if any(size < 1 for size in shape):
            raise UsageError(f"every size of a feature's shape must be at least 1, got {shape}")
        self.shape = tuple(shape)
        self.dtype = dtype
        self.max_gb = max_gb
        self.description = {"key": dict(key), "shape": list(shape), "dtype": str(dtype)}
        self.folder = Path(root) / _hash(self.description)
        self._places: dict[str, tuple[str, int]] = {}
        self._sums: dict[str, int] = {}  # by shard
        self._verified: set[str] = set()
        self._maps: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim()
            self._sweep()
        except OSError as error:
            raise DataError(f"cannot be used: {error}", file=str(self.folder)) from error
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def estimate_bytes(self, n: int) -> int:
        """Size of the features of ``n`` images on disk, indices not counted."""
        return n * self._row_bytes

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """Those ids that are not stored yet, each once, in order."""
        return [image_id for image_id in dict.fromkeys(image_ids) if image_id not in self._places]

    def write(self, image_ids: Sequence[str], features: Tensor) -> int:
        """Store ``[n, *shape]`` features as one shard; call it with some hundred images at a time.

        Returns the bytes written, `estimate_bytes` of their number.

        Raises:
            UsageError: ids, shape or dtype do not fit, or the store would exceed ``max_gb``.
            WriteError: the disk refuses, as when it is full; nothing half-written stays.
        """
        self._check(image_ids, features)
        size = self.estimate_bytes(len(image_ids))
        total = self.estimate_bytes(len(self)) + size
        if total > self.max_gb * _GB:
            raise UsageError(
                f"the feature store would grow to {total / _GB:.2f} GB, beyond max_gb = "
                f"{self.max_gb:g}; raise it, or compute the features again in each epoch"
            )
        data = features.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        name = _hash(list(image_ids))
        index = {"ids": list(image_ids), "bytes": size, "crc32": zlib.crc32(data)}
        with naming(self.folder):
            # Without its index the old shard of this name stops counting before it is replaced.
            (self.folder / f"{name}.json").unlink(missing_ok=True)
            write_bytes(self.folder / f"{name}.bin", data)
            write_text(self.folder / f"{name}.json", json.dumps(index))
        self._maps.pop(name, None)
        self._add(name, index)
        return size

    def read(self, image_ids: Sequence[str]) -> Tensor:
        """Features ``[n, *shape]`` in the order of the ids, in memory of their own.

        Raises:
            DataError: an id is not stored, or its shard is damaged; then the shard does not count
                any more, and its images are computed again when training is started again.
        """
        missing = self.missing(image_ids)
        if missing:
            message = f"{len(missing)} of {len(image_ids)} images are not stored, as {missing[0]!r}"
            raise DataError(message, file=str(self.folder))
        found = torch.empty(len(image_ids), *self.shape, dtype=self.dtype)
        rows = found.view(len(image_ids), -1).view(torch.uint8) if image_ids else ()
        for row, image_id in zip(rows, image_ids, strict=True):
            name, place = self._places[image_id]
            row.numpy()[:] = self._map(name)[place]
        return found

    def refresh(self) -> None:
        """Take in what other processes have written since."""
        for path in sorted(self.folder.glob("*.json")):
            if path.stem not in self._sums and path.name != "store.json":
                index = _read_index(path)
                if index is not None and self._is_whole(path.stem, index):
                    self._add(path.stem, index)

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def _check(self, image_ids: Sequence[str], features: Tensor) -> None:
        expected = (len(image_ids), *self.shape)
        if tuple(features.shape) != expected or features.dtype != self.dtype:
            got = f"{tuple(features.shape)} {features.dtype}"
            raise UsageError(f"expected features of {expected} {self.dtype}, got {got}")
        if not image_ids or len(set(image_ids)) != len(image_ids):
            raise UsageError("expected at least one image id, each once")

    def _claim(self) -> None:
        """Write, or compare, the description of the store."""
        path = self.folder / "store.json"
        found = _read_index(path)
        if found is None:
            write_text(path, json.dumps(self.description, indent=1))
        elif found != self.description:
            raise DataError("holds features of another key", file=str(path))

    def _sweep(self) -> None:
        """Remove what killed processes left: unfinished files, and old shards without index."""
        remove_unfinished(self.folder)
        for path in self.folder.glob("*.bin"):
            used = path.with_suffix(".json").exists()
            with contextlib.suppress(FileNotFoundError):  # another process may sweep as well
                if not used and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()

    def _add(self, name: str, index: Mapping[str, Any]) -> None:
        self._sums[name] = index["crc32"]
        self._verified.discard(name)
        self._places.update((image_id, (name, row)) for row, image_id in enumerate(index["ids"]))

    def _is_whole(self, name: str, index: Mapping[str, Any]) -> bool:
        data = self.folder / f"{name}.bin"
        try:
            size = data.stat().st_size
            whole = size == index["bytes"] == self.estimate_bytes(len(index["ids"]))
            return whole and isinstance(index["crc32"], int)
        except (OSError, KeyError, TypeError):
            return False

    def _map(self, name: str) -> NDArray[np.uint8]:
        """The memory-mapped rows of one shard; the least recently used map is closed first."""
        if name not in self._maps:
            if len(self._maps) >= _OPEN_SHARDS:
                self._maps.popitem(last=False)
            self._maps[name] = self._opened(name)
        self._maps.move_to_end(name)
        return self._maps[name]

    def _opened(self, name: str) -> NDArray[np.uint8]:
        """Map a shard and, the first time, compare it with its checksum.

        Without its index a shard is just being written again, by a process that shares the store.
        """
        path, end = self.folder / f"{name}.bin", time.monotonic() + _REWRITING_SECONDS
        while True:
            index = _read_index(path.with_suffix(".json"))
            with contextlib.suppress(OSError, ValueError):  # gone, or of another size
                rows = np.memmap(path, np.uint8, "r").reshape(-1, self._row_bytes)
                sums = (self._sums[name], None if index is None else index.get("crc32"))
                if name in self._verified or zlib.crc32(rows.data) in sums:
                    self._verified.add(name)
                    return rows
            if index is not None or time.monotonic() > end:
                raise self._damaged(name)
            time.sleep(0.1)

    def _damaged(self, name: str) -> DataError:
        """Take a shard out of the store."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        lost = [image_id for image_id, (shard, _) in self._places.items() if shard == name]
        for image_id in lost:
            del self._places[image_id]
        del self._sums[name]
        message = (
            "is damaged: not what its checksum says; it no longer counts. Start again (train: with "
            f"--resume), and its {len(lost)} images are computed anew"
        )
        return DataError(message, file=str(self.folder / f"{name}.bin"))


def content_id(source: ImageSource) -> str:
    """SHA-256 of an image file's bytes, as hexadecimal text.

    Raises:
        DataError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        if isinstance(source, PackedImage):
            return hashlib.sha256(source.read()).hexdigest()
        check_regular(source)
        with open(source, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error}", file=os.fspath(source)) from error


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _read_index(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if the file is missing or was not written to its end."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
