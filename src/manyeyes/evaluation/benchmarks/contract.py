"""What a benchmark is: files to items, answers to scores, and the best constant answer.

A benchmark file builds one `Benchmark` out of a few functions (``read``, ``grade``, ``constant``)
and gets limits, missing and unknown predictions, variants and baselines from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.evaluation.contract import AnswerKind, BenchmarkResult, Item
from manyeyes.evaluation.statistics import FloatArray, cluster_bootstraps, estimate_mean
from manyeyes.records import Score

T = TypeVar("T")

_YEAR = re.compile(r"20\d\d$")


@dataclass(frozen=True)
class Source:
    """Where a split lies and how its questions are put."""

    data_dir: Path
    split: str
    prompt: str


@dataclass(frozen=True)
class Answers:
    """Items with their answers in the same order (None: no prediction) and how to read them."""

    items: Sequence[Item]
    texts: Sequence[str | None]
    variant: str
    box_style: str


@dataclass(frozen=True)
class Grade:
    """A grader's result: scores (headline first), item scores in order, unparsable answers."""

    scores: tuple[Score, ...]
    per_item: Sequence[float]
    parse_failures: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constant:
    """Answers chosen without looking at any image, by item id, and where they were counted."""

    answers: Mapping[str, str]
    source: str


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    ``metric`` is the headline; ``variants`` the known scoring rules, default first; ``prompt`` the
    template of the question; ``files`` the accepted file names, ``{split}`` to be filled in;
    ``result_format`` the official layout of a predictions file.
    ``locate`` finds a split's files (DataError if they are missing), ``read`` makes items of them,
    ``grade`` scores answers, ``constant`` chooses answers for ``items`` from ``counted`` items.
    """

    name: str
    description: str
    metric: str
    variants: tuple[str, ...]
    prompt: str
    answer: AnswerKind
    files: tuple[str, ...]
    result_format: str
    locate: Callable[[Source], list[Path]]
    read: Callable[[Source], list[Item]]
    grade: Callable[[Answers], Grade]
    constant: Callable[[Sequence[Item], Sequence[Item], str], list[str]]

    def items(
        self,
        data_dir: str | Path,
        split: str,
        *,
        limit: int | None = None,
        prompt: str | None = None,
    ) -> list[Item]:
        """Read a split; ``limit`` keeps that many items, evenly spaced; ``prompt`` replaces ours.

        Raises:
            DataError: files or rows are missing or broken, or an image is not where it should be.
        """
        items = evenly(self.read(self.source(data_dir, split, prompt)), limit)
        _check_ids(items, str(data_dir))
        for image in dict.fromkeys(item.image for item in items):
            if not Path(image).is_file():
                raise DataError(f"no such image file: {image}", file=str(data_dir))
        return items

    def source(self, data_dir: str | Path, split: str, prompt: str | None = None) -> Source:
        """The split of a data folder with this benchmark's prompt (or another)."""
        if prompt is not None and not set(_fields(self.prompt)) <= set(_fields(prompt)):
            needed = ", ".join(f"{{{field}}}" for field in _fields(self.prompt))
            raise UsageError(f"the prompt of {self.name!r} must hold {needed}, got {prompt!r}")
        return Source(Path(data_dir), split, prompt or self.prompt)

    def score(
        self,
        items: Sequence[Item],
        predictions: Mapping[str, str],
        *,
        variant: str | None = None,
        box_style: str = "shikra",
        allow_missing: bool = False,
    ) -> BenchmarkResult:
        """Score predictions by item id.

        Raises:
            UsageError: an unknown variant, or no items.
            DataError: predictions for unknown ids, or missing ones unless ``allow_missing``, which
                scores them as wrong.
        """
        chosen = self.checked_variant(variant)
        if not items:
            raise UsageError(f"benchmark {self.name!r} has no items to score")
        _check_ids(items, self.name)
        missing = self._check_predictions(items, predictions, allow_missing)
        texts = [predictions.get(item.id) for item in items]
        grade = self.grade(Answers(items, texts, chosen, box_style))
        failures = grade.parse_failures
        notes = grade.notes + ((f"{missing} missing predictions count as wrong",) * bool(missing))
        return BenchmarkResult(
            benchmark=self.name,
            variant=chosen,
            n=len(items),
            scores=tuple(
                replace(s, benchmark=self.name, variant=chosen, parse_failures=failures)
                for s in grade.scores
            ),
            per_item={i.id: s for i, s in zip(items, grade.per_item, strict=True)},
            parse_failures=failures,
            notes=notes,
        )

    def baseline(
        self, items: Sequence[Item], data_dir: str | Path, split: str, *, box_style: str = "shikra"
    ) -> Constant:
        """The best constant answers, counted on the training split of the same folder if it is
        there, else on the evaluated items themselves (an optimistic baseline; ``source`` says so).
        """
        counted, source = list(items), "evaluated split"
        train = self.source(data_dir, train_split(split))
        # files whose name holds no split are the evaluated ones again
        evaluated = set(self._files(self.source(data_dir, split)))
        files = set(self._files(train))
        if files and not files & evaluated:
            counted, source = self.read(train), f"{train.split} split"
        answers = self.constant(items, counted, box_style)
        return Constant({i.id: a for i, a in zip(items, answers, strict=True)}, source)

    def checked_variant(self, variant: str | None) -> str:
        """The variant, or the default for None; UsageError if it is unknown."""
        if variant is not None and variant not in self.variants:
            hint = nearest(variant, self.variants)
            known = ", ".join(self.variants)
            raise UsageError(f"benchmark {self.name!r} has no variant {variant!r}{hint}: {known}")
        return variant or self.variants[0]

    def _files(self, source: Source) -> list[Path]:
        """The split's files; none where something is missing."""
        try:
            return self.locate(source)
        except DataError:
            return []

    def _check_predictions(
        self, items: Sequence[Item], predictions: Mapping[str, str], allow_missing: bool
    ) -> int:
        """Refuse predictions that do not fit the items; return how many are missing."""
        known = {item.id for item in items}
        unknown = [key for key in predictions if key not in known]
        if unknown:
            raise DataError(f"{self.name}: predictions for unknown ids: {_some(unknown)}")
        missing = [item.id for item in items if item.id not in predictions]
        if missing and not allow_missing:
            raise DataError(f"{self.name}: no prediction for {len(missing)} ids: {_some(missing)}")
        return len(missing)


def mean_score(
    metric: str, values: Sequence[float], items: Sequence[Item], *, scale: float = 100.0
) -> Score:
    """A mean of item scores times ``scale``, its interval clustered by image, and breakdowns."""
    estimate = estimate_mean(values, [item.cluster for item in items])
    ci95 = None if estimate.ci95 is None else _scaled(estimate.ci95, scale)
    grouped = by_group(items, lambda chosen: scale * sum(values[i] for i in chosen) / len(chosen))
    return Score("", metric, scale * estimate.mean, len(items), ci95, by=grouped)


def corpus_scores(
    names: Sequence[str],
    values: Callable[[FloatArray], Sequence[float]],
    items: Sequence[Item],
) -> list[Score]:
    """Metrics that are no means over items, with bootstrap intervals clustered by image.

    ``values`` gives them, in the order of ``names``, for item weights ``[n]``; it is called with a
    group's items alone for the breakdowns.
    """

    def of_positions(place: int, chosen: list[int]) -> float:
        weights = np.zeros(len(items))
        weights[chosen] = 1.0
        return values(weights)[place]

    clusters = [item.cluster for item in items]
    intervals: Sequence[tuple[float, float] | None] = [None] * len(names)
    if len(set(clusters)) > 1:
        intervals = cluster_bootstraps(values, clusters)
    whole = values(np.ones(len(items)))
    return [
        Score("", name, value, len(items), interval, by=by_group(items, partial(of_positions, i)))
        for i, (name, value, interval) in enumerate(zip(names, whole, intervals, strict=True))
    ]


def by_group(
    items: Sequence[Item], value: Callable[[list[int]], float]
) -> dict[str, dict[str, float]]:
    """breakdown -> group -> ``value`` of the positions of its items, groups in sorted order."""
    positions: dict[str, dict[str, list[int]]] = {}
    for index, item in enumerate(items):
        for breakdown, group in item.groups.items():
            positions.setdefault(breakdown, {}).setdefault(group, []).append(index)
    return {
        breakdown: {group: value(chosen) for group, chosen in sorted(groups.items())}
        for breakdown, groups in positions.items()
    }


def evenly(things: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` things, evenly spaced over the list, in order."""
    if limit is None or limit >= len(things):
        return list(things)
    if limit < 1:
        raise UsageError(f"the limit must be at least 1, got {limit}")
    return [things[index * len(things) // limit] for index in range(limit)]


def train_split(split: str) -> str:
    """The training split that goes with a split: "val" -> "train", "val2014" -> "train2014"."""
    year = _YEAR.search(split)
    return f"train{year.group() if year else ''}"


def _scaled(interval: tuple[float, float], scale: float) -> tuple[float, float]:
    return scale * interval[0], scale * interval[1]


def _fields(template: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", template)


def _check_ids(items: Sequence[Item], where: str) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{where}: the id {item.id!r} occurs twice; ids must be unique")
        seen.add(item.id)


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(key) for key in ids[:3])
    return shown + (f", ... ({len(ids)} in all)" if len(ids) > 3 else "")
