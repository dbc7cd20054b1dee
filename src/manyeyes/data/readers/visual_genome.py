"""Visual Genome: ``region_descriptions.json`` and ``question_answers.json``.

    [{id, regions: [{region_id, image_id, x, y, width, height, phrase}]}]
    [{id, qas: [{qa_id, image_id, question, answer}]}]

A region becomes "What is at <boxes>?" with its phrase: many regions of an image may share a phrase,
so the box is in the question, never the answer. Images lie in two folders that only
``image_data.json`` tells apart (``options.annotations``, or found beside the file); without it they
are ``{image_id}.jpg`` or named by ``options.image_name``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manyeyes.data.containers.documents import Document, open_document
from manyeyes.data.containers.rows import (
    Row,
    SourceOptions,
    image_path,
    named_image,
    numbers,
    strict,
)
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import REGION_PROMPT, ask, say
from manyeyes.errors import DataError
from manyeyes.records import Sample

_OFFICIAL_NAME = "{image_id}.jpg"
_SIZES = "x, y, width, height: finite numbers in pixels, sizes not negative"

Folders = Mapping[int, str]
"""Image id -> path in the official folders, as ``VG_100K_2/1.jpg``."""


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``regions``, or with ``qas``."""
    return "regions" in record or "qas" in record


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per region or question; an error for an image that cannot be used."""
    folders = image_folders(document.path, options)
    for row in document.records():
        if isinstance(row, DataError):
            yield row
            continue
        key, parse = ("regions", _region) if "regions" in row.value else ("qas", _question)
        try:
            members = row.items(key, "a list of objects")
        except DataError as error:
            yield error
            continue
        for index, value in enumerate(members):
            try:
                yield parse(row.child(key, index, value), row, folders, options)
            except DataError as error:
                yield error


def image_folders(path: str, options: SourceOptions) -> Folders:
    """Paths by image id out of ``image_data.json``; empty where there is none.

    Raises:
        DataError: the file is broken.
    """
    beside = Path(path).parent / "image_data.json"
    chosen = options.annotations or (str(beside) if beside.is_file() else None)
    if chosen is None or options.image_name is not None:
        return {}
    found = {}
    for row in strict(open_document(chosen).records()):
        identity = _number(row, "image_id")
        if identity in found:
            raise row.error("image_id", f"{identity} is there twice")
        found[identity] = "/".join(row.text("url").split("/")[-2:])
    return found


def _region(row: Row, image: Row, folders: Folders, options: SourceOptions) -> Sample:
    identity, path = _image(row, image, folders, options)
    written = [row.get(key, "a number of pixels") for key in ("x", "y", "width", "height")]
    x, y, width, height = numbers(row, "x", written, _SIZES)
    if width < 0 or height < 0:
        raise row.error("width", f"expected {_SIZES}, got {written}")
    box = (x, y, x + width, y + height)
    phrase = " ".join(row.text("phrase").split())
    meta = {"image_id": identity, "phrase": phrase, "box": box}
    turns = (ask(REGION_PROMPT, ((box,),)), say(phrase))
    return Sample(str(row.identity("region_id")), (path,), turns, "region", meta)


def _question(row: Row, image: Row, folders: Folders, options: SourceOptions) -> Sample:
    identity, path = _image(row, image, folders, options)
    question, answer = row.text("question").strip(), row.text("answer").strip()
    number = row.identity("qa_id")
    meta = {"image_id": identity, "question_id": number, "question": question, "answer": answer}
    return Sample(str(number), (path,), (ask(question), say(answer)), "vqa", meta)


def _image(row: Row, image: Row, folders: Folders, options: SourceOptions) -> tuple[int, str]:
    """Id and path of a region's image; the id stands on the region or on the image around it."""
    identity = _number(row, "image_id") if "image_id" in row.value else _number(image, "id")
    name = folders.get(identity)
    if name is None:
        if folders:
            raise row.error("image_id", f"expected an id of image_data.json, got {identity}")
        pattern = options.image_name or _OFFICIAL_NAME
        name = named_image(row, "image_id", pattern, image_id=identity)
    return identity, image_path(row, "image_id", name, options)


def _number(row: Row, key: str) -> int:
    value = row.identity(key)
    if not isinstance(value, int):
        raise row.error(key, f"expected a whole number, got {value!r}")
    return value
