"""What a benchmark is: files to items, answers to scores, and the best constant answer.

A benchmark file builds one `Benchmark` out of a few functions (``read``, ``grade``, ``load``, ...)
and gets limits, missing and unknown predictions, variants and baselines from here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.evaluation.benchmarks.files import (
    Source,
    collector_paused,
    expect_files,
    find_files,
    place_images,
)
from manyeyes.evaluation.benchmarks.measures import Corpus
from manyeyes.evaluation.contract import BenchmarkResult, Prediction
from manyeyes.inference.questions import AnswerKind, Item
from manyeyes.records import PackedImage, Score

T = TypeVar("T")

_YEAR = re.compile(r"20\d\d$")


@dataclass(frozen=True)
class Answers:
    """Items with their predictions in the same order (None: missing) and how to read them."""

    items: Sequence[Item]
    predictions: Sequence[Prediction | None]
    variant: str
    box_style: str

    @property
    def texts(self) -> list[str | None]:
        """The predictions of a benchmark whose answers are text; DataError for any other."""
        texts: list[str | None] = []
        for item, prediction in zip(self.items, self.predictions, strict=True):
            if prediction is not None and not isinstance(prediction, str):
                raise DataError(f"expected a text as the prediction for {item.id!r}")
            texts.append(prediction)
        return texts


@dataclass(frozen=True)
class Grade:
    """A grader's result: scores (headline first), item scores in order, unparsable answers.

    An item score is None where the headline leaves the item out. ``corpus`` recomputes the metrics
    that are no means over the items of ``Answers``, for comparisons of two sets of predictions.
    ``rule`` names what was scored by where the data allowed the variant's own rule only in part.
    """

    scores: tuple[Score, ...]
    per_item: Sequence[float | None]
    parse_failures: int = 0
    notes: tuple[str, ...] = ()
    corpus: Corpus | None = None
    rule: str | None = None


@dataclass(frozen=True)
class Constant:
    """Answers chosen without looking at any image, by item id, and where they were counted."""

    answers: Mapping[str, Prediction]
    source: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark.

    ``metric`` is the headline; ``variants`` the known scoring rules, default first; ``prompt`` the
    template of the question; ``files`` the accepted file names, ``{split}`` to be filled in, ``*``
    for the shards of one split; ``holds`` what they hold, for messages; ``result_format`` the
    official layout of a predictions file.
    ``read_one`` makes items of one annotation file and a prompt template, no image needed; where a
    split has several files, ``read`` makes items of all of them. ``locate`` finds a split's files
    in a data folder, in the order in which they are read (None: the first of ``files`` that is
    there; DataError if they are missing). ``unit`` is the key of ``Item.meta`` that names what is
    scored as a whole (a pair, a group of questions): a limit never takes a part of it. ``drawn``: a
    limit takes items by a hash of their ids, because a file's kinds of questions may take turns.
    ``grade``
    scores answers (as ``grade_boxes`` in ``grounding``); ``constant`` chooses answers for ``items``
    from ``counted`` items; ``load`` reads a predictions file: item id -> prediction.
    Where candidates are scored, not written, ``ranking_prompt`` is the template (None: ``prompt``),
    and ``from_losses`` makes a prediction of the candidates' losses (None: the best one's text).
    """

    name: str
    description: str
    files: tuple[str, ...]
    result_format: str
    metric: str = "accuracy"
    variants: tuple[str, ...] = ("official",)
    prompt: str = "{question}"
    answer: AnswerKind = "short"
    holds: str = "annotations"
    locate: Callable[[Source], list[Path]] | None = None
    read: Callable[[Sequence[Path], str], list[Item]] | None = None
    read_one: Callable[[Path, str], list[Item]] | None = None
    grade: Callable[[Answers], Grade]
    constant: Callable[[Sequence[Item], Sequence[Item], str], Sequence[Prediction]]
    load: Callable[[Path], dict[str, Prediction]]
    ranking_prompt: str | None = None
    from_losses: Callable[[Item, Sequence[float]], Prediction] | None = None
    unit: str | None = None
    drawn: bool = False

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
        items = self._limited(self._split_items(Source(Path(data_dir), split), prompt), limit)
        _check_ids(items, str(data_dir))
        for image in dict.fromkeys(image for item in items for image in item.images):
            if not isinstance(image, PackedImage) and not Path(image).is_file():
                raise DataError(f"no such image file: {image}", file=str(data_dir))
        return items

    def read_files(
        self, paths: Sequence[str | Path], *, prompt: str | None = None, split: str | None = None
    ) -> list[Item]:
        """Read annotation files; images are named as the files write them and not looked for.

        ``split`` chooses from files that hold several splits; it changes nothing for others.

        Raises:
            DataError: files or rows are missing or broken, or hold nothing of the split.
            UsageError: a wrong number of files, or several splits and none chosen.
        """
        where = ", ".join(map(str, paths))
        with collector_paused():
            items = self._read([Path(path) for path in paths], self.checked_prompt(prompt))
        splits = sorted({item.split for item in items if item.split is not None})
        if split is None and len(splits) > 1:
            raise UsageError(f"{where}: holds the splits {', '.join(splits)}; choose one")
        items = _of_split(items, split, where)
        _check_ids(items, where)
        return items

    def score(
        self,
        items: Sequence[Item],
        predictions: Mapping[str, Prediction],
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
        answers = self.answers(
            items, predictions, variant=variant, box_style=box_style, allow_missing=allow_missing
        )
        grade = self.grade(answers)
        chosen, failures = grade.rule or answers.variant, grade.parse_failures
        given = zip(items, answers.predictions, strict=True)
        missing = sum(item.required and prediction is None for item, prediction in given)
        notes = grade.notes + ((f"{missing} missing predictions count as wrong",) * bool(missing))
        scored = zip(items, grade.per_item, strict=True)
        per_item = {item.id: score for item, score in scored if score is not None}
        return BenchmarkResult(
            benchmark=self.name,
            variant=chosen,
            n=len(per_item),
            scores=tuple(
                replace(s, benchmark=self.name, variant=chosen, parse_failures=failures)
                for s in grade.scores
            ),
            per_item=per_item,
            parse_failures=failures,
            notes=notes,
        )

    def answers(
        self,
        items: Sequence[Item],
        predictions: Mapping[str, Prediction],
        *,
        variant: str | None = None,
        box_style: str = "shikra",
        allow_missing: bool = False,
    ) -> Answers:
        """Put predictions beside their items, ready for ``grade``; raises what `score` raises."""
        chosen = self.checked_variant(variant)
        if not items:
            raise UsageError(f"benchmark {self.name!r} has no items to score")
        _check_ids(items, self.name)
        self._check_predictions(items, predictions, allow_missing)
        found = [predictions.get(item.id) for item in items]
        return Answers(items, found, chosen, box_style)

    def baseline(
        self, items: Sequence[Item], data_dir: str | Path, split: str, *, box_style: str = "shikra"
    ) -> Constant:
        """The best constant answers, counted on the training split of the same folder if it is
        there, else on the evaluated items themselves (an optimistic baseline; ``source`` says so).
        """
        counted, source = list(items), "evaluated split"
        train = Source(Path(data_dir), train_split(split))
        # files whose name holds no split are the evaluated ones again
        evaluated = set(self._files(Source(Path(data_dir), split)))
        files = set(self._files(train))
        if files and not files & evaluated:
            counted, source = self._split_items(train, None), f"{train.split} split"
        elif files and items[0].split not in (None, train.split):
            with suppress(DataError):  # one file with several splits, of which none is for training
                counted, source = self._split_items(train, None), f"{train.split} split"
        answers = self.constant(items, counted, box_style)
        return Constant({i.id: a for i, a in zip(items, answers, strict=True)}, source)

    def checked_variant(self, variant: str | None) -> str:
        """The variant, or the default for None; UsageError if it is unknown."""
        if variant is not None and variant not in self.variants:
            hint = nearest(variant, self.variants)
            known = ", ".join(self.variants)
            raise UsageError(f"benchmark {self.name!r} has no variant {variant!r}{hint}: {known}")
        return variant or self.variants[0]

    def checked_prompt(self, prompt: str | None) -> str:
        """The prompt template, or the default for None; UsageError if it lacks a field."""
        # a template for ranking does not list the candidates, so no template has to
        wanted = set(_fields(self.prompt)) & set(_fields(self.ranking_prompt or self.prompt))
        if prompt is not None and not wanted <= set(_fields(prompt)):
            needed = ", ".join(f"{{{field}}}" for field in sorted(wanted))
            raise UsageError(f"the prompt of {self.name!r} must hold {needed}, got {prompt!r}")
        return prompt or self.prompt

    def paths(self, source: Source) -> list[Path]:
        """The annotation files of a split; DataError if they are missing."""
        if self.locate is not None:
            return self.locate(source)
        return find_files(source, self.files, self.holds)

    def _read(self, paths: Sequence[Path], prompt: str) -> list[Item]:
        if self.read is not None:
            return self.read(paths, prompt)
        assert self.read_one is not None, f"benchmark {self.name!r} reads no files"
        (path,) = expect_files(paths, self.holds)
        return self.read_one(path, prompt)

    def _split_items(self, source: Source, prompt: str | None) -> list[Item]:
        """All items of a split with the paths of the images that are found."""
        paths = self.paths(source)
        with collector_paused():
            items = self._read(paths, self.checked_prompt(prompt))
        return place_images(_of_split(items, source.split, ", ".join(map(str, paths))), source)

    def _limited(self, items: list[Item], limit: int | None) -> list[Item]:
        """At most ``limit`` items, evenly spaced, in whole units, but at least one unit."""
        if self.drawn and limit is not None and limit >= 1:
            chosen = {item.id for item in sorted(items, key=_drawn)[:limit]}
            return [item for item in items if item.id in chosen]
        if self.unit is None or limit is None or limit >= len(items):
            return evenly(items, limit)
        units: dict[str, list[Item]] = {}
        for item in items:
            units.setdefault(item.meta[self.unit], []).append(item)
        share = max(min(limit, 1), limit * len(units) // len(items))
        return [item for unit in evenly(list(units.values()), share) for item in unit]

    def _files(self, source: Source) -> list[Path]:
        """The split's files; none where something is missing."""
        try:
            return self.paths(source)
        except DataError:
            return []

    def _check_predictions(
        self, items: Sequence[Item], predictions: Mapping[str, Prediction], allow_missing: bool
    ) -> None:
        known = {item.id for item in items}
        unknown = [key for key in predictions if key not in known]
        if unknown:
            raise DataError(f"{self.name}: predictions for unknown ids: {_some(unknown)}")
        missing = [item.id for item in items if item.required and item.id not in predictions]
        if missing and not allow_missing:
            raise DataError(f"{self.name}: no prediction for {len(missing)} ids: {_some(missing)}")


def _drawn(item: Item) -> str:
    return hashlib.sha256(item.id.encode()).hexdigest()


def evenly(things: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` things, evenly spaced over the list, in order."""
    if limit is None or limit >= len(things):
        return list(things)
    if limit < 1:
        raise UsageError(f"the limit must be at least 1, got {limit}")
    return [things[index * len(things) // limit] for index in range(limit)]


def train_split(split: str) -> str:
    """The training split of a split: "val2014" -> "train2014", "random/test" -> "random/train"."""
    folder, slash, name = split.rpartition("/")
    year = _YEAR.search(name)
    return f"{folder}{slash}train{year.group() if year else ''}"


def _of_split(items: list[Item], split: str | None, where: str) -> list[Item]:
    """The items of a split; those of files that hold one split only belong to any."""
    kept = [item for item in items if split is None or item.split in (None, split)]
    if items and not kept:
        known = ", ".join(sorted({str(item.split) for item in items}))
        raise DataError(f"holds nothing for split {split!r}; splits: {known}", file=where)
    return kept


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
