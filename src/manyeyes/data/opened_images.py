"""Every picture of data files opened once, before anything depends on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from manyeyes.errors import ImageError
from manyeyes.images.reading import load_image

OpenImages = Callable[[Iterable[str]], Mapping[str, str]]
"""Opens images; tells of those that cannot be read what is wrong, by path."""

Progress = Callable[[int, int], None]
"""Called with the number of images opened so far, and of all that are to be opened."""

_MAX_WORKERS = 8
_CHUNK = 256


def open_images(
    paths: Iterable[str], *, max_workers: int | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """Decode every image once, in threads; tell what is wrong with those that cannot be read.

    ``max_workers``: threads; by default one per processor, at most 8. The texts name the files.
    """
    every = list(dict.fromkeys(paths))
    found: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers or min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(every), _CHUNK):
            chunk = every[start : start + _CHUNK]
            for path, reason in zip(chunk, pool.map(_reason, chunk), strict=True):
                if reason is not None:
                    found[path] = reason
            if progress is not None:
                progress(start + len(chunk), len(every))
    return found


class ImageOpener:
    """Opens images for several files or stages: one that was opened before is not opened again.

    ``opening``: how new ones are opened.
    """

    def __init__(self, opening: OpenImages = open_images) -> None:
        self.opening = opening
        self._reasons: dict[str, str | None] = {}

    def __call__(self, paths: Iterable[str]) -> dict[str, str]:
        """Open those that are new; tell what is wrong with any that were asked for."""
        asked = list(dict.fromkeys(paths))
        new = [path for path in asked if path not in self._reasons]
        self._reasons |= {**dict.fromkeys(new), **self.opening(new)}
        reasons = {path: self._reasons[path] for path in asked}
        return {path: reason for path, reason in reasons.items() if reason is not None}


def _reason(path: str) -> str | None:
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None
