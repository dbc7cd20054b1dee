"""Data files to samples: format by content, every broken row named, nothing skipped in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from manyeyes.data.documents import Document, holds_lists, holds_objects, open_document
from manyeyes.data.readers import READERS, Outcome
from manyeyes.data.rows import Row, SourceOptions
from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.records import Sample

MAX_LISTED = 100
"""Broken rows kept with their message per file; all are counted."""

_PROBED_RECORDS = 20


@dataclass(frozen=True)
class FileReport:
    """What was found in a file: good samples, broken rows, and the first errors in file order."""

    path: str
    format: str
    samples: int
    broken: int
    errors: tuple[DataError, ...]

    def summary(self) -> str:
        """One line: how many rows were good, how many broken, and where the first one is."""
        if not self.broken:
            return f"{self.path}: {self.samples} samples ({self.format}), no broken rows"
        first = f"first: {self.errors[0]}"
        return f"{self.path}: {self.samples} samples ({self.format}), {self.broken} broken; {first}"


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
    _, outcomes = _outcomes(path, format, options or _options(path, image_root))
    for outcome in outcomes:
        if isinstance(outcome, DataError):
            raise outcome
        yield outcome


def read_samples(
    path: str | Path,
    *,
    format: str = "auto",
    image_root: str | Path | None = None,
    options: SourceOptions | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
) -> tuple[list[Sample], FileReport]:
    """Read a whole file. With ``skip_bad_rows`` broken rows are left out, counted and named.

    ``options`` replaces ``image_root`` where more is said; ``limit`` keeps the first samples.

    Raises:
        DataError: the first broken row, unless ``skip_bad_rows``; a file without any sample.
        UsageError: an unknown ``format``.
    """
    name, outcomes = _outcomes(path, format, options or _options(path, image_root))
    samples: list[Sample] = []
    errors: list[DataError] = []
    broken = 0
    for outcome in outcomes:
        if isinstance(outcome, Sample):
            if limit is not None and len(samples) >= limit:
                break
            samples.append(outcome)
        elif skip_bad_rows:
            broken += 1
            errors.extend([outcome] if broken <= MAX_LISTED else [])
        else:
            raise outcome
    if not samples:
        first = f"; the first of {broken} broken rows: {errors[0]}" if errors else ""
        raise DataError(f"holds no usable sample{first}", file=str(path))
    return samples, FileReport(str(path), name, len(samples), broken, tuple(errors))


def check_file(
    path: str | Path,
    image_root: str | Path | None = None,
    *,
    format: str = "auto",
    options: SourceOptions | None = None,
    max_listed: int = MAX_LISTED,
) -> FileReport:
    """Go through a whole file and report its broken rows; also missing image files.

    A fault of the file as a whole (not JSON, unknown format) is reported as one error as well.
    Each broken row counts once, with the first thing that is wrong with it.

    Raises:
        UsageError: an unknown ``format``.
    """
    chosen = options or replace(_options(path, image_root), check_images=True)
    name, samples, broken = format, 0, 0
    errors: list[DataError] = []
    try:
        name, outcomes = _outcomes(path, format, chosen)
        for outcome in outcomes:
            if isinstance(outcome, Sample):
                samples += 1
            else:
                broken += 1
                errors.extend([outcome] if broken <= max_listed else [])
    except DataError as error:
        broken += 1
        errors.append(error)
    return FileReport(str(path), name, samples, broken, tuple(errors))


def _options(path: str | Path, image_root: str | Path | None) -> SourceOptions:
    return SourceOptions(os.fspath(image_root or Path(path).parent))


def _outcomes(
    path: str | Path, format: str, options: SourceOptions
) -> tuple[str, Iterator[Outcome]]:
    """The format's name and its outcomes; the first of them may still raise."""
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
    return name, READERS[name].read(document, options)


def _detect(document: Document) -> str:
    container = _is_container(document)
    layout = "object" if container else "records"
    probes: list[Mapping[str, Any]] = [document.content] if container else _first(document)
    for probe in probes:
        for name, reader in READERS.items():
            if reader.layout == layout and reader.matches(probe):
                return name
    known = ", ".join(sorted(READERS))
    keys = ", ".join(sorted(map(repr, probes[0]))[:12]) if probes else "no readable record"
    message = f"is in no known format (its first keys: {keys}); known: {known}"
    raise DataError(message, file=document.path)


def _is_container(document: Document) -> bool:
    content = document.content
    return document.layout == "object" and (holds_lists(content) or holds_objects(content))


def _first(document: Document) -> list[Mapping[str, Any]]:
    rows = islice(document.records(), _PROBED_RECORDS)
    return [row.value for row in rows if isinstance(row, Row)]
