"""Predictions files: the layouts that official result files have in common.

    rows        a JSON list of objects, or JSON lines, with an id and an answer under fixed keys
    by id       one JSON object {id: answer}
    evaluate    the ``predictions-BENCHMARK.jsonl`` of ``manyeyes evaluate`` ({"id", "prediction"})

Ids may be whole numbers or texts and become texts. Everything that is not as it should be is a
``DataError`` with file, line (or place in the list) and key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from manyeyes.data.containers.documents import Document, holds_lists, open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.files import record_rows
from manyeyes.evaluation.contract import Prediction

Loader = Callable[[Path], dict[str, Prediction]]

_OWN_KEYS = ("id", "prediction", "key", "raw")
"""What rows of ``manyeyes evaluate`` hold and official rows do not."""


def text_loader(id_key: str, answer_key: str) -> Loader:
    """A loader of texts under ``answer_key``; also takes ``{id: text}`` and evaluate's rows."""

    def parse(row: Row) -> Prediction:
        return row_text(row, answer_key)

    return row_loader(id_key, parse, keyed=row_text)


def row_loader(
    id_key: str,
    parse: Callable[[Row], Prediction],
    *,
    keyed: Callable[[Row, str], Prediction] | None = None,
) -> Loader:
    """A loader of one row per id; ``parse`` turns a row into its prediction.

    ``keyed`` (row of the whole object, key) makes the prediction of ``{id: value}`` files; without
    it they are refused.
    """

    def load(path: Path) -> dict[str, Prediction]:
        document = open_document(path)
        if is_keyed(document, id_key):
            if keyed is None:
                message = f"expected a list or lines of objects with {id_key!r}"
                raise DataError(message, file=document.path)
            whole = document.whole()
            return {key: keyed(whole, key) for key in document.content}
        found: dict[str, Prediction] = {}
        for row in record_rows(document):
            own = is_own(row)
            key = unique_id(row, "id" if own else id_key, found)
            found[key] = own_prediction(row) if own else parse(row)
        return found

    return load


def result_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON list or of JSON lines, in order; for layouts with several rows an id.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON, or the first broken row.
    """
    return record_rows(open_document(path))


def is_own(row: Row) -> bool:
    """Whether a row was written by ``manyeyes evaluate``."""
    return all(key in row.value for key in _OWN_KEYS)


def own_prediction(row: Row) -> Prediction:
    """The prediction of a row of `is_own`: a text, or what a ranking gave (losses)."""
    value = row.get("prediction", "a text, an object or a list")
    if not isinstance(value, str | dict | list):
        raise row.error("prediction", f"expected a text, an object or a list, got {show(value)}")
    return value


def unique_id(row: Row, key: str, seen: dict[str, Prediction]) -> str:
    """The row's id as text; DataError if it is missing, of a wrong type, or was seen before."""
    identity = str(row.identity(key))
    if identity in seen:
        raise row.error(key, f"{identity!r} occurs twice; expected one prediction per id")
    return identity


def keyed_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The entries of ``{id: {...}}`` in order, each id with its object.

    Raises:
        DataError: the file is no such object, or holds an id twice.
    """
    document = open_document(path)
    if document.layout != "object":
        raise DataError("expected one JSON object, id -> prediction", file=document.path)
    for number, (key, value) in enumerate(document.content.items(), start=1):
        if not isinstance(value, dict):
            message = f"expected an object, got {show(value)}"
            raise DataError(message, file=document.path, entry=number, key=key)
        yield key, Row(document.path, number, value, f"{key}.")


def row_text(row: Row, key: str) -> str:
    """The text under a key, which may be empty; DataError if it is missing or no text."""
    value = row.get(key, "a text")
    if not isinstance(value, str):
        raise row.error(key, f"expected a text, got {show(value)}")
    return value


def is_keyed(document: Document, *id_keys: str) -> bool:
    """One object that is no single row; DataError if it is a file of questions or annotations."""
    if document.layout != "object":
        return False
    if holds_lists(document.content):
        message = f"holds questions or annotations, not predictions with {id_keys[-1]!r}"
        raise DataError(message, file=document.path)
    keys = document.content.keys()
    return keys.isdisjoint(id_keys) and not keys >= set(_OWN_KEYS)
