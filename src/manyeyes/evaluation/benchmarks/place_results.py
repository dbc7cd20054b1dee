"""Results that name an option by its place: ``{"results": {ID: 2}}`` (IconQA, ScienceQA)."""

from __future__ import annotations

from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.choices import parse_losses
from manyeyes.evaluation.benchmarks.files import record_rows
from manyeyes.evaluation.benchmarks.results import is_own, own_prediction, unique_id
from manyeyes.evaluation.contract import Prediction


def load_places(path: Path) -> dict[str, Prediction]:
    """Read ``{"results": {pid: answer}}``, ``{pid: answer}``, or rows of question_id and answer.

    A whole number is the place of a choice (or the number in a blank); ``losses`` of all choices
    may stand for the answer of a row.
    """
    document = open_document(path)
    if document.layout == "object" and "question_id" not in document.content:
        content = document.content.get("results", document.content)
        if not isinstance(content, dict):
            raise DataError(
                f"expected an object, got {show(content)}", file=str(path), key="results"
            )
        whole = Row(str(path), 1, content, unit="file")
        return {key: _answer(whole, key) for key in content}
    found: dict[str, Prediction] = {}
    for row in record_rows(document):
        if is_own(row):
            found[unique_id(row, "id", found)] = own_prediction(row)
        else:
            losses = "losses" in row.value
            key = unique_id(row, "question_id", found)
            found[key] = parse_losses(row, "losses") if losses else _answer(row, "answer")
    return found


def _answer(row: Row, key: str) -> Prediction:
    value = row.get(key, "a text or a whole number")
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return {"choice": value}
    raise row.error(key, f"expected a text or a whole number, got {show(value)}")
