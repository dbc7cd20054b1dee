"""Decoding: what is refused, what is converted and to which pixels; geometry and its boxes."""

from __future__ import annotations

import io
import os
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from manyeyes.errors import ImageError, UsageError
from manyeyes.images.reading import (
    GEOMETRIES,
    box_map,
    center_crop,
    fit_image,
    image_size,
    load_image,
    pad_to_square,
    resize_shorter,
    to_rgb,
)


def _png(width: int, height: int, *, depth: int = 1, color_type: int = 0, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def _bomb(side: int) -> bytes:
    """A valid 1-bit PNG of side x side pixels in a few kilobytes."""
    packer = zlib.compressobj(9)
    row = b"\x00" * (1 + side // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return _png(side, side, data=body)


def _encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _gradient(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def test_a_bomb_is_refused_by_its_header_without_being_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_bomb(20_000))
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = "has 400,000,000 pixels, more than the 67,108,864 that are decoded; save a smaller copy"
    with pytest.raises(ImageError, match=said) as caught:
        load_image(path)
    with pytest.raises(ImageError, match=said):
        image_size(path)
    assert caught.value.file == str(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20 * 1024  # kilobytes; decoded it would be 400 MB


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8_200, 10_000])
def test_below_pillows_own_limit_ours_decides(side: int) -> None:
    if side > 9_459:  # where Pillow starts to warn
        with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="more"):
            load_image(_bomb(side))
    else:
        with pytest.raises(ImageError, match=f"{side}x{side}"):
            load_image(_bomb(side))


def test_the_limit_can_be_set() -> None:
    data = _encoded(_gradient(), format="PNG")
    assert load_image(data, max_pixels=1200).size == (40, 30)
    with pytest.raises(ImageError, match=r"has 1,200 pixels \(40x30\), more than the 1,199 that"):
        load_image(data, max_pixels=1199)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_named_errors(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _encoded(Image.fromarray(noise), format=kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_give_an_image_or_an_image_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = ["JPEG", "PNG", "GIF", "TIFF"][seed % 4]
    data = bytearray(_encoded(_gradient(), format=kind))
    for place in rng.integers(0, len(data), 12):
        data[place] = rng.integers(0, 256)
    try:
        outcome = load_image(bytes(data)).mode
    except ImageError as error:
        outcome = str(error)
    assert outcome == "RGB" or outcome.startswith("<bytes>")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"<html>not found</html>", "is not a readable image"),
        ("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a readable"),
        ("zero.png", _png(0, 0, data=zlib.compress(b"")), "no pixels|cannot be|not a readable"),
    ],
)
def test_what_is_no_image_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        load_image(path)
    assert caught.value.file == str(path)


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is not a file"):
        load_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="is not a file"):
        load_image(tmp_path / "pipe")
    with pytest.raises(ImageError):
        load_image("null\x00byte.png")


def test_cmyk_becomes_rgb_of_the_same_picture() -> None:
    original = Image.new("RGB", (16, 16), (200, 40, 90))
    image = load_image(_encoded(original.convert("CMYK"), format="JPEG", quality=95))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(original, dtype=int)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 256, 257, 30_000, 32_768, 65_535]], dtype=np.uint16)
    image = load_image(_encoded(Image.fromarray(values), format=kind))
    expected = np.rint(values / 257).astype(int)
    assert image.mode == "RGB"
    assert np.asarray(image)[..., 0].tolist() == expected.tolist()


def test_16_bit_colour_png_is_read() -> None:
    rows = b"\x00" + struct.pack(">6H", 65_535, 0, 0, 0, 32_768, 65_535)
    data = _png(2, 1, depth=16, color_type=2, data=zlib.compress(rows))
    assert np.asarray(load_image(data)).tolist() == [[[255, 0, 0], [0, 128, 255]]]


def test_float_pixels_are_refused() -> None:
    data = _encoded(Image.fromarray(np.ones((4, 4), dtype=np.float32)), format="TIFF")
    with pytest.raises(ImageError, match=r"<bytes>: holds 32-bit float pixels"):
        load_image(data)
    with pytest.raises(ImageError, match="outside"):
        to_rgb(Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = _encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert load_image(data).getpixel((4, 4)) == (255, 0, 0)


def test_transparent_parts_lie_on_white() -> None:
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    assert _row(load_image(_encoded(rgba, format="PNG"))) == [(255, 0, 0), (255, 255, 255)]

    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    data = _encoded(palette, format="PNG", transparency=1)
    assert _row(load_image(data)) == [(0, 0, 255), (255, 255, 255)]

    grey = Image.new("LA", (2, 1), (0, 255))
    grey.putpixel((1, 0), (0, 0))
    assert _row(load_image(_encoded(grey, format="PNG"))) == [(0, 0, 0), (255, 255, 255)]


def _row(image: Image.Image) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in np.asarray(image)[0].tolist()]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_to_the_size(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = (255, 0, 0)  # red in the upper left, nothing else
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    data = _encoded(stored, format="PNG", exif=exif)
    assert np.array_equal(np.asarray(load_image(data)), upright)
    assert image_size(data) == (32, 16)


def test_a_png_that_is_not_what_its_checksums_say_is_refused(tmp_path: Path) -> None:
    """Pillow reads the pixels of one in five single damaged bytes without a word."""
    data = _encoded(_gradient(), format="PNG")
    place = data.index(b"IDAT") + 12
    flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    path = tmp_path / "a.png"
    path.write_bytes(flipped)
    for source in (path, flipped):
        with pytest.raises(ImageError, match="is damaged: its IDAT is not what its checksum says"):
            load_image(source)
    note = data.index(b"IEND") - 4
    text = (4).to_bytes(4) + b"tEXt" + b"a\0b!" + b"\0\0\0\0"  # of no consequence
    assert load_image(data[:note] + text + data[note:]).size == load_image(data).size


def test_the_size_is_read_without_decoding_even_of_a_damaged_png() -> None:
    data = bytearray(_encoded(_gradient(), format="PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    assert image_size(bytes(data)) == (40, 30)
    with pytest.raises(ImageError, match="is damaged: its IDAT"):
        load_image(bytes(data))


def test_exif_behind_the_pixels_is_ignored_by_size_and_pixels_alike() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _encoded(_gradient(), format="PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    (length,) = struct.unpack(">I", data[start : start + 4])
    chunk = data[start : start + length + 12]
    late = data.replace(chunk, b"").replace(data[-12:], chunk + data[-12:])
    assert image_size(data) == load_image(data).size == (30, 40)
    assert image_size(late) == load_image(late).size == (40, 30)


def _exif(kind: int, value: bytes, count: int = 1) -> bytes:
    """An EXIF block with the orientation as a field of any type; long values follow the field."""
    inline = len(value) <= 4
    field = value.ljust(4, b"\0") if inline else struct.pack("<I", 26)
    entry = struct.pack("<HHI", 0x0112, kind, count) + field
    return b"II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + (b"" if inline else value)


EXIF = {
    "short": _exif(3, struct.pack("<H", 6)),
    "long": _exif(4, struct.pack("<I", 6)),
    "rational": _exif(5, struct.pack("<II", 6, 1)),
    "half": _exif(5, struct.pack("<II", 13, 2)),
    "by zero": _exif(5, struct.pack("<II", 6, 0)),
    "ascii": _exif(2, b"6\0", 2),
    "bytes": _exif(7, b"\x06", 1),
    "two": _exif(3, struct.pack("<HH", 6, 6), 2),
    "out of range": _exif(3, struct.pack("<H", 9)),
    "unknown type": _exif(77, b"\x06"),
    "garbage": b"\xff\x00garbage that is no TIFF at all",
    "cut": _exif(3, struct.pack("<H", 6))[:14],
    "points beyond": b"II*\0\xff\xff\xff\x7f",
    "empty": b"",
}
TURNED = {"short", "long", "rational", "two"}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("name", EXIF)
def test_any_exif_turns_as_pillow_does_and_the_size_agrees(name: str, format: str) -> None:
    head = b"" if format == "PNG" else b"Exif\0\0"
    data = _encoded(_gradient(), format=format, lossless=True, exif=head + EXIF[name])
    plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    try:
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    except Exception:
        expected = plain  # where Pillow refuses the EXIF data alone, the picture stands as it is
    found = load_image(data)
    assert np.array_equal(np.asarray(found), expected)
    assert image_size(data) == found.size
    if name in TURNED - {"two"}:
        assert found.size == (30, 40)
    if name not in TURNED:
        assert found.size == (40, 30)


FIELDS = {  # of a TIFF's orientation, in place of the short 6
    "short": struct.pack("<HHI4s", 0x0112, 3, 1, b"\x06"),
    "byte": struct.pack("<HHI4s", 0x0112, 1, 1, b"\x06"),
    "ascii": struct.pack("<HHI4s", 0x0112, 2, 2, b"6"),
    "two": struct.pack("<HHI4s", 0x0112, 3, 2, b"\x06\x00\x06"),
    "out of range": struct.pack("<HHI4s", 0x0112, 3, 1, b"\x09"),
    "unknown type": struct.pack("<HHI4s", 0x0112, 77, 1, b"\x06"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("field", FIELDS)
def test_a_tiffs_orientation_of_any_type(field: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _encoded(_gradient(), format="TIFF", exif=exif)
    assert FIELDS["short"] in data
    data = data.replace(FIELDS["short"], FIELDS[field])
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert image_size(data) == load_image(data).size == expected.size
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_tiff_is_that_of_its_pixels(
    orientation: int, compression: str | None
) -> None:
    """Pillow turns TIFF files while it decodes them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(_gradient(), format="TIFF", exif=exif, compression=compression)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert image_size(data) == load_image(data).size == expected.size
    assert expected.size == ((30, 40) if orientation > 4 else (40, 30))
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(expected.convert("RGB")))


def test_padding_centres_with_the_published_offset() -> None:
    square, offset = pad_to_square(Image.new("RGB", (640, 480)), (255, 255, 255))
    assert (square.size, offset) == ((640, 640), (0, 80))
    assert square.getpixel((0, 79)) == (255, 255, 255)
    assert square.getpixel((0, 80)) == (0, 0, 0)
    square, offset = pad_to_square(Image.new("RGB", (333, 500)), (9, 9, 9))
    assert (square.size, offset) == ((500, 500), (83, 0))
    with pytest.raises(ImageError, match="too long to pad"):
        pad_to_square(Image.new("RGB", (100_000, 1)))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (1, 1), (37, 51)])
def test_every_shape_fits_without_exhausting_memory(geometry: str, size: tuple[int, int]) -> None:
    image = fit_image(Image.new("RGB", size, "red"), 24, geometry=geometry)
    assert (image.size, image.mode) == ((24, 24), "RGB")


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(120, 80), (80, 120), (96, 96)])
def test_boxes_follow_the_pixels(geometry: str, size: tuple[int, int]) -> None:
    width, height = size
    box = (40.0, 32.0, 64.0, 56.0)
    image = Image.new("RGB", size, "black")
    image.paste((255, 0, 0), tuple(int(v) for v in box))
    fitted = np.asarray(fit_image(image, 48, geometry=geometry, color=(0, 0, 0)), dtype=int)
    rows, columns = np.nonzero(fitted[..., 0] > 127)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    change = box_map(width, height, 48, geometry=geometry)
    assert seen == pytest.approx(change.apply(box), abs=1.0)
    assert change.invert(change.apply(box)) == pytest.approx(box)


def test_crop_follows_clip() -> None:
    image = resize_shorter(_gradient(101, 67), 32)
    assert image.size == (48, 32)
    assert center_crop(image, 32).size == (32, 32)
    with pytest.raises(UsageError, match="cannot crop"):
        center_crop(image, 33)


def test_unknown_geometry_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'pad'"):
        fit_image(_gradient(), 8, geometry="padd")
    with pytest.raises(UsageError, match="at least 1"):
        box_map(0, 5, 8, geometry="pad")
