"""One row for each answer: question–answer lines, RefCOCO-style lines, VQA questions with answers.

These formats hold one question about one image (``question_answer``: also several or none). What
they cannot hold is an error that names the sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.data.writers.contract import ImagePlaces, write_json
from manyeyes.errors import DataError
from manyeyes.files import write_json as write_object
from manyeyes.images.reading import image_size
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, Sample, Turn

_REC_WORDS = ("Where is ", "? Give its box.")
"""What our own question puts around an expression; others are kept whole."""


@dataclass(frozen=True)
class _Exchange:
    sample: Sample
    id: str
    question: str
    answer: Turn


def write_question_answer(samples: Iterable[Sample], path: Path, places: ImagePlaces) -> None:
    """``{question_id, image, question, answer, category}``; ``answer`` is a list of several."""
    write_json((_pair(exchange, places) for exchange in _exchanges(samples)), path)


def write_refcoco(samples: Iterable[Sample], path: Path, places: ImagePlaces) -> None:
    """``{sent_id, image, expression, bbox: [x, y, width, height], width, height}``."""
    write_json((_reference(exchange, places) for exchange in _exchanges(samples)), path)


def write_vqa(samples: Iterable[Sample], path: Path, places: ImagePlaces) -> None:
    """VQAv2's pair of files: questions at ``path``, and ``NAME_annotations.json`` beside it.

    Images are numbered in the order in which they come; each question also names its file.
    """
    numbers: dict[str, int] = {}
    questions, annotations = [], []
    for number, exchange in enumerate(_exchanges(samples), start=1):
        pair = _pair(exchange, places)
        if not isinstance(pair.get("image"), str):
            raise _refused(exchange, "VQA's files hold one image for each question")
        image = numbers.setdefault(pair["image"], len(numbers) + 1)
        named = {"image_id": image, "question_id": number}
        questions.append({**named, "question": pair["question"], "image": pair["image"]})
        annotations.append({**named, **_vqa_answers(pair)})
    stem = path.stem.removesuffix("_questions")
    write_object(path.with_name(f"{stem}_annotations.json"), {"annotations": annotations})
    write_object(path, {"questions": questions})


def _vqa_answers(pair: dict[str, Any]) -> dict[str, Any]:
    answers = pair["answer"] if isinstance(pair["answer"], list) else [pair["answer"]]
    best = max(answers, key=answers.count)
    kinds = {"yes": "yes/no", "no": "yes/no"}
    return {
        "multiple_choice_answer": best,
        "question_type": pair.get("category", "own"),
        "answer_type": kinds.get(best.lower(), "number" if best.isdecimal() else "other"),
        "answers": [{"answer": text, "answer_id": at} for at, text in enumerate(answers, start=1)],
    }


def _pair(exchange: _Exchange, places: ImagePlaces) -> dict[str, Any]:
    text = exchange.answer.text
    if BOXES_PLACEHOLDER in text + exchange.question:
        raise _refused(exchange, "question–answer rows hold no boxes")
    images = [places.path(image) for image in exchange.sample.images]
    row: dict[str, Any] = {"question_id": exchange.id}
    if images:
        row["image"] = images[0] if len(images) == 1 else images
    answers = list(exchange.sample.meta.get("answers", ()))
    row |= {"question": exchange.question, "answer": answers if len(answers) > 1 else text}
    return row | ({"category": exchange.sample.task} if exchange.sample.task else {})


def _reference(exchange: _Exchange, places: ImagePlaces) -> dict[str, Any]:
    sample, answer = exchange.sample, exchange.answer
    one = answer.text.strip() == BOXES_PLACEHOLDER and len(answer.boxes[0]) == 1
    if not one or len(sample.images) != 1 or BOXES_PLACEHOLDER in exchange.question:
        raise _refused(exchange, "referring expressions are answered by one box in one image")
    x1, y1, x2, y2 = answer.boxes[0][0]
    width, height = image_size(sample.images[0])
    return {
        "sent_id": exchange.id,
        "image": places.path(sample.images[0]),
        "expression": _expression(exchange.question),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "width": width,
        "height": height,
    }


def _expression(question: str) -> str:
    before, after = _REC_WORDS
    if question.startswith(before) and question.endswith(after):
        return question.removeprefix(before).removesuffix(after)
    return question


def _exchanges(samples: Iterable[Sample]) -> Iterator[_Exchange]:
    for sample in samples:
        turns = sample.turns
        places = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
        for number, place in enumerate(places, start=1):
            name = sample.id if len(places) == 1 else f"{sample.id}#{number}"
            asked = turns[place - 1].text.replace(IMAGE_PLACEHOLDER, "").strip()
            yield _Exchange(sample, name, asked, turns[place])


def _refused(exchange: _Exchange, why: str) -> DataError:
    return DataError(f"sample {exchange.id!r}: {why}; leave such rows out or choose --to llava")
