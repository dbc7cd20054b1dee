"""Which items a report shows as pictures, by a stated rule, and the pictures themselves."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from manyeyes.images.reading import load_image
from manyeyes.records import Box
from manyeyes.study.record import StudyItem

RULE = (
    "From every benchmark: first disagreements, the items whose scores differ most between the two "
    "arms, as many won by one as by the other while there are any; then items that both arms get "
    "wrong; then a random sample of the rest. Ties and the sample are decided by a hash of seed "
    "and item id."
)
"""The rule of `choose`, as the report states it."""

DISAGREEMENT, FAILURE, SAMPLE = "arms disagree", "both wrong", "random sample"
_LONGEST_SIDE = 640


@dataclass(frozen=True)
class Counts:
    """How many items of each kind are shown per benchmark."""

    disagreements: int = 6
    failures: int = 2
    samples: int = 4


@dataclass(frozen=True)
class Chosen:
    """An item to show, and why."""

    item: StudyItem
    reason: str


def choose(
    items: Sequence[StudyItem], contrast: tuple[str, str], *, seed: int, counts: Counts = Counts()
) -> list[Chosen]:
    """Choose the items of one benchmark to show; see `RULE`."""
    shuffled = sorted(items, key=lambda item: _order(item, seed))
    gaps = {item.id: _gap(item, contrast) for item in shuffled}
    wins = sorted((i for i in shuffled if gaps[i.id] > 0), key=lambda i: -gaps[i.id])
    losses = sorted((i for i in shuffled if gaps[i.id] < 0), key=lambda i: gaps[i.id])
    chosen = _alternate(wins, losses)[: counts.disagreements]
    shown = {item.id for item in chosen}
    wrong = [i for i in shuffled if i.id not in shown and _worst(i, contrast) == 0.0]
    wrong = wrong[: counts.failures]
    shown |= {item.id for item in wrong}
    rest = [i for i in shuffled if i.id not in shown][: counts.samples]
    return [
        *(Chosen(item, DISAGREEMENT) for item in chosen),
        *(Chosen(item, FAILURE) for item in wrong),
        *(Chosen(item, SAMPLE) for item in rest),
    ]


def most_disputed(items: Sequence[StudyItem], count: int) -> list[Chosen]:
    """Return the items whose scores differ most between any two arms, the most disputed first.

    Items on which all arms agree are never among them.
    """
    gaps = {}
    for item in items:
        scores = [answer.score for answer in item.answers.values()]
        gaps[item.id] = max(scores) - min(scores)
    disputed = sorted((i for i in items if gaps[i.id] > 0), key=lambda item: _order(item, 0))
    first = sorted(disputed, key=lambda item: -gaps[item.id])[:count]
    return [Chosen(item, DISAGREEMENT) for item in first]


def _order(item: StudyItem, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{item.benchmark}|{item.id}".encode()).hexdigest()


def _gap(item: StudyItem, contrast: tuple[str, str]) -> float:
    return item.answers[contrast[0]].score - item.answers[contrast[1]].score


def _worst(item: StudyItem, contrast: tuple[str, str]) -> float:
    return max(item.answers[arm].score for arm in contrast)


def _alternate(first: Sequence[StudyItem], second: Sequence[StudyItem]) -> list[StudyItem]:
    """First, second, first, ... and when one runs out, the rest of the other."""
    pairs = min(len(first), len(second))
    mixed = [item for pair in zip(first, second, strict=False) for item in pair]
    return [*mixed, *first[pairs:], *second[pairs:]]


def pictures(
    folder: Path, images: Sequence[str], name: str, boxes: Mapping[str, Iterable[Box]]
) -> Markup:
    """Return all images of a question, boxes drawn on the first, as SVGs that hold the images.

    Args:
        folder: what ``images`` are relative to. name: the first one's.
        boxes: CSS class -> boxes in pixels of the first.

    Raises:
        ImageError: an image is missing or cannot be decoded.
    """
    first = _picture(folder / images[0], f"Image {name}", boxes)
    if len(images) == 1:
        return first
    others = [
        _picture(folder / image, f"Image {place} of the question", {})
        for place, image in enumerate(images[1:], start=2)
    ]
    return Markup('<div class="pictures">{}</div>').format(Markup("").join([first, *others]))


def _picture(path: Path, label: str, boxes: Mapping[str, Iterable[Box]]) -> Markup:
    image = load_image(path)
    width, height = image.size
    drawn = [_rectangle(box, name) for name, group in boxes.items() for box in group]
    svg = Markup(
        '<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<image href="{}" width="{}" height="{}"/>{}</svg>'
    )
    joined = Markup("").join(drawn)
    return svg.format(width, height, label, data_uri(image), width, height, joined)


def in_pixels(box: Box) -> str:
    """Return ``[21, 1, 40, 20]``: a box in whole pixels of the original image."""
    return f"[{', '.join(f'{value:.0f}' for value in box)}]"


def data_uri(image: Image.Image) -> str:
    """Return the image as a PNG data URI, shrunk to 640 px where it is larger."""
    small = image.copy()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rectangle(box: Box, name: str) -> Markup:
    x1, y1, x2, y2 = box
    frame = Markup(
        '<rect class="box halo" x="{0:.2f}" y="{1:.2f}" width="{2:.2f}" height="{3:.2f}"/>'
        '<rect class="box {4}" x="{0:.2f}" y="{1:.2f}" width="{2:.2f}" height="{3:.2f}"/>'
    )
    return frame.format(x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1), name)
