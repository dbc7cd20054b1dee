"""GQA's files: questions, choices and scene graphs, each one file or a folder of chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks.files import Source, find_file, written_image
from manyeyes.evaluation.scorers.gqa import Region, reasoning_steps
from manyeyes.inference.questions import Item

QUESTIONS = (
    "annotations/gqa_{split}_questions.json",
    "{split}_balanced_questions.json",
    "questions/{split}_balanced_questions.json",
    "{split}_all_questions.json",
    "questions/{split}_all_questions.json",
)
CHOICES = (
    "annotations/gqa_{split}_choices.json",
    "{split}_choices.json",
    "eval/{split}_choices.json",
)
SEMANTIC = {
    "attr": "attribute",
    "cat": "category",
    "global": "scene",
    "obj": "object",
    "rel": "relation",
}
"""GQA's short names of semantic types, as the official script displays them."""

Kind = Literal["questions", "choices", "scenes"]
_SIGNS: Mapping[str, Kind] = {"question": "questions", "valid": "choices", "objects": "scenes"}


@dataclass
class _Contents:
    """All rows by kind and id."""

    questions: dict[str, Row] = field(default_factory=dict)
    choices: dict[str, Row] = field(default_factory=dict)
    scenes: dict[str, Row] = field(default_factory=dict)


def locate(source: Source) -> list[Path]:
    """The split's questions (balanced before all), and its choices if they are there."""
    found = _file_or_chunks(source, QUESTIONS, "GQA questions")
    with suppress(DataError):
        found += _file_or_chunks(source, CHOICES, "GQA choices")
    return found


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; those that are not balanced are not required to have a prediction.

    Raises:
        DataError: a file is none of GQA's, or a question's choices or regions are missing from a
            file that was given.
        UsageError: no file of questions.
    """
    contents = _contents(paths)
    if not contents.questions:
        raise UsageError(f"no file of GQA questions among {', '.join(map(str, paths))}")
    return [_item(key, row, contents, prompt) for key, row in contents.questions.items()]


def _contents(paths: Sequence[Path]) -> _Contents:
    """Everything that the files hold; of a folder, its JSON files."""
    contents = _Contents()
    for path in paths:
        for chunk in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            for kind, row in _rows(chunk):
                known = getattr(contents, kind)
                identity = row.prefix.removesuffix(".")
                if identity in known:
                    raise row.error(None, f"{identity!r} is in another of the {kind} files too")
                known[identity] = row
    return contents


def _file_or_chunks(source: Source, patterns: Sequence[str], what: str) -> list[Path]:
    """A file, or the chunks ``NAME/NAME_*.json`` that may stand for ``NAME.json``."""
    for pattern in patterns:
        whole = source.data_dir / pattern.format(split=source.split)
        chunks = sorted(whole.with_suffix("").glob(f"{whole.stem}_*.json"))
        if chunks and not whole.is_file():
            return chunks
    return [find_file(source, patterns, what)]


def _rows(path: Path) -> Iterator[tuple[Kind, Row]]:
    """What one file holds; the kind follows from its first entry."""
    document = open_document(path)
    if document.layout != "object":
        raise DataError("expected one of GQA's files, an object by id", file=document.path)
    first = next(iter(document.content.values()), None)
    kinds = [kind for sign, kind in _SIGNS.items() if isinstance(first, dict) and sign in first]
    if not kinds:
        message = "is none of GQA's files: expected questions, choices or scene graphs by id"
        raise DataError(message, file=document.path)
    for number, (key, value) in enumerate(document.content.items(), start=1):
        if not isinstance(value, dict):
            message = f"expected an object, got {show(value)}"
            raise DataError(message, file=document.path, entry=number, key=key)
        yield kinds[0], Row(document.path, number, value, f"{key}.")


def _item(identity: str, row: Row, contents: _Contents, prompt: str) -> Item:
    image = str(row.identity("imageId"))
    question = row.text("question")
    balanced = row.get("isBalanced", "true or false")
    if not isinstance(balanced, bool):
        raise row.error("isBalanced", f"expected true or false, got {show(balanced)}")
    structural, semantic, detailed = _types(row)
    meta: dict[str, Any] = {
        "detailed": detailed,
        "group": _child(row, "groups").value.get("global"),
        "entailed": _entailed(row),
    }
    if contents.choices and balanced:
        meta |= _choices(row, contents.choices.get(identity))
    if contents.scenes and balanced:
        meta["regions"] = tuple(_regions(row, contents.scenes.get(image)))
    return Item(
        id=identity,
        image=written_image(row, "imageId", image),
        prompt=prompt.format(question=question.strip()),
        references=(_answer(row),),
        cluster=image,
        groups={
            "structural": structural,
            "semantic": SEMANTIC.get(semantic, semantic),
            "words": str(len(question.split())),
            "steps": str(_steps(row)),
        },
        meta=meta,
        required=balanced,
    )


def _entailed(row: Row) -> tuple[str, ...]:
    if "entailed" not in row.value:
        return ()
    return tuple(str(key) for key in row.items("entailed", "a list of question ids"))


def _answer(row: Row) -> str:
    answer = row.get("answer", "a text")
    if not isinstance(answer, str):
        raise row.error("answer", f"expected a text, got {show(answer)}")
    return answer


def _types(row: Row) -> tuple[str, str, str]:
    types = _child(row, "types")
    detailed = types.value.get("detailed")
    return types.text("structural"), types.text("semantic"), str(detailed or "")


def _steps(row: Row) -> int:
    program = row.items("semantic", "a list of operations")
    for index, step in enumerate(program):
        checked = row.child("semantic", index, step)
        checked.get("operation", "a text")
        checked.get("argument", "a text")
    return reasoning_steps(program)


def _choices(question: Row, row: Row | None) -> dict[str, frozenset[str]]:
    if row is None:
        raise question.error(None, "is not in the file of choices")
    return {key: frozenset(row.items(key, "a list of texts")) for key in ("valid", "plausible")}


def _regions(question: Row, scene: Row | None) -> Iterator[Region]:
    """The annotated objects of the question and of the full answer, one region each time.

    Values with several object ids, separated by commas, are as many regions (ours; the official
    script knows single ids only).
    """
    if scene is None:
        raise question.error("imageId", "is not in the file of scene graphs")
    objects = _child(scene, "objects").value
    width, height = (scene.get(key, "a number of pixels") for key in ("width", "height"))
    annotations = _child(question, "annotations")
    for key in ("question", "fullAnswer"):
        for pointer in _child(annotations, key).value.values():
            for identity in str(pointer).split(","):
                box = objects.get(identity)
                if not isinstance(box, dict) or not {"x", "y", "w", "h"} <= set(box):
                    raise annotations.error(key, f"names {identity!r}, no object with a box")
                x, y, w, h = (float(box[side]) for side in "xywh")
                yield x / width, y / height, (x + w) / width, (y + h) / height


def _child(row: Row, key: str) -> Row:
    value = row.get(key, "an object")
    if not isinstance(value, dict):
        raise row.error(key, f"expected an object, got {show(value)}")
    return row.within(value, f"{row.prefix}{key}.")
