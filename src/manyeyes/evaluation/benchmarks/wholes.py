"""Scores of wholes: pairs and groups that must be right throughout, and means of groups' means.

Both say how much of the same right and wrong answers counts; benchmarks differ in that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyeyes.evaluation.benchmarks.choices import grade_choices
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.measures import PERCENT, Corpus, corpus_scores, mean_score
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.inference.questions import Item
from manyeyes.records import Score

_Tree = NDArray[np.int64] | list["_Tree"]


def all_right(
    metric: str, right: Sequence[float], items: Sequence[Item], key: str
) -> tuple[Score, list[float | None]]:
    """Share in 0..100 of the units whose items are all right; ``key`` of ``Item.meta`` names them.

    Also the units' own values, each at its first item, None at the others. Items without the key
    belong to no unit.
    """
    units: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        if key in item.meta:
            units.setdefault(item.meta[key], []).append(place)
    values: list[float | None] = [None] * len(items)
    for places in units.values():
        values[places[0]] = float(all(right[place] for place in places))
    heads = [_whole([items[place] for place in places]) for places in units.values()]
    wholes = [values[places[0]] or 0.0 for places in units.values()]
    return mean_score(metric, wholes, heads), values


def mean_of_means(
    right: Sequence[float], items: Sequence[Item], levels: Sequence[str]
) -> Callable[[FloatArray], float]:
    """A function of item weights: the mean, in 0..100, over the groups of the first level of the
    means over those of the next, down to the items. Groups that weigh nothing are left out.
    """
    values = np.array(right)
    tree = _tree(items, list(range(len(items))), levels)

    def mean(branch: _Tree, weights: FloatArray) -> float | None:
        if isinstance(branch, np.ndarray):
            weight = weights[branch]
            total = float(weight.sum())
            return float(weight @ values[branch]) / total if total else None
        found = [value for part in branch if (value := mean(part, weights)) is not None]
        return sum(found) / len(found) if found else None

    return lambda weights: PERCENT * (mean(tree, weights) or 0.0)


def _tree(items: Sequence[Item], places: list[int], levels: Sequence[str]) -> _Tree:
    """The places of the items by the groups of each level, one in another."""
    if not levels:
        return np.array(places)
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(items[place].groups.get(levels[0], ""), []).append(place)
    return [_tree(items, group, levels[1:]) for group in groups.values()]


def _whole(members: Sequence[Item]) -> Item:
    """An item that stands for a unit, in the groups that all of its members are in."""
    shared = set(members[0].groups.items()).intersection(*(m.groups.items() for m in members))
    return replace(
        members[0], groups={k: v for k, v in members[0].groups.items() if (k, v) in shared}
    )


def macro_grader(levels: Mapping[str, Sequence[str]]) -> Callable[[Answers], Grade]:
    """A grader of accuracy, by variant as the mean over the groups of the variant's breakdowns.

    No breakdowns: the mean over all questions. The other figure stands beside it in a note.
    """

    def grade(answers: Answers) -> Grade:
        plain = grade_choices(answers)
        chosen = levels[answers.variant]
        if not chosen:
            return plain
        right = [float(value or 0.0) for value in plain.per_item]
        mean = mean_of_means(right, answers.items, chosen)
        corpus = Corpus(("accuracy",), lambda weights: [mean(weights)])
        (score,) = corpus_scores(corpus, answers.items)
        note = f"mean over {chosen[-1]}; over all questions it is {plain.scores[0].value:.2f}"
        return replace(plain, scores=(score,), corpus=corpus, notes=(*plain.notes, note))

    return grade
