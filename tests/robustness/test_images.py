"""Damaged image files: a named error, or the picture that a strict decoder sees in them."""

from __future__ import annotations

import io
import random
import zlib
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageOps

from attacks import damaged_bytes, within
from manyeyes.errors import ImageError
from manyeyes.images.reading import image_size, load_image, to_rgb

KINDS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@cache
def whole(kind: str) -> bytes:
    """A picture of a gradient and noise, with EXIF that asks to turn it where the kind has EXIF."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    slope = np.add.outer(np.arange(9), np.arange(14))[..., None].repeat(3, 2) * 8
    picture = Image.fromarray(np.where(slope > 90, noise, slope).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif.tobytes()} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def checksums_hold(data: bytes) -> bool:
    """Whether the chunks that make up a PNG's picture are what their checksums say."""
    place = 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        content = data[place + 8 : place + 8 + length]
        told = data[place + 8 + length : place + 12 + length]
        if kind == b"IEND":
            return True
        if kind in (b"IHDR", b"IDAT", b"PLTE", b"tRNS") and told != zlib.crc32(
            kind + content
        ).to_bytes(4):
            return False
        place += length + 12
    return True  # its end is lost, and nothing of the picture


def attack(kind: str, seed: int, times: int) -> tuple[int, int]:
    """Return how many damages were refused, and how many gave a picture."""
    random_ = random.Random(f"{kind} {seed}")
    refused = read = 0
    for _ in range(times):
        data, what = damaged_bytes(whole(kind), random_)
        try:
            with within(10.0):
                found = load_image(data, max_pixels=10**6)
        except ImageError:
            refused += 1
            continue
        read += 1
        said = f"{kind}: {what}"
        assert found.mode == "RGB" and found.size == image_size(data, max_pixels=10**6), said
        with Image.open(io.BytesIO(data)) as image:
            assert image.format != "PNG" or checksums_hold(data), said
            image.load()
            try:
                upright = ImageOps.exif_transpose(image)
            except Exception:  # damaged EXIF turns nothing
                continue
            assert np.array_equal(np.asarray(to_rgb(upright)), np.asarray(found)), said
    return refused, read


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_picture_is_refused_or_read_as_it_stands(kind: str) -> None:
    refused, _ = attack(kind, 0, 40)
    assert refused > 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_pictures(kind: str) -> None:
    refused, read = attack(kind, 1, 1500)
    print(f"{kind}: {refused} refused, {read} read")
    assert refused > 200 and read > 20
