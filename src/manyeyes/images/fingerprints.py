"""Fingerprints of pictures: copies are found after scaling, re-encoding or another file name.

A fingerprint is 256 signs of brightness differences between neighbours in a picture of 17 x 16
(dHash; differences of up to 4 of 255, which saving anew makes, have none), and its mean colours in
a grid of 4 x 4. Two pictures are near if at most 12 signs differ and no mean colour by more than 20
of 255 (all bounds ours).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manyeyes.errors import ImageError
from manyeyes.images.reading import load_image

SIGNS_APART, COLOURS_APART = 12, 20
NOISE = 4

_SIDE, _CELLS = 16, 4


@dataclass(frozen=True)
class Fingerprint:
    """``signs`` ``[32]``, 256 bits packed in bytes; ``colours`` ``[48]``, red, green, blue."""

    signs: NDArray[np.uint8]
    colours: NDArray[np.uint8]


def fingerprint(picture: Image.Image) -> Fingerprint:
    """Return the fingerprint of an upright RGB picture."""
    grey = picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    light = np.asarray(grey, dtype=np.int16)
    signs = np.packbits(light[:, 1:] > light[:, :-1] + NOISE)
    cells = picture.resize((_CELLS, _CELLS), Image.Resampling.BOX)
    return Fingerprint(signs, np.asarray(cells, dtype=np.uint8).reshape(-1))


class PictureBook:
    """Opens pictures once and keeps their fingerprints, up to ``most`` of them.

    Called with paths it tells what is wrong with those that cannot be read, as
    `data.opened_images` does; pictures beyond ``most`` are not opened.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.known: dict[str, Fingerprint] = {}

    def __call__(self, paths: Iterable[str]) -> dict[str, str]:
        """Open those that are new; return path -> reason of the unreadable ones."""
        unreadable = {}
        for path in paths:
            if path not in self.known and len(self.known) < self.most:
                try:
                    self.known[path] = fingerprint(load_image(path))
                except ImageError as error:
                    unreadable[path] = str(error)
        return unreadable


def near_pairs(
    these: Mapping[str, Fingerprint], those: Mapping[str, Fingerprint]
) -> list[tuple[str, str]]:
    """Return the pairs of two different names whose pictures are near, in order."""
    if not these or not those:
        return []
    names = list(those)
    signs = np.stack([those[name].signs for name in names])
    colours = np.stack([those[name].colours for name in names]).astype(np.int16)
    pairs = []
    for name, one in these.items():
        apart = np.bitwise_count(signs ^ one.signs).sum(axis=1)
        close = np.flatnonzero(apart <= SIGNS_APART)
        shade = np.abs(colours[close] - one.colours.astype(np.int16)).max(axis=1, initial=0)
        pairs += [(name, names[at]) for at in close[shade <= COLOURS_APART] if names[at] != name]
    return pairs
