"""Flickr30k Entities: phrases of captions with their boxes (BryanPlummer/flickr30k_entities).

``train.txt``, ``val.txt`` and ``test.txt`` list image ids; beside them ``Sentences/ID.txt`` holds a
caption a line, ``[/EN#chain/type words]`` around every phrase, and ``Annotations/ID.xml`` the boxes
by chain. A chain may have several boxes, or none (a scene, nothing to see). Pixels count from 1 in
the files and from 0 here, as in the data set's own Python code.

One sample per caption: the image's description with the boxes behind each phrase that has some.
``meta`` holds ``image_id``, ``sentence`` (its number, from 0) and ``size``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, show
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import GROUNDED_CAPTION_PROMPT, ask, say
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError
from manyeyes.lines import split_lines
from manyeyes.records import BOXES_PLACEHOLDER, Box, Sample

_PHRASE = re.compile(r"\[/EN#([^/\s\]]+)((?:/[^/\s\]]+)+)\s+([^\[\]]+)\]")


@dataclass(frozen=True)
class Phrase:
    """Words of a caption; ``chain`` names what they refer to in the image ("0": nothing)."""

    chain: str
    types: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Sentence:
    """A caption as its plain words and phrases in order."""

    pieces: tuple[str | Phrase, ...]

    @property
    def text(self) -> str:
        """The caption without marks."""
        return " ".join(p.text if isinstance(p, Phrase) else p for p in self.pieces)

    @property
    def phrases(self) -> list[Phrase]:
        """The phrases in order."""
        return [piece for piece in self.pieces if isinstance(piece, Phrase)]


@dataclass(frozen=True)
class Entities:
    """One image: its captions, the boxes of its chains in pixels, its (width, height)."""

    image_id: str
    sentences: tuple[Sentence, ...]
    boxes: Mapping[str, tuple[Box, ...]]
    size: tuple[int, int]

    def boxed(self, sentence: Sentence) -> list[Phrase]:
        """The phrases of a caption that have boxes."""
        return [phrase for phrase in sentence.phrases if phrase.chain in self.boxes]


def matches(content: Mapping[str, Any]) -> bool:
    """A list of image ids with the folders beside it, which is how ``train.txt`` is opened."""
    return "image_ids" in content


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per caption; an error for an image whose files are missing or broken."""
    for row in _rows(document):
        try:
            entities = entities_of(row)
            yield from _samples(row, entities, options)
        except DataError as error:
            yield error


def all_entities(document: Document) -> Iterator[Entities]:
    """The images of a list in order; raises the first ``DataError``."""
    for row in _rows(document):
        yield entities_of(row)


def entities_of(row: Row) -> Entities:
    """The image that a line of the list names; raises ``DataError``."""
    identity, folder = str(row.identity("image_id")), Path(row.file).parent
    if not identity.isalnum():
        raise row.error(None, f"expected the id of an image, got {show(identity)}")
    boxes, size = read_annotation(folder / "Annotations" / f"{identity}.xml")
    sentences = read_sentences(folder / "Sentences" / f"{identity}.txt")
    return Entities(identity, tuple(sentences), boxes, size)


def read_sentences(path: Path) -> list[Sentence]:
    """The captions of a file, one a line.

    Raises:
        DataError: missing, not UTF-8, or brackets that are no phrase, with the line.
    """
    check_regular(path)
    try:
        lines = split_lines(path.read_bytes().decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(_reason(error), file=str(path)) from error
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    return [parse_sentence(line, file=str(path), line=n) for n, line in numbered]


def parse_sentence(text: str, *, file: str | None = None, line: int | None = None) -> Sentence:
    """``A [/EN#1/people young man] runs .`` -> a sentence; raises ``DataError``."""
    pieces: list[str | Phrase] = []
    end = 0
    for found in _PHRASE.finditer(text):
        pieces += text[end : found.start()].split()
        types = tuple(found[2].strip("/").split("/"))
        pieces.append(Phrase(found[1], types, " ".join(found[3].split())))
        end = found.end()
    pieces += text[end:].split()
    broken = next((p for p in pieces if isinstance(p, str) and p.startswith("[/EN#")), None)
    if broken is not None:
        message = f"expected [/EN#chain/type words], got a phrase that begins with {broken!r}"
        raise DataError(message, file=file, line=line)
    return Sentence(tuple(pieces))


def read_annotation(path: Path) -> tuple[dict[str, tuple[Box, ...]], tuple[int, int]]:
    """Boxes by chain, and (width, height), of an annotation file.

    Raises:
        DataError: missing, not XML, with a document type (entities are never expanded), or a box
            that is none.
    """
    root = _parse_xml(path)
    size = _number(root, "size/width", path), _number(root, "size/height", path)
    boxes: dict[str, list[Box]] = {}
    for number, element in enumerate(root.findall("object"), start=1):
        if element.find("bndbox") is None:
            continue
        sides = [_number(element, f"bndbox/{s}", path) for s in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = (float(side - 1) for side in sides)
        if x2 < x1 or y2 < y1:
            message = f"expected xmin <= xmax and ymin <= ymax, got {sides} in object {number}"
            raise DataError(message, file=str(path), key="bndbox")
        for name in element.findall("name"):
            boxes.setdefault((name.text or "").strip(), []).append((x1, y1, x2, y2))
    return {chain: tuple(found) for chain, found in boxes.items()}, size


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Refuses a document type before any entity of it can be expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError("has a document type (<!DOCTYPE>), which annotations never have")


def _parse_xml(path: Path) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        parser.feed(path.read_bytes())
        root = parser.close()
    except DataError as error:
        raise DataError(str(error), file=str(path)) from error
    except ElementTree.ParseError as error:
        raise DataError(f"is not XML: {error}", file=str(path), line=error.position[0]) from error
    except (OSError, ValueError, LookupError) as error:
        raise DataError(_reason(error), file=str(path)) from error
    assert isinstance(root, ElementTree.Element), "the builder makes elements"
    return root


def _number(element: ElementTree.Element, place: str, path: Path) -> int:
    text = element.findtext(place)
    if text is None or not re.fullmatch(r"\s*\d{1,6}\s*", text, re.ASCII):
        message = f"expected a whole number of pixels, got {show(text)}"
        raise DataError(message, file=str(path), key=place)
    return int(text)


def _rows(document: Document) -> Iterator[Row]:
    for number, identity in enumerate(document.content["image_ids"], start=1):
        yield Row(document.path, number, {"image_id": identity}, unit="line")


def _samples(row: Row, entities: Entities, options: SourceOptions) -> Iterator[Sample]:
    path = image_path(row, "image_id", f"{entities.image_id}.jpg", options)
    for number, sentence in enumerate(entities.sentences):
        pieces, groups = [], []
        for piece in sentence.pieces:
            pieces.append(piece.text if isinstance(piece, Phrase) else piece)
            if isinstance(piece, Phrase) and piece.chain in entities.boxes:
                pieces.append(BOXES_PLACEHOLDER)
                groups.append(entities.boxes[piece.chain])
        meta = {"image_id": entities.image_id, "sentence": number, "size": entities.size}
        turns = (ask(GROUNDED_CAPTION_PROMPT), say(" ".join(pieces), tuple(groups)))
        identity = f"{entities.image_id}/{number}"
        yield Sample(identity, (path,), turns, "grounded_caption", meta)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
