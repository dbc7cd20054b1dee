"""WebDataset tars: members ``KEY.jpg`` with ``KEY.json`` or ``KEY.txt`` are one row.

The members of a key follow one another; a key that comes again later is an error of its second row,
since readers disagree about which member counts. The row is the object in ``KEY.json``, with the
images in place of whatever it names under ``image`` or ``images``; a text beside it becomes
``caption``.
Images stay where they are: a `TarImage` knows its offset, so rows can be read in any order. Nothing
is ever unpacked to a path that the tar names.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import IO, Any

from manyeyes.data.containers.json_text import parse_json
from manyeyes.data.containers.rows import Row, check_values, place_of, show
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError
from manyeyes.records import PackedImage

SUFFIXES = (".tar",)
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
IMAGE_SUFFIXES = ("bmp", "gif", "jp2", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp")
TEXT_SUFFIXES = ("txt", "caption")
MAX_TEXT = 2**26
"""Largest JSON or text member that is read, in bytes."""

_BLOCK = 512


class TarImage(PackedImage):
    """A member of a tar: ``size`` bytes from ``offset`` on; its text is ``TAR/MEMBER``."""

    member: str
    offset: int
    size: int

    def __new__(cls, tar: str, member: str, offset: int, size: int) -> TarImage:
        self = super().__new__(cls, f"{tar}/{member}")
        self.container, self.member, self.offset, self.size = tar, member, offset, size
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.container, self.member, self.offset, self.size

    def read(self) -> bytes:
        """Return the member's bytes; raises OSError, or DataError if the tar has become shorter."""
        with open(self.container, "rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
        if len(data) != self.size:
            message = "ends early; it was cut after its rows were listed"
            raise DataError(message, file=self.container)
        return data


def tar_rows(path: str) -> Iterator[Row | DataError]:
    """One row, or error, per key of a tar, in order.

    Raises:
        DataError: no such file, compressed, no tar, or truncated.
    """
    check_regular(path)
    try:
        with open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            keys: dict[str, int] = {}
            for number, (key, group) in enumerate(groupby(tar, key=_key), start=1):
                try:
                    members = list(group)
                    _check_new(path, number, key, keys)
                    yield _row(path, number, key, members, stream)
                except DataError as error:
                    yield error
            _check_end(path, stream, tar.offset)
    except FileNotFoundError as error:
        raise DataError("no such file", file=path) from error
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        message = f"is no whole tar (truncated, damaged or compressed): {error}"
        raise DataError(message, file=path) from error


def _key(member: tarfile.TarInfo) -> str:
    """The path up to the first dot of its last component."""
    path = PurePosixPath(member.name)
    return str(path.parent / path.name.partition(".")[0])


def _check_new(path: str, number: int, key: str, keys: dict[str, int]) -> None:
    if key in keys:
        message = f"holds {show(key)} again, which was entry {keys[key]}; expected the members of "
        message += "a key to follow one another, each once: make the tar anew"
        raise DataError(message, file=path, entry=number)
    keys[key] = number


def _row(
    path: str, number: int, key: str, members: list[tarfile.TarInfo], stream: IO[bytes]
) -> Row:
    """The row of the members of one key; raises ``DataError``."""
    members = [member for member in members if not member.isdir()]
    images: list[TarImage] = []
    content: dict[str, Any] = {}
    caption = None
    seen: set[str] = set()
    for member in members:
        _check_member(path, number, member, seen)
        suffix = member.name.rpartition(".")[2].lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(TarImage(path, member.name, member.offset_data, member.size))
        elif suffix == "json":
            _check_only(path, number, member, "JSON", content)
            content = _object(path, number, member, stream)
        elif suffix in TEXT_SUFFIXES:
            _check_only(path, number, member, "text", caption)
            caption = _text(path, number, member, stream).strip()
    return Row(path, number, {"id": key, **content, **_with(content, images, caption)})


def _with(content: dict[str, Any], images: list[TarImage], caption: str | None) -> dict[str, Any]:
    """The keys that members other than the JSON object decide."""
    found: dict[str, Any] = {}
    if images and ("images" in content or "messages" in content):
        found["images"] = images
    elif images:
        found["image"] = images[0] if len(images) == 1 else images
    if caption is not None:
        found["caption"] = caption
    return found


def _check_member(path: str, number: int, member: tarfile.TarInfo, seen: set[str]) -> None:
    name = member.name
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in PurePosixPath(name).parts:
        message = f"expected members with relative names, got {show(name)}"
        raise DataError(message, file=path, entry=number)
    if not member.isreg() or member.issparse():
        raise DataError(f"expected ordinary files, got {show(name)}", file=path, entry=number)
    written = str(PurePosixPath(name))  # without a leading "./"
    if written in seen:
        raise DataError(f"holds {show(name)} twice", file=path, entry=number)
    seen.add(written)


def _check_only(path: str, number: int, member: tarfile.TarInfo, kind: str, before: Any) -> None:
    if before:
        message = f"expected one {kind} member per key, got another one in {show(member.name)}"
        raise DataError(message, file=path, entry=number)


def _object(path: str, number: int, member: tarfile.TarInfo, stream: IO[bytes]) -> dict[str, Any]:
    text = _text(path, number, member, stream)
    try:
        value, _ = parse_json(text)
    except (ValueError, RecursionError) as error:
        message = f"{member.name} is not JSON: {error}"
        raise DataError(message, file=path, entry=number) from error
    if not isinstance(value, dict):
        message = f"expected an object in {member.name}, got {show(value)}"
        raise DataError(message, file=path, entry=number)
    check_values(value, place_of(path, number))
    return value


def _text(path: str, number: int, member: tarfile.TarInfo, stream: IO[bytes]) -> str:
    if member.size > MAX_TEXT:
        message = f"{member.name} has {member.size} bytes; expected at most {MAX_TEXT}"
        raise DataError(message, file=path, entry=number)
    place = stream.tell()
    stream.seek(member.offset_data)
    data = stream.read(member.size)
    stream.seek(place)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{member.name} is not UTF-8 (byte 0x{data[error.start]:02x})"
        raise DataError(message, file=path, entry=number) from error


def _check_end(path: str, stream: IO[bytes], offset: int) -> None:
    """A tar ends with a block of zeros and holds nothing behind it."""
    stream.seek(offset)
    end = stream.read(_BLOCK)
    if len(end) < _BLOCK:
        raise DataError("ends without the mark of its end: truncated", file=path)
    while end:
        if end.strip(b"\0"):
            raise DataError("holds data behind the mark of its end", file=path)
        end = stream.read(2**20)
