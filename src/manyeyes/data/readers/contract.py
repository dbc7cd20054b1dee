"""What a reader is: it recognises one file format and turns its rows into samples, or errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions
from manyeyes.errors import DataError
from manyeyes.records import Sample

Outcome = Sample | DataError
"""One row's result. Errors are values here: the caller stops, counts or lists them."""


@dataclass(frozen=True)
class Reader:
    """One file format.

    ``layout``: rows stand alone (``records``: a JSON list or lines) or share one ``object``.
    ``matches``: whether a record (or the object) looks like this format; no full check.
    ``read``: yields one outcome per row, in file order; raises ``DataError`` only for faults of the
    file as a whole.
    """

    description: str
    layout: Literal["records", "object"]
    matches: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Document, SourceOptions], Iterator[Outcome]]


def convert_rows(
    document: Document, options: SourceOptions, parse: Callable[[Row, SourceOptions], Sample]
) -> Iterator[Outcome]:
    """Apply a row validator to every record of a document."""
    for row in document.records():
        yield row if isinstance(row, DataError) else attempt(parse, row, options)


def attempt(
    parse: Callable[[Row, SourceOptions], Sample], row: Row, options: SourceOptions
) -> Outcome:
    """Parse one row; a ``DataError`` is returned instead of raised."""
    try:
        sample = parse(row, options)
    except DataError as error:
        return error
    return replace(sample, meta={**sample.meta, "row": row.value}) if options.keep_rows else sample
