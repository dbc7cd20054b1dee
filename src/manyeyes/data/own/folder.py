"""A folder made of your own files, which training and benchmarks read as any other data folder.

    DIR/train.jsonl   LLaVA rows to train on (a held-out share), or to count constant answers on
    DIR/test.jsonl    LLaVA rows to ask, with ``metric``, ``references`` and the keys that group
    DIR/own.json      what it was made from, the split's seed, what was left out, what leaks

Pictures stay where they are. The folder is made again where a file or a setting changed.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manyeyes.conversation.boxes import BOX_STYLES, only_boxes
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.containers.shards import expand_shards
from manyeyes.data.files import FileReport, read_samples
from manyeyes.data.own.hold_out import hold_out
from manyeyes.data.own.metrics import METRICS
from manyeyes.data.own.questions import ROW, OwnQuestions, own_questions
from manyeyes.data.regular import check_regular
from manyeyes.data.writers import ImagePlaces
from manyeyes.data.writers.contract import write_json as write_rows
from manyeyes.data.writers.llava import row as llava_row
from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.files import write_json
from manyeyes.images.fingerprints import PictureBook, near_pairs
from manyeyes.records import Sample

TRAIN_FILE, TEST_FILE, RECORD_FILE = "train.jsonl", "test.jsonl", "own.json"
FORM = 1
"""Of the folder's files; another one is made again."""

SHARE = 0.2
MOST_COMPARED = 4000
"""Pictures that are opened to look for copies; of more, only the names are compared."""

_COUNTED = 5000
_CARRIED = ("references", "answers", "metric", "options", "choices")


@dataclass(frozen=True)
class OwnFiles:
    """What is given: training and test files in any format, and where their images lie.

    ``share`` of the training rows is held out by ``seed`` where there is no ``test``. ``metric``
    scores rows that say none themselves. ``images`` None: beside each file. ``text_boxes``: the
    style of boxes that are written in the texts (None: they are words).
    """

    train: tuple[Path, ...] = ()
    test: Path | None = None
    images: Path | None = None
    share: float = SHARE
    seed: int = 0
    metric: str | None = None
    skip_bad_rows: bool = False
    text_boxes: str | None = None


@dataclass(frozen=True)
class OwnSource:
    """A file to train on, absolute; ``image_root`` None = beside it."""

    path: str
    format: str
    image_root: str | None


_NUMBERS = {
    True: "boxes in numbers, which are trained on and scored as words; --text-boxes reads them as "
    "boxes: shikra (shares of the padded square, as in LLaVA's mixtures), lion (shares of the "
    "image), int1000",
    False: "four numbers that are no boxes of the style of --text-boxes, and stay words: are they "
    "pixels, or of another style?",
}
"""What is wrong with them, by whether no style was given."""


@dataclass(frozen=True)
class OwnData:
    """A prepared folder.

    ``rows``: training rows. ``benchmarks``: benchmark -> its questions; ``metrics`` likewise.
    ``left_out``: why answers are not asked -> how many. ``leaks``: pairs (test image, training
    image) that are one picture or copies; ``compared``: whether copies were looked for.
    ``number_answers``: answers, to learn or to give, that are boxes in numbers and stay words;
    ``text_boxes``: the style in which boxes were looked for in the texts.
    """

    folder: Path
    sources: tuple[OwnSource, ...]
    rows: int
    test_rows: int
    benchmarks: Mapping[str, int]
    metrics: Mapping[str, int]
    left_out: Mapping[str, int]
    leaks: tuple[tuple[str, str], ...]
    compared: bool
    held_out: float | None
    seed: int
    bad_rows: tuple[str, ...] = ()
    test_images: int = 0
    leaking_images: int = field(default=0)
    number_answers: int = 0
    text_boxes: str | None = None

    def notes(self) -> Iterator[str]:
        """What a person should know, a sentence each."""
        if self.sources:
            held = f", {self.test_rows} held out by image" if self.held_out else ""
            yield f"own data: {self.rows} rows to train on{held}"
        asked = ", ".join(f"{n} by {name}" for name, n in self.metrics.items())
        yield f"own data: {sum(self.metrics.values())} questions to ask: {asked}"
        for reason, count in self.left_out.items():
            yield f"own data: {count} answers are not asked ({reason})"
        if self.number_answers:
            yield f"own data: {self.number_answers} answers are {_NUMBERS[self.text_boxes is None]}"
        for text in self.bad_rows:
            yield f"own data: left out: {text}"


def prepare(files: OwnFiles, folder: str | Path) -> OwnData:
    """Make, or find, the folder of own files; return what is in it.

    Raises:
        UsageError: nothing to test on, an unknown metric, too few images for a split.
        DataError: a file or row is broken, an image missing or unreadable, or nothing can be asked.
    """
    _check(files)
    place = Path(folder)
    made_from = _inputs(files)
    found = _stored(place, made_from)
    return found if found is not None else _make(files, place, made_from)


def _check(files: OwnFiles) -> None:
    if not files.train and files.test is None:
        raise UsageError("give a file of your own data: --train FILE, --test FILE, or both")
    if files.metric is not None and files.metric not in METRICS:
        hint = nearest(files.metric, METRICS)
        raise UsageError(f"no metric {files.metric!r}{hint}; metrics: {', '.join(METRICS)}")
    if files.text_boxes is not None and files.text_boxes not in BOX_STYLES:
        hint = nearest(files.text_boxes, BOX_STYLES)
        raise UsageError(f"no box style {files.text_boxes!r}{hint}: {', '.join(BOX_STYLES)}")
    if files.images is not None and not files.images.is_dir():
        raise UsageError(f"--images {files.images}: no such folder")


def _inputs(files: OwnFiles) -> dict[str, Any]:
    """What decides the folder's content, as JSON values."""
    named = [*files.train, *([files.test] if files.test else [])]
    said = {key: str(value) for key, value in asdict(files).items()}
    shards = [shard for path in named for shard in expand_shards(str(path))]
    return {"form": FORM, **said, "state": [_state(shard) for shard in shards]}


def _state(path: str) -> list[Any]:
    check_regular(path)
    found = os.stat(path)
    return [os.path.abspath(path), found.st_size, found.st_mtime_ns]


def _stored(folder: Path, made_from: Mapping[str, Any]) -> OwnData | None:
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if record.get("made_from") != made_from:
        return None
    said = record["data"]
    sources = tuple(OwnSource(**source) for source in said.pop("sources"))
    leaks = tuple((a, b) for a, b in said.pop("leaks"))
    bad = tuple(said.pop("bad_rows"))
    return OwnData(folder=folder, sources=sources, leaks=leaks, bad_rows=bad, **said)


def _make(files: OwnFiles, folder: Path, made_from: Mapping[str, Any]) -> OwnData:
    book = PictureBook(MOST_COMPARED)
    read = [_read(path, files, book) for path in files.train]
    every = [sample for samples, _ in read for sample in samples]
    reports = [report for _, report in read]
    if files.test is not None:
        test, report = _read(files.test, files, book)
        train, reports = every, [*reports, report]
    else:
        copies = _copies(book, every)
        split = hold_out(every, files.share, files.seed, copies)
        train, test = list(split.train), list(split.test)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_test_row(sample, files.metric, ImagePlaces(folder, "images")) for sample in test]
    write_rows(rows, folder / TEST_FILE)
    asked = asked_of(folder / TEST_FILE)
    if not asked.questions:
        reasons = "; ".join(f"{n}: {reason}" for reason, n in asked.left_out.items())
        asked_file = files.test or files.train[0]
        raise DataError(f"holds no question that can be asked ({reasons})", file=str(asked_file))
    copied = files.train and (files.test is None or files.skip_bad_rows or files.text_boxes)
    counted = train if copied else train[:: max(1, len(train) // _COUNTED)]
    if train:
        places = ImagePlaces(folder, "images") if copied else _Names(folder, "images")
        write_rows((llava_row(sample, places) for sample in counted), folder / TRAIN_FILE)
    leaks = _leaks(train, test, book)
    data = OwnData(
        folder=folder,
        sources=_sources(files, folder, reports, copied=bool(copied)),
        rows=len(train),
        test_rows=len(test),
        benchmarks=dict(Counter(q.benchmark for q in asked.questions)),
        metrics=dict(Counter(q.metric for q in asked.questions)),
        left_out=dict(asked.left_out),
        leaks=tuple(leaks[:_SHOWN_LEAKS]),
        compared=len(book.known) < MOST_COMPARED,
        held_out=files.share if files.test is None else None,
        seed=files.seed,
        number_answers=_number_answers([*train, *test]),
        text_boxes=files.text_boxes,
        bad_rows=tuple(str(error) for report in reports for error in report.errors),
        test_images=len({image for sample in test for image in sample.images}),
        leaking_images=len({image for image, _ in leaks}),
    )
    said = {key: value for key, value in asdict(data).items() if key != "folder"}
    write_json(folder / RECORD_FILE, {"made_from": made_from, "data": said})
    return data


_SHOWN_LEAKS = 100


def _number_answers(samples: Sequence[Sample]) -> int:
    """Answers that are boxes in numbers."""
    turns = (turn for sample in samples if sample.images for turn in sample.turns)
    return sum(turn.role == "assistant" and only_boxes(turn.text) for turn in turns)


class _Names(ImagePlaces):
    """Images as they are called; those inside containers are not saved."""

    def path(self, image: str) -> str:
        return str(image)


def _read(path: Path, files: OwnFiles, book: PictureBook) -> tuple[list[Sample], FileReport]:
    root = str((files.images or path.parent).resolve())
    options = SourceOptions(root, keep_rows=True, text_boxes=files.text_boxes)
    return read_samples(path, options=options, skip_bad_rows=files.skip_bad_rows, open_images=book)


def _copies(book: PictureBook, samples: Sequence[Sample]) -> list[tuple[str, str]]:
    if len(book.known) >= MOST_COMPARED:
        return []
    return [(a, b) for a, b in near_pairs(book.known, book.known) if a < b]


def _leaks(
    train: Sequence[Sample], test: Sequence[Sample], book: PictureBook
) -> list[tuple[str, str]]:
    """(test image, training image): the same file, or one that looks the same."""
    seen = dict.fromkeys(image for sample in train for image in sample.images)
    asked = dict.fromkeys(image for sample in test for image in sample.images)
    same = [(image, image) for image in asked if image in seen]
    known = book.known
    near = near_pairs(
        {image: known[image] for image in asked if image in known and image not in seen},
        {image: known[image] for image in seen if image in known},
    )
    return same + near


def asked_of(path: str | Path) -> OwnQuestions:
    """Return the questions of a file in any training format, images as its rows name them.

    Raises:
        DataError: the file or a row is broken.
    """
    return _asked(str(path), *_state(str(path))[1:])


@functools.lru_cache(maxsize=4)
def _asked(path: str, size: int, changed: int) -> OwnQuestions:
    """Several benchmarks ask the same file."""
    samples, _ = read_samples(path, options=SourceOptions(".", keep_rows=True))
    return own_questions(samples, path)


def _test_row(sample: Sample, metric: str | None, places: ImagePlaces) -> dict[str, Any]:
    """A LLaVA row with what scoring needs besides."""
    row = llava_row(sample, places)
    said = sample.meta.get(ROW, {})
    known = {**{k: v for k, v in sample.meta.items() if k != ROW}, **said}
    for key, value in known.items():
        plain = isinstance(value, str | int | float | bool) and key not in _RESERVED
        if key not in row and (plain or key in _CARRIED):
            row[key] = value
    if metric is not None:
        row.setdefault("metric", metric)
    return row


_RESERVED = frozenset(
    "image images img_path conversations messages boxes points target box bbox image_id file_path "
    "sentence query response expression question answer text caption".split()
)
"""Keys that would make another format, or say what the row says already."""


def _sources(
    files: OwnFiles, folder: Path, reports: Sequence[FileReport], *, copied: bool
) -> tuple[OwnSource, ...]:
    if copied:
        return (OwnSource(str((folder / TRAIN_FILE).resolve()), "llava", str(folder.resolve())),)
    root = None if files.images is None else str(files.images.resolve())
    named = zip(files.train, reports, strict=False)
    return tuple(OwnSource(str(path.resolve()), report.format, root) for path, report in named)
