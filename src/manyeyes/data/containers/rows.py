"""A row of a data file, and typed access to its keys with errors that say where and what.

Every accessor raises ``DataError`` with file, line or entry, dotted key, what was expected and
what stood there, so that a reader is nothing but a list of the keys it needs.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from manyeyes.data.containers.json_text import Repeated
from manyeyes.errors import DataError, nearest
from manyeyes.records import Box, PackedImage, Point

Found = TypeVar("Found")
Unit = Literal["line", "entry", "file"]
"""In what the rows of a file are counted."""


@dataclass(frozen=True)
class SourceOptions:
    """How one data file is read.

    ``image_root``: folder that relative image paths start from. ``check_images``: a missing image
    file is an error of its row. ``unreadable``: paths of images that were opened in vain, with the
    reasons; they are errors of their rows. ``require_answers``: a conversation must end with the
    assistant; switch off for test files that hold questions only. ``annotations``: the second file
    of a VQA pair, of a RefCOCO pickle or of Visual Genome (``image_data.json``), found by name when
    absent.
    ``image_name``: pattern of image files that a format refers to by number only, as
    ``COCO_val2014_{image_id:012d}.jpg``. ``split`` keeps one split of a file that holds several
    (RefCOCO's pickles, Karpathy's JSON). ``full_answer``: GQA's whole sentences as answers.
    ``refine``: COCO instances become rows that ask to correct a detector's objects.
    ``caption_prompt``: what captions answer; empty = the image alone; None = ``CAPTION_PROMPT``.
    ``text_boxes``: the style of boxes that stand in the texts as numbers; None = they are words.
    ``keep_rows``: records keep their whole row as ``Sample.meta["row"]``.
    """

    image_root: str
    check_images: bool = False
    unreadable: Mapping[str, str] = field(default_factory=dict, repr=False)
    require_answers: bool = True
    annotations: str | None = None
    image_name: str | None = None
    split: str | None = None
    full_answer: bool = False
    refine: bool = False
    caption_prompt: str | None = None
    text_boxes: str | None = None
    keep_rows: bool = False


@dataclass(frozen=True)
class Row:
    """One JSON object of a file. ``number`` is its 1-based place, counted in lines or entries.

    ``unit`` says in which; "file": it is the whole of a file. ``prefix`` is the dotted way from
    the row to a nested object, for messages. Keys whose value is null are left out of ``value``:
    tables have every column in every row.
    """

    file: str
    number: int
    value: Mapping[str, Any]
    prefix: str = ""
    unit: Unit = "entry"
    nulls: frozenset[str] = field(default=frozenset(), init=False, compare=False)

    def __post_init__(self) -> None:
        if any(value is None for value in self.value.values()):
            present = {key: value for key, value in self.value.items() if value is not None}
            object.__setattr__(self, "nulls", frozenset(self.value.keys() - present.keys()))
            object.__setattr__(self, "value", present)

    @property
    def place(self) -> dict[str, Any]:
        """Where it stands, as ``DataError`` takes it."""
        return place_of(self.file, self.number, self.unit)

    def error(self, key: str | None, message: str) -> DataError:
        """Build (not raise) the error for ``key`` of this row."""
        dotted = f"{self.prefix}{key}" if key else self.prefix.rstrip(".") or None
        return DataError(message, **self.place, key=dotted)

    def get(self, key: str, expected: str) -> Any:
        """The value of a key that must be there."""
        if key in self.nulls:
            raise self.error(key, f"expected {expected}, got None")
        if key not in self.value:
            hint = nearest(key, self.value)
            raise self.error(key, f"is missing; expected {expected}{hint}")
        return self.value[key]

    def text(self, key: str) -> str:
        """A string that is not blank."""
        value = self.get(key, "a text")
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"expected a text that is not empty, got {show(value)}")
        return value

    def identity(self, key: str) -> str | int:
        """An id: a whole number or a text."""
        value = self.get(key, "an id (whole number or text)")
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.error(key, f"expected an id (whole number or text), got {show(value)}")
        return value

    def number_list(self, key: str, expected: str) -> list[float]:
        """Four finite numbers; ``expected`` describes them."""
        return numbers(self, key, self.get(key, expected), expected)

    def items(self, key: str, expected: str) -> list[Any]:
        """A list."""
        value = self.get(key, expected)
        if not isinstance(value, list):
            raise self.error(key, f"expected {expected}, got {show(value)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, at least one."""
        texts = self.items(key, "a list of texts")
        if not texts or not all(isinstance(text, str) for text in texts):
            raise self.error(key, f"expected a list of texts, got {show(texts)}")
        return tuple(texts)

    def child(self, key: str, index: int, value: Any) -> Row:
        """The object at place ``index`` of the list ``key``, as a row of its own."""
        place = f"{key}[{index}]"
        if not isinstance(value, dict):
            raise self.error(place, f"expected an object, got {show(value)}")
        return self.within(value, f"{self.prefix}{place}.")

    def within(self, value: Mapping[str, Any], prefix: str) -> Row:
        """An object that stands in this row, as a row of its own; ``prefix`` leads to it."""
        return Row(self.file, self.number, value, prefix, self.unit)

    def default_id(self) -> str:
        """The row's own ``id`` as text, or one made of file name and number."""
        if "id" in self.value:
            return str(self.identity("id"))
        return f"{Path(self.file).stem}:{self.number}"


def place_of(file: str, number: int, unit: Unit = "entry") -> dict[str, Any]:
    """Where a row stands, as ``DataError`` takes it."""
    return {"file": file, **({} if unit == "file" else {unit: number})}


def show(value: Any) -> str:
    """A short form of any value for messages."""
    return reprlib.repr(value)


def check_values(value: Any, place: Mapping[str, Any], key: str = "") -> None:
    """Refuse an object that says a key twice, and half of a character (U+D800 to U+DFFF) in texts.

    ``place``: where it stands, see `place_of`.

    Raises:
        DataError: the first one, with its dotted key.
    """
    if isinstance(value, str):
        found = next((char for char in value if "\ud800" <= char <= "\udfff"), None)
        if found is not None:
            message = (
                f"expected text, got U+{ord(found):X}, half of a character; write the whole one"
            )
            raise DataError(message, **place, key=key or None)
    elif isinstance(value, dict):
        if isinstance(value, Repeated):
            dotted = f"{key}.{value.key}".lstrip(".")
            raise DataError(f"{value.key!r} occurs twice in one object", **place, key=dotted)
        for name, member in value.items():
            check_values(name, place, f"{key}.{name!a}".lstrip("."))
            check_values(member, place, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            check_values(member, place, f"{key}[{index}]")


def numbers(row: Row, key: str, value: Any, expected: str) -> list[float]:
    """Check that ``value`` is a list of exactly four finite numbers and return them."""
    ok = isinstance(value, list) and len(value) == 4
    if not ok or not all(is_finite(number) for number in value):
        raise row.error(key, f"expected {expected}, got {show(value)}")
    return [float(number) for number in value]


def corner_box(row: Row, key: str, value: Any) -> Box:
    """A box written as [x1, y1, x2, y2] in pixels."""
    x1, y1, x2, y2 = numbers(row, key, value, "[x1, y1, x2, y2], four finite numbers in pixels")
    if x2 < x1 or y2 < y1:
        message = f"expected [x1, y1, x2, y2] with x1 <= x2 and y1 <= y2, got {show(value)}"
        raise row.error(key, message)
    _check_pixels(row, key, value)
    return x1, y1, x2, y2


def pixel_point(row: Row, key: str, value: Any) -> Point:
    """A point written as [x, y] in pixels."""
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_finite, value)):
        raise row.error(key, f"expected [x, y], two finite numbers in pixels, got {show(value)}")
    return float(value[0]), float(value[1])


def size_box(row: Row, key: str) -> Box:
    """A box written as [x, y, width, height] in pixels (COCO), returned as corners."""
    expected = "[x, y, width, height], four finite numbers in pixels, sizes not negative"
    x, y, width, height = row.number_list(key, expected)
    if width < 0 or height < 0:
        raise row.error(key, f"expected {expected}, got {show(row.value[key])}")
    if "score" not in row.value:  # a detector may find anything
        _check_pixels(row, key, row.value[key])
    return x, y, x + width, y + height


def _check_pixels(row: Row, key: str, value: Sequence[float]) -> None:
    """Nobody draws a box inside the first pixel: such numbers are shares of the image's sides."""
    inside = all(0 <= number <= 1 for number in value)
    if inside and any(number != int(number) for number in value):
        message = f"expected pixels, got shares of the image's sides: {show(value)}; multiply them "
        raise row.error(key, message + "by its width and height")


def one_of(row: Row, key: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """A string out of a fixed set."""
    value = row.text(key)
    if value not in known:
        names = ", ".join(repr(name) for name in known)
        raise row.error(key, f"expected one of {names}, got {value!r}{nearest(value, known)}")
    return value


def image_path(row: Row, key: str, name: Any, options: SourceOptions) -> str:
    """Resolve an image named in a row against ``options.image_root``.

    Absolute paths and images inside containers are taken as they are; relative paths must stay
    inside the root.
    """
    if isinstance(name, PackedImage):
        return _readable(row, key, name, options)
    if not isinstance(name, str) or not name.strip() or "\x00" in name:
        raise row.error(key, f"expected the path of an image file, got {show(name)}")
    if name.startswith(("http://", "https://", "data:", "file:")):
        raise row.error(key, f"expected the path of a local image file, got the URL {show(name)}")
    if os.path.isabs(name):
        path = name
    else:
        if ".." in name and os.path.normpath(name).split(os.sep)[0] == os.pardir:
            raise row.error(key, f"{name!r} leads out of the image folder {options.image_root!r}")
        path = os.path.normpath(os.path.join(options.image_root, name))
    if options.check_images and not os.path.isfile(path):
        raise row.error(key, f"no such image file: {path}")
    return _readable(row, key, path, options)


def _readable(row: Row, key: str, path: str, options: SourceOptions) -> str:
    if path in options.unreadable:
        reason = options.unreadable[path]
        raise row.error(key, f"expected an image that can be read, got {reason}")
    return path


def named_image(row: Row, key: str, pattern: str, **fields: Any) -> str:
    """The file name that a pattern such as ``COCO_val2014_{image_id:012d}.jpg`` gives."""
    try:
        return pattern.format(**fields)
    except (LookupError, ValueError, AttributeError) as error:
        message = f"the name pattern {pattern!r} does not fit {key} {row.value.get(key)!r}: {error}"
        raise row.error(key, message) from error


def is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def strict(outcomes: Iterator[Found | DataError]) -> Iterator[Found]:
    """Yield what was read; raise the first error, when the file behind ``outcomes`` is closed.

    Otherwise the error, which refers to the frames that it came through, would keep it open.
    """
    with closing(cast(Generator[Found | DataError, None, None], outcomes)) as rows:
        for row in rows:
            if isinstance(row, DataError):
                raise row
            yield row
