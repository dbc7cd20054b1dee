"""The files of Visual Dialog: dialogs with their candidates, and dense annotations.

visdial_1.0_val.json   {split, data: {questions: [text], answers: [text], dialogs: [{image_id,
                       caption, dialog: [{question, answer, answer_options, gt_index}]}]}}
..._dense_annotations  [{image_id, round_id, gt_relevance: [100 numbers]}]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.files import record_rows, written_image
from manyeyes.inference.questions import Item

Relevance = Mapping[str, tuple[float, ...]]
"""Item id -> relevance of its candidates."""


@dataclass(frozen=True)
class DialogFile:
    """All texts of a file, which its dialogs name by place, and how its images are named."""

    questions: Sequence[str]
    answers: Sequence[str]
    images: str
    prompt: str

    def items(self, dialog: Row, relevance: Relevance) -> Iterator[Item]:
        """The rounds of one dialog, each with the rounds before it as history."""
        image_id = dialog.identity("image_id")
        name = self.images.format(image_id=str(image_id).zfill(12))
        image = written_image(dialog, "image_id", name)
        history = f"{dialog.text('caption').rstrip(' .')}."
        for place, value in enumerate(dialog.items("dialog", "a list of rounds")):
            row = dialog.child("dialog", place, value)
            key = round_key(image_id, place + 1)
            question = self._text(row, "question", self.questions)
            yield self._item(row, image, key, (history, question), relevance.get(key))
            if "answer" in row.value:
                history += f" {question}? {self._text(row, 'answer', self.answers)}."

    def _item(
        self,
        row: Row,
        image: str,
        key: str,
        asked: tuple[str, str],
        relevance: tuple[float, ...] | None,
    ) -> Item:
        options = row.items("answer_options", "a list of places in 'answers'")
        candidates = tuple(_at(row, "answer_options", place, self.answers) for place in options)
        if relevance is not None and len(relevance) != len(candidates):
            message = f"{len(candidates)} candidates, but {len(relevance)} relevances of {key}"
            raise row.error("answer_options", message)
        image_id, _, number = key.rpartition("/")
        return Item(
            id=key,
            image=image,
            prompt=self.prompt.format(dialog=asked[0], question=f"{asked[1]}?"),
            references=(self._right(row, candidates),),
            cluster=image_id,
            groups={"round": number},
            candidates=candidates,
            meta={"right": row.value["gt_index"], "relevance": relevance},
        )

    def _right(self, row: Row, candidates: Sequence[str]) -> str:
        place = row.get("gt_index", "the place of the human answer; test files have none")
        return _at(row, "gt_index", place, candidates)

    def _text(self, row: Row, key: str, texts: Sequence[str]) -> str:
        return _at(row, key, row.get(key, "a whole number"), texts)


def round_key(image_id: str | int, round_id: int) -> str:
    """The id of a round: ``IMAGE_ID/ROUND``, rounds counted from 1."""
    return f"{image_id}/{round_id}"


def read_dialogs(path: Path, prompt: str, relevance: Relevance) -> list[Item]:
    """One item per round of every dialog; DataError for the first broken one."""
    document = open_document(path)
    data = document.content.get("data") if document.layout == "object" else None
    if not isinstance(data, dict):
        raise DataError("expected an object with 'data'", file=str(path), key="data")
    row = Row(str(path), 1, data, "data.", unit="file")
    split = str(document.content.get("split", ""))
    file = DialogFile(_texts(row, "questions"), _texts(row, "answers"), _images(split), prompt)
    items: list[Item] = []
    for place, value in enumerate(row.items("dialogs", "a list of dialogs")):
        dialog = row.child("dialogs", place, value)
        items += file.items(Row(row.file, place + 1, dialog.value, dialog.prefix), relevance)
    if not items:
        raise DataError("holds no rounds", file=str(path), key="data.dialogs")
    return items


def read_relevance(path: Path) -> dict[str, tuple[float, ...]]:
    """Dense annotations by item id (the training file calls them ``relevance``)."""
    found = {}
    for row in record_rows(open_document(path)):
        key = "relevance" if "gt_relevance" not in row.value else "gt_relevance"
        values = row.items(key, "a list of numbers")
        if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
            raise row.error(key, f"expected numbers from 0 to 1, got {show(values)}")
        place = row.get("round_id", "a round, counted from 1")
        found[round_key(row.identity("image_id"), place)] = tuple(map(float, values))
    return found


def _images(split: str) -> str:
    """The pattern of image files: their own for val and test, COCO's for train."""
    own = f"VisualDialog_{split}/VisualDialog_{split}_{{image_id}}.jpg"
    return own if split.endswith("2018") else "COCO_train2014_{image_id}.jpg"


def _texts(row: Row, key: str) -> list[str]:
    values = row.items(key, "a list of texts")
    if not all(isinstance(value, str) for value in values):
        raise row.error(key, f"expected a list of texts, got {show(values)}")
    return values


def _at(row: Row, key: str, place: object, texts: Sequence[str]) -> str:
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(texts):
        raise row.error(key, f"expected a place from 0 to {len(texts) - 1}, got {show(place)}")
    return texts[place]
