"""Pictures with labels to probe for: COCO instances, or the scene files of the built-in world.

Every label file gives things: a picture, a box, classes, and in a scene what lies in front of what.
From them the tasks are made; one that the labels do not allow is left out, with the reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from manyeyes.data.containers.documents import open_document
from manyeyes.data.files import read_samples
from manyeyes.errors import DataError, UsageError
from manyeyes.images.reading import box_map, image_size
from manyeyes.probes.tasks import Rows, Task
from manyeyes.records import Box

CATEGORY, MARK, TEXT = "category", "mark", "text"
MOST_COUNTED = 10
"""Pictures with more things than this count as one class."""
HELD_SHARE = 0.4
"""Share of a single label file's pictures that probes are measured on."""
SCENE_CLASSES = ("shape", "color", "texture", MARK)
"""What a scene file says of each object."""


@dataclass(frozen=True)
class Thing:
    """One labelled object: its box in pixels, and its class by kind of class."""

    box: Box
    classes: Mapping[str, str]
    covers: tuple[int, ...] = ()
    """Places in the picture's list of things that this one lies in front of."""


@dataclass(frozen=True)
class Labelled:
    """One picture and everything that is labelled in it."""

    image: str
    size: tuple[int, int]
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class ProbeData:
    """Pictures that probes learn from and are measured on, and the tasks over them.

    ``skipped``: task -> why these labels do not allow it.
    """

    train: tuple[str, ...]
    held: tuple[str, ...]
    tasks: tuple[Task, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


def read_labels(path: Path, images: Path | None = None) -> list[Labelled]:
    """Read a label file; ``images``: the folder that its image paths are relative to.

    Raises:
        DataError: not readable, of neither kind, or a broken row, which is named.
    """
    content = open_document(path).content
    if isinstance(content, dict) and isinstance(content.get("scenes"), list):
        return _scenes(content["scenes"], images or path.parent.parent / "images", path)
    samples, _ = read_samples(path, format="coco_instances", image_root=images)
    found = []
    for sample in samples:
        entries = zip(
            sample.meta["labels"], sample.meta["boxes"], sample.meta["crowd"], strict=True
        )
        things = tuple(Thing(box, {CATEGORY: name}) for name, box, crowd in entries if not crowd)
        found.append(Labelled(sample.images[0], image_size(sample.images[0]), things))
    return found


def _scenes(scenes: Sequence[Any], images: Path, path: Path) -> list[Labelled]:
    found = []
    for number, scene in enumerate(scenes, start=1):
        try:
            boxes = [_corners(item["bbox"]) for item in scene["objects"]]
            things = tuple(
                Thing(
                    boxes[place],
                    {name: item[name] for name in SCENE_CLASSES},
                    tuple(other for other in range(place) if _overlap(boxes[other], boxes[place])),
                )
                for place, item in enumerate(scene["objects"])
            )
            size = int(scene["width"]), int(scene["height"])
            found.append(Labelled(str(images / scene["image_filename"]), size, things))
        except (KeyError, TypeError, ValueError) as error:
            message = f"expected a scene of the world, {error!r} is missing or wrong"
            raise DataError(message, file=str(path), entry=number) from error
    return found


def _corners(xywh: Sequence[float]) -> Box:
    x, y, width, height = xywh
    return (x, y, x + width, y + height)


def _overlap(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def split(labelled: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Divide pictures into those to learn from and those to measure on, by a hash of their name."""
    limit = int(HELD_SHARE * 1000)
    train: list[Labelled] = []
    held: list[Labelled] = []
    for entry in labelled:
        digest = hashlib.sha256(Path(entry.image).name.encode()).digest()
        (held if int.from_bytes(digest[:4]) % 1000 < limit else train).append(entry)
    return train, held


def make_tasks(
    train: Sequence[Labelled],
    held: Sequence[Labelled],
    *,
    geometry: str = "pad",
    only: Sequence[str] = (),
) -> ProbeData:
    """Return all tasks that the labels allow; ``geometry``: how pictures become square.

    Raises:
        UsageError: no pictures, a task that does not exist, or none that is possible.
    """
    if not train or not held:
        raise UsageError(
            f"probes need pictures to learn from and others to be measured on, got {len(train)} "
            f"and {len(held)}; give more, or a file of each with --held-out"
        )
    unknown = [name for name in only if name not in PROBE_TASKS]
    if unknown:
        raise UsageError(f"unknown task {unknown[0]!r}; known: {', '.join(PROBE_TASKS)}")
    tasks, skipped = [], {}
    for name in only or PROBE_TASKS:
        maker, title, why_not = PROBE_TASKS[name]
        found = maker(train, held, geometry)
        if found is None:
            skipped[name] = why_not
        else:
            tasks.append(replace(found, name=name, title=title))
    if not tasks:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UsageError(f"these labels allow no task ({reasons})")
    images = (tuple(e.image for e in train), tuple(e.image for e in held))
    return ProbeData(*images, tuple(tasks), skipped)


def _centre_box(entry: Labelled, box: Box, geometry: str) -> list[float]:
    """Centre x, y, width and height in 0..1 of the picture as encoders see it."""
    unit = 1000
    x1, y1, x2, y2 = box_map(*entry.size, unit, geometry=geometry).apply(box)
    x1, y1, x2, y2 = (min(max(value / unit, 0.0), 1.0) for value in (x1, y1, x2, y2))
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


@dataclass
class _Questions:
    """Rows being collected."""

    picture: list[int] = field(default_factory=list)
    place: list[list[list[float]]] = field(default_factory=list)
    named: list[int] = field(default_factory=list)
    answer: list[Any] = field(default_factory=list)

    def add(
        self, picture: int, answer: Any, *, named: int = 0, boxes: Sequence[list[float]] = ()
    ) -> None:
        self.picture.append(picture)
        self.place.append([[2 * box[0] - 1, 2 * box[1] - 1] for box in boxes])
        self.named.append(named)
        self.answer.append(answer)

    def rows(self) -> Rows:
        place = torch.tensor(self.place, dtype=torch.float32).reshape(
            len(self.place), len(self.place[0]), 2
        )
        picture, named = torch.tensor(self.picture), torch.tensor(self.named)
        return Rows(picture, place, named, torch.tensor(self.answer))


Pictures = Sequence[Labelled]
Maker = Callable[[Pictures, Pictures, str], Task | None]


def _task(kind: Any, classes: Sequence[str], sets: Sequence[_Questions]) -> Task | None:
    if len(classes) < (1 if kind != "choose" else 2) or not all(part.picture for part in sets):
        return None
    return Task("", kind, tuple(classes), sets[0].rows(), sets[1].rows())


def _main_kind(pictures: Pictures) -> str:
    """The kind of class that things of these pictures are named by."""
    kinds = {kind for entry in pictures for thing in entry.things for kind in thing.classes}
    return CATEGORY if CATEGORY in kinds else "shape"


def _known(train: Pictures, kind: str) -> list[str]:
    every = {t.classes[kind] for entry in train for t in entry.things if kind in t.classes}
    return sorted(every)


def _presence(train: Pictures, held: Pictures, geometry: str) -> Task | None:
    """Is there a C? As many classes that are there as classes that are not, of each picture."""
    kind = _main_kind(train)
    classes = _known(train, kind)
    sets = [_Questions(), _Questions()]
    for part, questions in zip((train, held), sets, strict=True):
        for number, entry in enumerate(part):
            there = [c for c in classes if any(t.classes.get(kind) == c for t in entry.things)]
            absent = [c for c in classes if c not in there]
            absent.sort(key=lambda c: hashlib.sha256(f"{entry.image}|{c}".encode()).digest())
            for answer, names in ((1, there[: len(absent)]), (0, absent[: len(there)])):
                for name in names:
                    questions.add(number, answer, named=classes.index(name))
    return _task("judge", classes, sets)


def _count(train: Pictures, held: Pictures, geometry: str) -> Task | None:
    """How many things are labelled?"""
    most = min(MOST_COUNTED, max(len(entry.things) for entry in train))
    sets = [_Questions(), _Questions()]
    for part, questions in zip((train, held), sets, strict=True):
        for number, entry in enumerate(part):
            questions.add(number, min(most, len(entry.things)))
    return _task("choose", [str(value) for value in range(most + 1)], sets)


def _of_things(kind: str) -> Maker:
    def make(train: Pictures, held: Pictures, geometry: str) -> Task | None:
        """Which class is the thing at this place?"""
        classes = _known(train, kind)
        sets = [_Questions(), _Questions()]
        for part, questions in zip((train, held), sets, strict=True):
            for number, entry in enumerate(part):
                for thing in entry.things:
                    if thing.classes.get(kind) in classes:
                        box = _centre_box(entry, thing.box, geometry)
                        questions.add(number, classes.index(thing.classes[kind]), boxes=[box])
        return _task("choose", classes, sets)

    return make


def _boxes(train: Pictures, held: Pictures, geometry: str) -> Task | None:
    """Where is the C, of which there is one?"""
    kind = "color" if _main_kind(train) != CATEGORY else CATEGORY
    classes = _known(train, kind)
    sets = [_Questions(), _Questions()]
    for part, questions in zip((train, held), sets, strict=True):
        for number, entry in enumerate(part):
            times = Counter(t.classes.get(kind) for t in entry.things)
            for thing in entry.things:
                name = thing.classes.get(kind)
                if name in classes and times[name] == 1:
                    box = _centre_box(entry, thing.box, geometry)
                    questions.add(number, box, named=classes.index(name))
    return _task("box", classes, sets)


def _text(train: Pictures, held: Pictures, geometry: str) -> Task | None:
    """Is there text? Where a category is called so."""
    if TEXT not in _known(train, CATEGORY):
        return None
    sets = [_Questions(), _Questions()]
    for part, questions in zip((train, held), sets, strict=True):
        for number, entry in enumerate(part):
            found = any(thing.classes.get(CATEGORY) == TEXT for thing in entry.things)
            questions.add(number, int(found))
    return _task("choose", ("no", "yes"), sets)


def _depth(train: Pictures, held: Pictures, geometry: str) -> Task | None:
    """Of two things whose boxes overlap: does the first lie in front?"""
    sets = [_Questions(), _Questions()]
    for part, questions in zip((train, held), sets, strict=True):
        for number, entry in enumerate(part):
            for place, thing in enumerate(entry.things):
                for other in thing.covers:
                    pair = [thing.box, entry.things[other].box]
                    first = hashlib.sha256(f"{entry.image}|{place}|{other}".encode()).digest()[0]
                    swapped = first % 2
                    boxes = [_centre_box(entry, box, geometry) for box in pair]
                    questions.add(number, 1 - swapped, boxes=boxes[::-1] if swapped else boxes)
    return _task("choose", ("behind", "in front"), sets)


PROBE_TASKS: dict[str, tuple[Maker, str, str]] = {
    "presence": (_presence, "is there one?", "no class is absent from any picture"),
    "count": (_count, "how many?", "all pictures hold as many things"),
    CATEGORY: (_of_things(CATEGORY), "category at a place", "no categories"),
    "shape": (_of_things("shape"), "shape at a place", "needs a scene file of the world"),
    "color": (_of_things("color"), "colour at a place", "needs a scene file of the world"),
    "texture": (_of_things("texture"), "texture at a place", "needs a scene file of the world"),
    MARK: (_of_things(MARK), "fine mark at a place", "needs a scene file of the world"),
    "box": (_boxes, "box of what is named (IoU)", "no class is alone of its kind in a picture"),
    "depth": (_depth, "which is in front?", "needs a scene file of the world with overlaps"),
    TEXT: (_text, "is there text?", "no category is called 'text'"),
}
"""Name of a task -> what makes it, its title, and why it may be impossible."""
