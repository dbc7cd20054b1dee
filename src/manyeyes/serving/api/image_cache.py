"""What a model has seen of images, by their content, the least recently used forgotten first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from manyeyes.inference.seen_images import SeenImage


class ImageCache:
    """Seen images by a digest of their bytes; any thread may ask.

    Args:
        limit: bytes of tensors that are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._kept: OrderedDict[str, tuple[SeenImage, int]] = OrderedDict()
        self.bytes = 0

    def get(self, digest: str) -> SeenImage | None:
        """Return what was seen of an image; None = nothing, or it is forgotten."""
        with self._lock:
            if digest not in self._kept:
                return None
            self._kept.move_to_end(digest)
            return self._kept[digest][0]

    def put(self, digest: str, seen: SeenImage) -> None:
        """Keep what was seen, if there is room for it at all."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(seen))
        with self._lock:
            if digest in self._kept or size > self._limit:
                return
            self._kept[digest] = (seen, size)
            self.bytes += size
            while self.bytes > self._limit:
                self.bytes -= self._kept.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._kept)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a record, in what it holds, and so on."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _tensors(getattr(value, name))
