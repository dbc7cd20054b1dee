"""Detected objects as text for the prompt, and back (MR-MLLM's perception forward block, E8).

    square [0.156,0.203,0.469,0.438] 0.98; circle [0.500,0.500,0.750,0.750] 0.71

Boxes are written in the recipe's box style. The paper's template was not available: this one, the
threshold, the budgets and the augmentation are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from transformers import PreTrainedTokenizerBase

from manyeyes.conversation.boxes import format_boxes, parse_boxes
from manyeyes.errors import DataError, RecipeError
from manyeyes.options import check_choice, parse_options
from manyeyes.records import USES, Box, Detection, Detections, Sample

FORMS = ("prompt", "adapter")
NO_OBJECT = "none"
"""The whole text where nothing was detected."""

REFINE_PROMPT = "Correct and complete the detected objects."
"""Instruction of text-mode refinement (MR-MLLM §3; wording ours)."""

_ESCAPES = str.maketrans({";": ",", "[": "(", "]": ")", "<": "(", ">": ")"})
_SCORE = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class PerceptionOptions:
    """How detected objects become text."""

    detector: str | None = None
    """The encoder whose objects are written where a sample brings none. By default the only
    detector there is."""
    form: str = "prompt"
    """``prompt`` writes words before the question. ``adapter`` pools each object's words, and the
    shared queries read them."""
    min_score: float = 0.7
    """Objects with a lower score are left out."""
    max_objects: int = 20
    """At most so many objects, the best-scored ones."""
    max_tokens: int | None = None
    """Most tokens of an image's text, ``lead`` included. The worst-scored objects are left out
    until it fits."""
    scores: bool = True
    """Write the scores too."""
    whole_pixels: bool = False
    """Round boxes to whole pixels first, for a language model that knows no finer numbers."""
    lead: str = "Detected objects: "
    """What stands before the list."""
    file: str | None = None
    """In evaluation, objects come from this file of the data folder instead of the detector. It has
    COCO's layout; ``{split}`` is replaced."""
    use: str = "given"
    """Each image gets its own objects of ``file`` (``given``), another image's (``shuffled``), or
    none (``empty``)."""
    drop_objects: float = 0.1
    """In training: share of objects that are left out."""
    drop_text: float = 0.1
    """In training: share of samples that get no text of objects."""

    def __post_init__(self) -> None:
        check_choice("perception_text", "form", self.form, FORMS)
        check_choice("perception_text", "use", self.use, USES)
        for key in ("min_score", "drop_objects", "drop_text"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise RecipeError(f"perception_text.{key}: {getattr(self, key)!r} is not in 0..1")
        for key in ("max_objects", "max_tokens"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise RecipeError(f"perception_text.{key}: {value!r} is not at least 1")


@dataclass(frozen=True)
class ParsedObject:
    """An object that was read, and the range of characters [first, last) of its name."""

    found: Detection
    name_span: tuple[int, int]


@dataclass(frozen=True)
class ParsedObjects:
    """What was read in a text, in its order, and the items that could not be, as they stand."""

    items: tuple[ParsedObject, ...]
    malformed: tuple[str, ...] = ()

    @property
    def objects(self) -> Detections:
        """The objects alone."""
        return tuple(item.found for item in self.items)


def written_name(label: str) -> str:
    """Return a class name as it is written: one line, separators replaced by their like.

    Raises:
        DataError: nothing is left.
    """
    name = " ".join(label.translate(_ESCAPES).split())
    if not name:
        raise DataError(f"an object's class name is empty: {label!r}")
    return name


def best_first(objects: Sequence[Detection]) -> Detections:
    """Return objects by falling score, then name, then box; without a score first."""
    return tuple(sorted(objects, key=lambda o: (-_score(o), o.label, o.box)))


def largest_first(objects: Sequence[Detection]) -> Detections:
    """Return objects by falling area, then name, then box."""

    def area(box: tuple[float, float, float, float]) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    return tuple(sorted(objects, key=lambda o: (-area(o.box), o.label, o.box)))


def format_objects(
    objects: Sequence[Detection], *, style: str, width: int, height: int, scores: bool = True
) -> str:
    """Write objects in their order, ``none`` where there is none; see the module.

    Raises:
        DataError: a box that is none, or an empty class name.
        UsageError: an unknown box style or an impossible image size.
    """
    items = [format_object(o, style, (width, height), scores=scores) for o in objects]
    return "; ".join(items) or NO_OBJECT


def format_object(
    found: Detection, style: str, size: tuple[int, int], *, scores: bool = True
) -> str:
    """Write one object of an image of ``size`` (width, height) pixels."""
    box = format_boxes([found.box], style=style, width=size[0], height=size[1])
    score = f" {found.score:.2f}" if scores and found.score is not None else ""
    return f"{written_name(found.label)} {box}{score}"


def parse_objects(text: str, *, style: str, width: int, height: int) -> ParsedObjects:
    """Read a text that a language model wrote, in any state; never fails because of the text.

    An item is a name, one box of the style, and perhaps a score in 0..1; whatever else stands
    between two ``;`` is malformed. The inverse of `format_objects` within the written precision.

    Raises:
        UsageError: an unknown box style or an impossible image size.
    """
    parse_boxes("", style=style, width=width, height=height)
    items, malformed = [], []
    start = 0
    for part in text.split(";"):
        item = _parse_item(part, style, (width, height))
        if item is not None:
            found, (first, last) = item
            items.append(ParsedObject(found, (start + first, start + last)))
        elif part.strip(" \t\n.") and part.strip(" \t\n.").casefold() != NO_OBJECT:
            malformed.append(part.strip())
        start += len(part) + 1
    return ParsedObjects(tuple(items), tuple(malformed))


def _parse_item(
    text: str, style: str, size: tuple[int, int]
) -> tuple[Detection, tuple[int, int]] | None:
    """Read one item; also the range of its name. None = malformed."""
    name, opening, rest = text.partition("[")
    box, closing, written = rest.partition("]")
    label, number = name.strip(), written.strip().rstrip(".")
    if not (label and opening and closing) or "]" in label:
        return None
    groups = parse_boxes(f"[{box}]", style=style, width=size[0], height=size[1])
    if len(groups) != 1 or len(groups[0]) != 1 or (number and not _SCORE.fullmatch(number)):
        return None
    score = float(number) if number else None
    if score is not None and score > 1.0:
        return None
    first = len(name) - len(name.lstrip())
    return Detection(label, groups[0][0], score), (first, first + len(label))


class ObjectWriter:
    """Objects of one image to the text of a prompt, by the recipe's options.

    Args:
        options, style: of the recipe. count: how many of the language model's tokens a text has.
    """

    def __init__(self, options: PerceptionOptions, style: str, count: Callable[[str], int]) -> None:
        self.options, self.style, self.count = options, style, count

    def chosen(self, objects: Sequence[Detection]) -> Detections:
        """Return the objects that may be written, best first; without a score they are sure."""
        kept = [o for o in objects if _score(o) >= self.options.min_score]
        return best_first(kept)[: self.options.max_objects]

    def items(self, objects: Sequence[Detection], size: tuple[int, int]) -> list[str]:
        """Return each object's own text within all budgets, ``none`` alone where there is none.

        Empty where not even one fits. ``size``: (width, height) of the image in pixels.
        """
        chosen = self.chosen(objects)
        if self.options.whole_pixels:
            chosen = tuple(replace(o, box=_rounded(o.box)) for o in chosen)
        written = [
            format_object(o, self.style, size, scores=self.options.scores) for o in chosen
        ] or [NO_OBJECT]
        if self.options.max_tokens is not None:
            written = written[: self._fitting(written, self.options.max_tokens)]
        return written

    def texts(self, objects: Sequence[Detections], sizes: Sequence[tuple[int, int]]) -> list[str]:
        """Return the text of every image, see ``text``.

        Raises:
            DataError: objects of another number of images.
        """
        return [self.text(found, size) for found, size in pairs(objects, sizes)]

    def text(self, objects: Sequence[Detection], size: tuple[int, int]) -> str:
        """Return the text of one image, "" where not even one object fits the budget."""
        return self._join(self.items(objects, size))

    def _join(self, items: Sequence[str]) -> str:
        return self.options.lead + "; ".join(items) if items else ""

    def _fitting(self, items: Sequence[str], most: int) -> int:
        """The largest number of first items whose text is at most ``most`` tokens long."""
        number = len(items)
        while number and self.count(self._join(items[:number])) > most:
            number -= 1
        return number


def pairs(
    objects: Sequence[Detections], sizes: Sequence[tuple[int, int]]
) -> list[tuple[Detections, tuple[int, int]]]:
    """Return each image's objects with its size.

    Raises:
        DataError: objects of another number of images.
    """
    if len(objects) != len(sizes):
        raise DataError(f"detected objects of {len(objects)} for {len(sizes)} image(s)")
    return list(zip(objects, sizes, strict=True))


def object_writer(
    values: Mapping[str, Any] | None, style: str, tokenizer: PreTrainedTokenizerBase
) -> ObjectWriter | None:
    """Return the writer of a ``perception_text:`` block; None where there is no block.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    if values is None:
        return None

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return ObjectWriter(parse_options(PerceptionOptions, values, "perception_text"), style, count)


def augmented(sample: Sample, options: PerceptionOptions, seed: int) -> Sample:
    """Leave out objects, or all of them, as training does; equal arguments give equal samples."""
    if sample.objects is None:
        return sample
    random = Random(seed)
    if random.random() < options.drop_text:
        return replace(sample, objects=None)
    objects = []
    for found in sample.objects:
        kept = [o for o in found if random.random() >= options.drop_objects]
        objects.append(tuple(kept))
    return replace(sample, objects=tuple(objects))


def _rounded(box: Box) -> Box:
    x1, y1, x2, y2 = (float(round(value)) for value in box)
    return (x1, y1, x2, y2)


def _score(found: Detection) -> float:
    return 1.0 if found.score is None else found.score
