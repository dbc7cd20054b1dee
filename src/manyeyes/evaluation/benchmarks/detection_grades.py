"""AP and AR of detections, over all objects or over some, with intervals; for COCO and CODA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.detections import Annotated, DetectionReader
from manyeyes.evaluation.benchmarks.grounding import constant_box
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.evaluation.scorers.box_matching import WEIGHTED, MatchedBoxes, match_boxes
from manyeyes.evaluation.scorers.coco_boxes import FoundBox, Shape, TrueBox
from manyeyes.evaluation.scorers.coco_metrics import CocoMetrics, coco_metrics, default_engine
from manyeyes.inference.questions import Item
from manyeyes.records import Score

DRAWS = 500
"""Bootstrap draws of images. Matching is done once; AP is computed again for every draw."""

Counts = Callable[[Annotated], bool]
"""Whether an object counts; finding one that does not is neither right nor wrong."""


@dataclass(frozen=True)
class _Part:
    """The figures over some of the objects; their names end with ``ending``."""

    ending: str
    metrics: CocoMetrics
    matched: MatchedBoxes


def grade_detections(
    answers: Answers, parts: Mapping[str, Counts], *, agnostic: bool = False
) -> Grade:
    """COCO's table in 0..100 for every part (ending of the names -> which objects count).

    Metrics without an object to count are left out. ``agnostic`` takes all categories as one.
    Item scores are an image's own AP50 (ours), those of the first part.

    Raises:
        DataError: an unknown category, or no object counts at all.
    """
    items = answers.items
    names: Mapping[str, str] = items[0].meta["categories"]
    reader = DetectionReader(names, answers.box_style)
    places = _places(items)
    found = reader.read_all(answers, places)
    if agnostic:
        found = [replace(box, category=0) for box in found]
    found.sort(key=lambda box: box.image)  # equal scores: images in the order of their ids
    known = {identity: 0 if agnostic else place for place, identity in enumerate(names)}
    shape = Shape(len(items), 1 if agnostic else len(names))
    graded = [
        _part(ending, _truth(items, places, known, counts), found, shape)
        for ending, counts in parts.items()
    ]
    if graded[0].metrics.values["AP"] is None:
        raise DataError("no annotated object counts, so that AP is not defined")
    corpus = _corpus(graded, np.array(places))
    own = graded[0].matched.per_image()
    labels = () if agnostic else tuple(names.values())
    return Grade(
        tuple(_scores(graded, corpus, items, labels)),
        [own[place] for place in places],
        reader.unread,
        _notes(reader),
        corpus,
    )


def constant_detection(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The most frequent category with the best constant box of its objects, for every image."""
    categories = Counter(o.category for item in counted for o in item.meta["objects"])
    if not categories:
        return ["none"] * len(items)
    most = min(categories, key=lambda category: (-categories[category], category))
    objects = [
        replace(item, target=(x, y, x + w, y + h))
        for item in counted
        for x, y, w, h in (o.box for o in item.meta["objects"] if o.category == most)
    ]
    name = counted[0].meta["categories"][most]
    return [f"{name} {box}" for box in constant_box(items, objects, box_style)]


def _places(items: Sequence[Item]) -> list[int]:
    """Each item's rank by its ``order``, so that the order of the items plays no part."""
    ranked = sorted(range(len(items)), key=lambda index: items[index].meta["order"])
    places = [0] * len(items)
    for place, index in enumerate(ranked):
        places[index] = place
    return places


def _truth(
    items: Sequence[Item], places: Sequence[int], known: Mapping[str, int], counts: Counts
) -> list[TrueBox]:
    return [
        TrueBox(place, known[o.category], o.box, o.area, o.crowd, not counts(o))
        for item, place in zip(items, places, strict=True)
        for o in item.meta["objects"]
    ]


def _part(ending: str, truth: list[TrueBox], found: list[FoundBox], shape: Shape) -> _Part:
    return _Part(ending, coco_metrics(truth, found, shape), match_boxes(truth, found, shape))


def _corpus(parts: Sequence[_Part], places: np.ndarray) -> Corpus:
    def values(weights: FloatArray) -> list[float]:
        by_place = np.zeros_like(weights)
        by_place[places] = weights
        return [100.0 * value for part in parts for value in part.matched.score(by_place)]

    names = tuple(f"{name}{part.ending}" for part in parts for name in WEIGHTED)
    return Corpus(names, values, most_draws=DRAWS)


def _scores(
    parts: Sequence[_Part], corpus: Corpus, items: Sequence[Item], labels: Sequence[str]
) -> list[Score]:
    intervals = {score.metric: score.ci95 for score in corpus_scores(corpus, items)}
    scores = []
    for part in parts:
        aps = zip(labels, part.metrics.by_category, strict=False)
        by_category = {label: 100 * ap for label, ap in aps if ap is not None}
        for metric, value in part.metrics.values.items():
            name = f"{metric}{part.ending}"
            if value is not None:
                by = {"category": by_category} if metric == "AP" and by_category else {}
                scores.append(Score("", name, 100 * value, len(items), intervals.get(name), by=by))
    return scores


def _notes(reader: DetectionReader) -> tuple[str, ...]:
    engine = default_engine().replace("_", "-")
    notes = [
        f"computed by {engine} {version(engine)}",
        f"intervals from {DRAWS} bootstrap draws of images; item scores are an image's own AP50",
    ]
    if reader.texts:
        notes.append("text has no scores: boxes are ranked by their place in the answer")
    if reader.unknown:
        notes.append(f"{reader.unknown} boxes under names that are no category are left out")
    return tuple(notes)
