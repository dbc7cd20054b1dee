"""GQA (Hudson and Manning 2019): questions made from scene graphs; the official ``eval.py``.

Annotation files are told apart by what they hold, so their order does not matter, and each may be a
folder of chunks: questions, of which those with ``isBalanced`` are scored; choices, for validity
and plausibility; scene graphs, for grounding, which also needs an ``attention`` map ``[7][7]`` in
every prediction. Consistency needs the file of all questions, with predictions for those that the
balanced ones entail. What is not given is left out and said, where the official script prints 0.

    official   the prediction is the right answer, letter by letter
    lavis      both after VQA's punctuation step (LAVIS)
    lmms       both in lower case and without punctuation (lmms-eval)

The other two change what counts as equal in every metric here; published are their accuracies.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.gqa_files import CHOICES, QUESTIONS, locate, read
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import row_loader, row_text
from manyeyes.evaluation.benchmarks.vqa_pairs import majority_answers
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.gqa import belongs, consistency, distribution, grounding
from manyeyes.evaluation.scorers.vqa import strip_punctuation
from manyeyes.inference.questions import Item
from manyeyes.records import Score

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _lmms(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)


GQA_VARIANTS: Mapping[str, Callable[[str], str]] = {
    "official": str,
    "lavis": strip_punctuation,
    "lmms": _lmms,
}
"""What is compared of an answer, by variant; the first is the default."""


def grade(answers: Answers) -> Grade:
    """Accuracy of the balanced questions, headline, with breakdowns; then the other measures."""
    same = GQA_VARIANTS[answers.variant]
    said = {
        item.id: None if prediction is None else same(_text(prediction))
        for item, prediction in zip(answers.items, answers.predictions, strict=True)
    }
    gold = {item.id: same(item.references[0]) for item in answers.items}
    right = {identity: said[identity] == gold[identity] for identity in gold}
    balanced = [item for item in answers.items if item.required]
    if not balanced:
        raise DataError("gqa: none of the questions is balanced; only those are scored")
    values = [float(right[item.id]) for item in balanced]
    scores = [mean_score("accuracy", values, balanced)]
    scores += _by_answer_type(balanced, values)
    notes: list[str] = []
    scores += _consistency(answers, right, notes)
    scores += _allowed(balanced, said, same, notes)
    scores.append(_distribution(balanced, gold, said))
    scores += _grounding(answers, notes)
    per_item = [float(right[item.id]) if item.required else None for item in answers.items]
    return Grade(tuple(scores), per_item, notes=tuple(notes))


def _by_answer_type(items: Sequence[Item], values: Sequence[float]) -> list[Score]:
    """Accuracy of binary and of open questions; open are those of the structural type "query"."""
    kinds = ["open" if item.groups["structural"] == "query" else "binary" for item in items]
    found: dict[str, dict[str, float]] = {"binary": {}, "open": {}}
    for item, value, kind in zip(items, values, kinds, strict=True):
        found[kind][item.id] = value
    return [_plain_mean(kind, chosen, items) for kind, chosen in found.items() if chosen]


def _consistency(answers: Answers, right: Mapping[str, bool], notes: list[str]) -> list[Score]:
    balanced = [item for item in answers.items if item.required]
    followers = {item.id: item.meta["entailed"] for item in balanced}
    if not any(set(others) - {identity} for identity, others in followers.items()):
        return []
    given = zip(answers.items, answers.predictions, strict=True)
    answered = {i.id for i, prediction in given if i.required or prediction is not None}
    needed = {o for identity, others in followers.items() if right[identity] for o in others}
    lacking = len(needed - answered)
    if lacking:
        notes.append(f"consistency left out: {lacking} entailed questions have no prediction")
        return []
    return [_plain_mean("consistency", consistency(right, followers), balanced)]


def _allowed(
    items: Sequence[Item],
    said: Mapping[str, str | None],
    same: Callable[[str], str],
    notes: list[str],
) -> list[Score]:
    if "valid" not in items[0].meta:
        notes.append("validity and plausibility left out: no file of choices")
        return []
    scores = []
    for metric, key in (("validity", "valid"), ("plausibility", "plausible")):
        values = {}
        for item in items:
            answers = {same(answer) for answer in item.meta[key]}
            text = said[item.id]
            values[item.id] = float(
                text is not None and belongs(text, answers, item.meta["detailed"])
            )
        scores.append(_plain_mean(metric, values, items))
    return scores


def _distribution(
    items: Sequence[Item], gold: Mapping[str, str], said: Mapping[str, str | None]
) -> Score:
    value = distribution(
        [gold[item.id] for item in items],
        [said[item.id] or "" for item in items],
        [item.meta["group"] for item in items],
    )
    return Score("", "distribution", value, len(items))


def _grounding(answers: Answers, notes: list[str]) -> list[Score]:
    maps = {
        item.id: prediction["attention"]
        for item, prediction in zip(answers.items, answers.predictions, strict=True)
        if item.required and isinstance(prediction, Mapping) and "attention" in prediction
    }
    if not maps:
        return []
    items = [item for item in answers.items if item.required]
    if "regions" not in items[0].meta or len(maps) < len(items):
        notes.append("grounding left out: it needs scene graphs and attention in all predictions")
        return []
    values = {item.id: grounding(maps[item.id], item.meta["regions"]) for item in items}
    return [_plain_mean("grounding", values, items)]


def _plain_mean(metric: str, values: Mapping[str, float], items: Sequence[Item]) -> Score:
    """100 times the mean over the items that have a value (0 if none has), without breakdowns."""
    chosen = [item for item in items if item.id in values]
    if not chosen:
        return Score("", metric, 0.0, 0)
    return replace(mean_score(metric, [values[item.id] for item in chosen], chosen), by={})


def _text(prediction: Prediction) -> str:
    text = prediction["prediction"] if isinstance(prediction, Mapping) else prediction
    if not isinstance(text, str):
        raise DataError(f"expected a text as the prediction, got {show(text)}")
    return text


def _prediction(row: Row) -> Prediction:
    text = row_text(row, "prediction")
    if "attention" not in row.value:
        return text
    return {"prediction": text, "attention": _attention(row)}


def _attention(row: Row) -> list[list[float]]:
    """A square list of rows of finite numbers."""
    lines = row.items("attention", "a square list of lists of numbers")
    size = len(lines)
    square = all(isinstance(line, list) and len(line) == size for line in lines)
    if not size or not square or not all(_is_number(cell) for line in lines for cell in line):
        raise row.error("attention", f"expected a square list of numbers, got {show(lines)}")
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


BENCHMARK = Benchmark(
    name="gqa",
    description="compositional questions from scene graphs (GQA)",
    metric="accuracy",
    variants=tuple(GQA_VARIANTS),
    prompt="{question}",
    answer="short",
    files=(*QUESTIONS, *CHOICES),
    result_format='[{"questionId": "...", "prediction": "..."}]',
    locate=locate,
    read=read,
    grade=grade,
    constant=partial(majority_answers, breakdown="structural"),
    load=row_loader("questionId", _prediction, keyed=row_text),
)
