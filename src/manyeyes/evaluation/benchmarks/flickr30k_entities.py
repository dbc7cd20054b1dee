"""Phrase grounding on Flickr30k Entities: recall at IoU 0.5 of the phrases that have boxes.

A phrase may have several boxes. The two protocols in use (MDETR's evaluator has both):

    any-box      right if a box overlaps any of them
    merged-box   right if a box overlaps the smallest box around all of them

The item id is ``IMAGE/CAPTION/PHRASE``: the number of the caption, and that of the phrase among
those of the caption that have boxes, both from 0. Predictions may hold several boxes, best first;
recall@k takes the first k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.readers import flickr30k_entities
from manyeyes.data.readers.flickr30k_entities import Entities
from manyeyes.data.readers.prompts import REC_PROMPT
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.grounding import box_answer, constant_box, predicted_boxes
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import is_own, result_rows, row_text, unique_id
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.rec import IOU_THRESHOLD
from manyeyes.images.overlap import iou
from manyeyes.inference.questions import Item
from manyeyes.records import Box, Score

PROMPT = REC_PROMPT.replace("{expression}", "{phrase}")
VARIANTS = ("any-box", "merged-box")
FILES = ("{split}.txt", "flickr30k_entities/{split}.txt")
RANKS = (1, 5, 10)


def read(path: Path, prompt: str) -> list[Item]:
    """One item per phrase with boxes; a prompt may also hold ``{sentence}``."""
    document = open_document(path)
    if not isinstance(document.content, dict) or not flickr30k_entities.matches(document.content):
        message = (
            "expected a list of image ids with the folders Sentences and Annotations beside it"
        )
        raise DataError(message, file=str(path))
    return [
        item
        for entities in flickr30k_entities.all_entities(document)
        for item in _items(entities, prompt)
    ]


def grade(answers: Answers) -> Grade:
    """Recall at 1, 5 and 10 in 0..100, by phrase type; a phrase counts for all of its types."""
    given = list(zip(answers.items, answers.predictions, strict=True))
    found = [predicted_boxes(item, prediction, answers.box_style) for item, prediction in given]
    targets = [_targets(item, answers.variant) for item in answers.items]
    scores = [
        _recall(rank, [_hits(f[:rank], t) for f, t in zip(found, targets, strict=True)], answers)
        for rank in RANKS
    ]
    first = [_hits(f[:1], t) for f, t in zip(found, targets, strict=True)]
    unread = sum(not f and p is not None for f, (_, p) in zip(found, given, strict=True))
    return Grade(tuple(scores), first, unread)


def load(path: Path) -> dict[str, Prediction]:
    """``{image_id, sentence_id, boxes}`` with a list of boxes per phrase, or ``{id, answer}``."""
    found: dict[str, Prediction] = {}
    for row in result_rows(path):
        if is_own(row):
            found[unique_id(row, "id", found)] = row_text(row, "prediction")
        elif "boxes" not in row.value:
            found[unique_id(row, "id", found)] = box_answer(row, "answer")
        else:
            sentence = f"{row.identity('image_id')}/{row.identity('sentence_id')}"
            for number, boxes in enumerate(row.items("boxes", "a list of boxes per phrase")):
                phrase = replace(row, value={"id": f"{sentence}/{number}", "boxes": boxes})
                if isinstance(boxes, str):
                    raise phrase.error("boxes", "expected lists of numbers, got a text")
                found[unique_id(phrase, "id", found)] = box_answer(phrase, "boxes")
    return found


def _items(entities: Entities, prompt: str) -> list[Item]:
    return [
        Item(
            id=f"{entities.image_id}/{number}/{place}",
            image=f"{entities.image_id}.jpg",
            prompt=prompt.format(phrase=phrase.text, sentence=sentence.text),
            references=(),
            cluster=entities.image_id,
            answer="boxes",
            target=_around(entities.boxes[phrase.chain]),
            size=entities.size,
            meta={"boxes": entities.boxes[phrase.chain], "types": phrase.types},
        )
        for number, sentence in enumerate(entities.sentences)
        for place, phrase in enumerate(entities.boxed(sentence))
    ]


def _targets(item: Item, variant: str) -> Sequence[Box]:
    boxes: Sequence[Box] = item.meta["boxes"]
    return (_around(boxes),) if variant == "merged-box" else boxes


def _hits(found: Sequence[Box], targets: Sequence[Box]) -> float:
    return float(any(iou(box, target) >= IOU_THRESHOLD for box in found for target in targets))


def _around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _recall(rank: int, hits: Sequence[float], answers: Answers) -> Score:
    by_type: dict[str, list[float]] = {}
    for item, hit in zip(answers.items, hits, strict=True):
        for name in item.meta["types"]:
            by_type.setdefault(name, []).append(hit)
    by = {name: 100 * sum(own) / len(own) for name, own in sorted(by_type.items())}
    score = mean_score(f"recall@{rank}", hits, answers.items)
    return replace(score, by={"phrase_type": by})


BENCHMARK = Benchmark(
    name="flickr30k-entities",
    description="boxes of a caption's phrases, recall at IoU 0.5 (Flickr30k Entities)",
    metric="recall@1",
    variants=VARIANTS,
    prompt=PROMPT,
    answer="boxes",
    files=FILES,
    result_format='[{"image_id": ..., "sentence_id": ..., "boxes": [[[x1, y1, x2, y2], ...], ...]}]'
    ' or [{"id": "IMAGE/CAPTION/PHRASE", "answer": "[x1,y1,x2,y2]"}]',
    holds="list of Flickr30k Entities images",
    read_one=read,
    grade=grade,
    constant=constant_box,
    load=load,
)
