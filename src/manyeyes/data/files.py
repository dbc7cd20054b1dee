"""Data files to samples: format by content, every broken row named, nothing skipped in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from manyeyes.data.containers.documents import Document, holds_lists, holds_objects, open_document
from manyeyes.data.containers.rows import Row, SourceOptions, strict
from manyeyes.data.exclusion import Exclusion
from manyeyes.data.opened_images import ImageOpener, OpenImages
from manyeyes.data.readers import READERS, Outcome
from manyeyes.data.text_boxes import with_boxes
from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.records import Sample

MAX_LISTED = 100
"""Broken rows kept with their message per file; all are counted."""

_PROBED_RECORDS = 20


@dataclass(frozen=True)
class FileReport:
    """What was found in a file: good samples, broken rows, and the first errors in file order.

    ``excluded`` samples show images of evaluation sets and are not among the good ones; ``leaks``
    names the first of them. ``images`` were opened, of which ``unreadable`` could not be read; each
    of their rows is broken.
    """

    path: str
    format: str
    samples: int
    broken: int
    errors: tuple[DataError, ...]
    excluded: int = 0
    leaks: tuple[str, ...] = ()
    images: int = 0
    unreadable: int = 0

    def summary(self) -> str:
        """One line: how many rows were good, broken and excluded, and where the first ones are."""
        text = f"{self.path}: {self.samples} samples ({self.format}), "
        text += f"{self.broken} broken" if self.broken else "no broken rows"
        text += f"; {self.unreadable} unreadable images" if self.unreadable else ""
        text += f"; first: {self.errors[0]}" if self.errors else ""
        if self.excluded:
            text += f"; {self.excluded} left out, as {self.leaks[0]}"
        return text


def detect_format(path: str | Path) -> str:
    """Name the format (a key of ``READERS``) of a data file by its content.

    Raises:
        DataError: the file cannot be read, or none of the known formats fits.
    """
    return _detect(open_document(path))


def iter_samples(
    path: str | Path,
    *,
    format: str = "auto",
    image_root: str | Path | None = None,
    options: SourceOptions | None = None,
) -> Iterator[Sample]:
    """Yield a file's samples in order; stop at the first broken row.

    ``image_root`` defaults to the folder of the file; ``options`` replaces it where more is said.

    Raises:
        DataError: the first broken row, with file, line (or place in its list) and key.
        UsageError: an unknown ``format``.
    """
    _, outcomes = outcomes_of(path, format, options or _options(path, image_root))
    yield from strict(outcomes)


def read_samples(
    path: str | Path,
    *,
    format: str = "auto",
    image_root: str | Path | None = None,
    options: SourceOptions | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    exclusion: Exclusion | None = None,
    open_images: OpenImages | None = None,
) -> tuple[list[Sample], FileReport]:
    """Read a whole file. With ``skip_bad_rows`` broken rows are left out, counted and named.

    ``options`` replaces ``image_root`` where more is said; ``limit`` keeps the first samples;
    samples with an image of ``exclusion`` are left out, counted and named. With ``open_images``
    (see `opened_images`) a row is broken as well if one of its images cannot be read.

    Raises:
        DataError: the first broken row, unless ``skip_bad_rows``; a file without any sample.
        UsageError: an unknown ``format``.
    """
    chosen = options or _options(path, image_root)
    chosen = replace(chosen, check_images=chosen.check_images or open_images is not None)
    opened: set[str] = set()
    while True:
        samples, report = _read(path, format, chosen, skip_bad_rows, limit, exclusion)
        if open_images is None:
            return samples, report
        new = {image for sample in samples for image in sample.images} - opened
        unreadable = open_images(sorted(new)) if new else {}
        opened |= new
        if not unreadable:
            bad = len(chosen.unreadable)
            return samples, replace(report, images=len(opened), unreadable=bad)
        chosen = replace(chosen, unreadable={**chosen.unreadable, **unreadable})


def _read(
    path: str | Path,
    format: str,
    options: SourceOptions,
    skip_bad_rows: bool,
    limit: int | None,
    exclusion: Exclusion | None,
) -> tuple[list[Sample], FileReport]:
    """One pass over a file; raises like `read_samples`."""
    name, outcomes = outcomes_of(path, format, options)
    samples: list[Sample] = []
    tally = Tally(str(path), name, exclusion=exclusion)
    for outcome in outcomes if skip_bad_rows else strict(outcomes):
        done = limit is not None and len(samples) >= limit
        if done and not isinstance(outcome, DataError):
            break
        if (sample := tally.take(outcome)) is not None:
            samples.append(sample)
    if not samples:
        raise DataError(f"holds no usable sample{tally.reason()}", file=str(path))
    return samples, tally.report()


def check_file(
    path: str | Path,
    image_root: str | Path | None = None,
    *,
    format: str = "auto",
    options: SourceOptions | None = None,
    max_listed: int = MAX_LISTED,
    exclusion: Exclusion | None = None,
    open_images: OpenImages | None = None,
) -> FileReport:
    """Go through a whole file and report its broken rows; also images that cannot be read.

    Every image is opened, unless ``options`` are given without ``check_images``. A fault of the
    file as a whole (not JSON, unknown format) is reported as one error as well. Each broken row
    counts once, with the first thing that is wrong with it. Samples with an image of ``exclusion``
    are counted and named. ``open_images``: see `opened_images`; by default a new `ImageOpener`.

    Raises:
        UsageError: an unknown ``format``.
    """
    chosen = options or replace(_options(path, image_root), check_images=True)
    images: dict[str, None] = {}
    report = _check(path, format, chosen, max_listed, exclusion, images)
    if not chosen.check_images or not images:
        return report
    unreadable = (open_images or ImageOpener())(images)
    if unreadable:
        chosen = replace(chosen, unreadable=unreadable)
        report = _check(path, format, chosen, max_listed, exclusion, {})
    return replace(report, images=len(images), unreadable=len(unreadable))


def _check(
    path: str | Path,
    format: str,
    options: SourceOptions,
    max_listed: int,
    exclusion: Exclusion | None,
    images: dict[str, None],
) -> FileReport:
    """One pass over a file; the images of good samples are added to ``images``."""
    tally = Tally(str(path), format, max_listed, exclusion)
    try:
        tally.format, outcomes = outcomes_of(path, format, options)
        for outcome in outcomes:
            if (sample := tally.take(outcome)) is not None:
                images |= dict.fromkeys(sample.images)
    except DataError as error:
        tally.take(error)
    return tally.report()


@dataclass
class Tally:
    """Counts outcomes as they come and keeps the first errors and leaks."""

    path: str
    format: str
    max_listed: int = MAX_LISTED
    exclusion: Exclusion | None = None
    samples: int = 0
    broken: int = 0
    excluded: int = 0
    errors: list[DataError] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def take(self, outcome: Outcome) -> Sample | None:
        """Count one outcome; return it if it is a sample to be used."""
        if isinstance(outcome, DataError):
            self.broken += 1
            self.errors.extend([outcome] if len(self.errors) < self.max_listed else [])
            return None
        leak = self.exclusion.leak(outcome) if self.exclusion else None
        if leak is not None:
            self.excluded += 1
            self.leaks.extend([leak] if len(self.leaks) < self.max_listed else [])
            return None
        self.samples += 1
        return outcome

    def report(self) -> FileReport:
        """What was counted."""
        errors, leaks = tuple(self.errors), tuple(self.leaks)
        return FileReport(
            self.path, self.format, self.samples, self.broken, errors, self.excluded, leaks
        )

    def reason(self) -> str:
        """Why there is no sample at all, for a message; "" for an empty file."""
        if self.errors:
            return f"; the first of {self.broken} broken rows: {self.errors[0]}"
        if self.leaks:
            return f"; the first of {self.excluded} excluded ones: {self.leaks[0]}"
        return ""


def _options(path: str | Path, image_root: str | Path | None) -> SourceOptions:
    return SourceOptions(os.fspath(image_root or Path(path).parent))


def outcomes_of(
    path: str | Path, format: str, options: SourceOptions
) -> tuple[str, Iterator[Outcome]]:
    """The format's name and the file's samples and errors as they are read.

    Raises:
        DataError: the file as a whole is broken; also while it is being read.
        UsageError: an unknown ``format``.
    """
    if format != "auto" and format not in READERS:
        known = ", ".join(sorted(READERS))
        raise UsageError(
            f"unknown data format {format!r}{nearest(format, READERS)}; known: auto, {known}"
        )
    document = open_document(path)
    name = _detect(document) if format == "auto" else format
    if (READERS[name].layout == "object") != _is_container(document):
        wanted = "one JSON object" if READERS[name].layout == "object" else "a list or lines"
        raise DataError(f"expected {wanted} for format {name!r}", file=str(path))
    outcomes = READERS[name].read(document, options)
    if options.text_boxes is not None:
        outcomes = with_boxes(outcomes, options.text_boxes)
    return name, outcomes


def _detect(document: Document) -> str:
    container = _is_container(document)
    layout = "object" if container else "records"
    probes: list[Mapping[str, Any]] = [document.content] if container else _first(document)
    # most of the first records decide: one that lacks a key may look like another format's
    known_as = (_format_of(probe, layout) for probe in probes)
    found = Counter(name for name in known_as if name is not None)
    if found:
        return found.most_common(1)[0][0]
    known = ", ".join(sorted(READERS))
    keys = ", ".join(sorted(map(repr, probes[0]))[:12]) if probes else "no readable record"
    message = f"is in no known format (its first keys: {keys}); known: {known}"
    raise DataError(message, file=document.path)


def _format_of(probe: Mapping[str, Any], layout: str) -> str | None:
    """The format that a record, or a whole object, looks like."""
    fitting = (n for n, reader in READERS.items() if reader.layout == layout)
    return next((name for name in fitting if READERS[name].matches(probe)), None)


def _is_container(document: Document) -> bool:
    content = document.content
    return document.layout == "object" and (holds_lists(content) or holds_objects(content))


def _first(document: Document) -> list[Mapping[str, Any]]:
    rows = islice(document.records(), _PROBED_RECORDS)
    return [row.value for row in rows if isinstance(row, Row)]
