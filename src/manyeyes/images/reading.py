"""Image files in, upright 8-bit RGB pictures out, and the three ways to make them square.

    file ─load_image→ RGB, EXIF applied ─fit_image→ square picture an encoder can take
                                         box_map  → the same change for boxes

Decoding never trusts a file: its format must be a known one, its size is read from the header and
checked before any pixel is decoded, and whatever a decoder trips over becomes an ``ImageError``.
Everything is PIL and NumPy. Sizes are (width, height) in pixels; boxes are (x1, y1, x2, y2).
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from manyeyes.errors import DataError, ImageError, UsageError, nearest
from manyeyes.records import Box, PackedImage

Color = tuple[int, int, int]
ImageSource = str | os.PathLike[str] | bytes
"""A path, an image inside a container (`PackedImage`), or the encoded bytes of an image file."""

MAX_PIXELS = 2**26
"""Largest picture decoded by default: 8192 x 8192, 192 MiB as RGB."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow formats that are opened. Others are refused: some start outside programs, as EPS does."""

GEOMETRIES = ("crop", "pad", "squash")
"""How an image becomes square. crop: shorter side to size, centre kept (CLIP). pad: bars on the
shorter axis, then resize (Shikra, COMM, LLaVA-1.5). squash: resize without the aspect (LION)."""

WHITE: Color = (255, 255, 255)
_PNG_HEAD = 8
"""Bytes before the first chunk of a PNG."""
_PNG_CHECKED = (b"IDAT", b"PLTE", b"tRNS")
_ORIENTATION_TAG, _WIDTH_TAG, _HEIGHT_TAG = 0x0112, 256, 257
_TURNS: Mapping[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of an EXIF orientation upright."""
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file to upright 8-bit RGB.

    EXIF orientation is applied as Pillow does, and damaged EXIF turns nothing; of an animation the
    first frame is taken; transparent parts are laid on white; CMYK, palette and bilevel pictures
    are converted; 16-bit grey is scaled to 8 bit.

    Raises:
        ImageError: the file is missing, empty, no known image, truncated, damaged, or has more
            than ``max_pixels`` pixels; its ``file`` names the path.
    """
    name = _name(source)
    with _open(source, name, max_pixels) as image:
        try:
            turn = _turn(image)
            if image.format == "PNG":
                _check_png(source)
            image.load()
            if turn is None or isinstance(image, TiffImageFile):  # which Pillow turns by itself
                return to_rgb(image.copy())
            return to_rgb(image.transpose(turn))
        except ImageError as error:
            raise ImageError(str(error), file=name) from error
        except Exception as error:  # decoders raise nearly everything on damaged data
            raise ImageError(f"cannot be decoded: {_reason(error)}", file=name) from error


def image_size(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read (width, height) after EXIF rotation from the header alone; raises like `load_image`."""
    with _open(source, _name(source), max_pixels) as image:
        width, height = image.size
        if _turn(image) not in _SIDEWAYS or _is_turned(image):
            return width, height
    return height, width


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to 8-bit RGB, transparent parts on white.

    Raises:
        ImageError: a mode without a fixed meaning as colour (32-bit float, values above 16 bit).
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise ImageError("holds 32-bit float pixels of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, (*WHITE, 255))
        return Image.alpha_composite(background, rgba).convert("RGB")
    return image.convert("RGB")


def pad_to_square(image: Image.Image, color: Color = WHITE) -> tuple[Image.Image, tuple[int, int]]:
    """Centre an RGB image on a square of its longer side; return it and the offset (dx, dy).

    The offset is ``|width - height| // 2`` on the shorter axis (Shikra; COMM §1.8): add it to
    pixel coordinates of the original to get those of the square.

    Raises:
        ImageError: the square would have more than ``MAX_PIXELS`` pixels.
    """
    width, height = image.size
    side = max(width, height)
    if side * side > MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels are too long to pad to {side}x{side}")
    offset = ((side - width) // 2, (side - height) // 2)
    if width == height:
        return image, offset
    square = Image.new("RGB", (side, side), color)
    square.paste(image, offset)
    return square, offset


def resize_shorter(
    image: Image.Image, size: int, *, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Scale so that the shorter side is ``size``; the longer is rounded down (as CLIP does)."""
    return image.resize(_shorter_to(image.size, size), resample)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Cut the central ``size`` x ``size`` pixels; both sides must be at least ``size``."""
    if min(image.size) < size:
        raise UsageError(f"cannot crop {size}x{size} out of {image.size[0]}x{image.size[1]}")
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


def fit_image(
    image: Image.Image,
    size: int,
    *,
    geometry: str,
    color: Color = WHITE,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Make an RGB image ``size`` x ``size`` by one of ``GEOMETRIES``; ``color`` fills the bars.

    Raises:
        UsageError: an unknown geometry.
    """
    _check_geometry(geometry)
    if geometry == "squash":
        return image.resize((size, size), resample)
    if geometry == "pad":
        square, _ = pad_to_square(_within_square_limit(image, resample), color)
        return square.resize((size, size), resample)
    long, short = max(image.size), min(image.size)
    if size * (size * long // short) > MAX_PIXELS:
        # An extreme strip: cut the part that survives first, instead of scaling all of it up.
        image = center_crop(image, min(image.size))
    return center_crop(resize_shorter(image, size, resample=resample), size)


@dataclass(frozen=True)
class BoxMap:
    """x' = x * scale_x + shift_x (y alike): original pixels to pixels of the fitted image."""

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float

    def apply(self, box: Box) -> Box:
        """Original pixels to fitted pixels; parts outside the fitted image are not cut off."""
        x1, y1, x2, y2 = box
        return (
            x1 * self.scale_x + self.shift_x,
            y1 * self.scale_y + self.shift_y,
            x2 * self.scale_x + self.shift_x,
            y2 * self.scale_y + self.shift_y,
        )

    def invert(self, box: Box) -> Box:
        """Fitted pixels back to original pixels."""
        x1, y1, x2, y2 = box
        return (
            (x1 - self.shift_x) / self.scale_x,
            (y1 - self.shift_y) / self.scale_y,
            (x2 - self.shift_x) / self.scale_x,
            (y2 - self.shift_y) / self.scale_y,
        )


def box_map(width: int, height: int, size: int, *, geometry: str) -> BoxMap:
    """What `fit_image` does to the coordinates of a ``width`` x ``height`` image.

    Raises:
        UsageError: an unknown geometry or an impossible size.
    """
    _check_geometry(geometry)
    if min(width, height, size) < 1:
        raise UsageError(f"sizes must be at least 1, got {width}x{height} to {size}")
    if geometry == "squash":
        return BoxMap(size / width, size / height, 0.0, 0.0)
    if geometry == "pad":
        side = max(width, height)
        scale = size / side
        return BoxMap(scale, scale, (side - width) // 2 * scale, (side - height) // 2 * scale)
    new_width, new_height = _shorter_to((width, height), size)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    return BoxMap(new_width / width, new_height / height, -float(left), -float(top))


def _name(source: ImageSource) -> str:
    return "<bytes>" if isinstance(source, bytes) else os.fspath(source)


def _open(source: ImageSource, name: str, max_pixels: int) -> Image.Image:
    """Open without decoding pixels; refuse by the header's size."""
    if isinstance(source, PackedImage):
        source = _unpacked(source)
    if isinstance(source, bytes):
        if not source:
            raise ImageError("is empty (0 bytes)", file=name)
    else:
        _check_file(name)
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        image = Image.open(stream, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = _PIXELS.search(str(error))
        count = int(found.group(1)) if found else None
        raise ImageError(_too_many(count, "", max_pixels), file=name) from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ImageError(
            f"is not a readable image: damaged, or none of {known}", file=name
        ) from error
    except Exception as error:  # header parsers, too, raise nearly everything on damaged data
        raise ImageError(f"cannot be opened: {_reason(error)}", file=name) from error
    width, height = image.size
    if width < 1 or height < 1:
        image.close()
        raise ImageError(f"has no pixels ({width}x{height}); not decoded", file=name)
    if width * height > max_pixels:
        image.close()
        size = f" ({width}x{height})"
        raise ImageError(_too_many(width * height, size, max_pixels), file=name)
    return image


_PIXELS = re.compile(r"\((\d+) pixels\)")
"""What Pillow says of an image that it refuses itself."""


def _too_many(found: int | None, size: str, most: int) -> str:
    """How many pixels there are and may be, and what to do."""
    count = "too many" if found is None else f"{found:,}"
    return (
        f"has {count} pixels{size}, more than the {most:,} that are decoded; save a smaller copy "
        "(boxes in pixels shrink with it)"
    )


def _unpacked(source: PackedImage) -> bytes:
    try:
        return source.read()
    except (DataError, OSError) as error:
        raise ImageError(f"cannot be read: {error}", file=str(source)) from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What EXIF data before the pixels ask for; None = nothing, or they are damaged.

    The method of the base class, because that of PNG decodes the whole picture in search of EXIF
    data behind the pixels. The orientation is looked up as it stands, as Pillow does: a rational
    number of 6 is 6, the text "6" is none.
    """
    try:
        return _TURNS.get(Image.Image.getexif(image).get(_ORIENTATION_TAG))
    except Exception:  # parsers raise nearly everything on damaged data
        return None


def _is_turned(image: Image.Image) -> bool:
    """Whether the size is the upright picture's already, as a TIFF's is in newer Pillows."""
    if not isinstance(image, TiffImageFile):
        return False
    stored = (image.tag_v2.get(_WIDTH_TAG), image.tag_v2.get(_HEIGHT_TAG))
    return image.size != stored


def _check_file(name: str) -> None:
    path = Path(name)
    try:
        if not path.exists():
            raise ImageError("no such file", file=name)
        if not path.is_file():
            raise ImageError("is not a file", file=name)
        if path.stat().st_size == 0:
            raise ImageError("is empty (0 bytes)", file=name)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"cannot be opened: {_reason(error)}", file=name) from error


def _check_png(source: ImageSource) -> None:
    """Compare what makes up a PNG's picture with its checksums, which Pillow does not look at."""
    if isinstance(source, PackedImage):
        source = _unpacked(source)
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
        stream.seek(_PNG_HEAD)
        while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
            length, kind = int.from_bytes(head[:4]), head[4:]
            if kind not in _PNG_CHECKED:
                stream.seek(length + 4, io.SEEK_CUR)
            elif zlib.crc32(stream.read(length), zlib.crc32(kind)) != int.from_bytes(
                stream.read(4)
            ):
                raise ImageError(f"is damaged: its {kind.decode()} is not what its checksum says")


def _reason(error: Exception) -> str:
    return f"{error or 'no reason given'} ({type(error).__name__})"


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey values 0..65535 (PIL modes ``I``, ``I;16``...) -> the nearest of 0..255, as RGB."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError("holds grey values outside 0..65535; save it with 8 or 16 bits")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _check_geometry(geometry: str) -> None:
    if geometry not in GEOMETRIES:
        known = ", ".join(GEOMETRIES)
        hint = nearest(geometry, GEOMETRIES)
        raise UsageError(f"unknown geometry {geometry!r}{hint}; known: {known}")


def _shorter_to(size: tuple[int, int], target: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return target, max(target, target * height // width)
    return max(target, target * width // height), target


def _within_square_limit(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    """Shrink a strip whose padded square would not fit into memory; others pass unchanged."""
    side, limit = max(image.size), int(MAX_PIXELS**0.5)
    if side <= limit:
        return image
    width, height = (max(1, round(length * limit / side)) for length in image.size)
    return image.resize((width, height), resample)
