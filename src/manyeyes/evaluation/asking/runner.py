"""Benchmarks x predictor -> answers, scores with baselines, and one ``results.json``.

Every benchmark is answered with the image and, unless switched off, without it (text only); beside
both stand the best constant answers. A run that was killed continues at the item where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyeyes.environment import environment
from manyeyes.errors import UsageError, nearest
from manyeyes.evaluation.answers.predictions import (
    AnswerStore,
    item_key,
    prediction_rows,
    rows_file,
    write_rows,
)
from manyeyes.evaluation.asking.choice_modes import (
    RANKED,
    ChoiceMode,
    ask,
    asked_items,
    checked_mode,
    prediction,
)
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source
from manyeyes.evaluation.contract import BenchmarkResult, Prediction
from manyeyes.files import check_outputs, check_rows, file_sha256, held, write_text
from manyeyes.inference.questions import Item, Measuring, PartlyAnswered, Predictor

RESULTS_FILE = "results.json"
_CHUNK = 256
_BOOTSTRAP_SEED = 0

Progress = Callable[[str, int, int], None]
"""Called with what is being answered, how many items are done, and how many there are."""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated and how; ``variants`` and ``prompts`` by benchmark name override defaults.

    ``limit`` keeps that many items of each benchmark, evenly spaced. ``choice`` is how items with
    candidates are asked, see `choice_modes`. ``chunk`` is how many answers are made between two
    writes.
    """

    benchmarks: Sequence[str]
    data_dir: str | Path
    split: str
    out_dir: str | Path
    limit: int | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    text_only: bool = True
    choice: ChoiceMode = "generate"
    chunk: int = _CHUNK

    def prompt_of(self, benchmark: Benchmark) -> str:
        """The template of a benchmark's questions in this run."""
        default = benchmark.ranking_prompt if self.choice in RANKED else None
        return benchmark.checked_prompt(self.prompts.get(benchmark.name, default))


def evaluate(
    predictor: Predictor,
    benchmarks: Sequence[str],
    data_dir: str | Path,
    split: str,
    out_dir: str | Path,
    *,
    limit: int | None = None,
    variants: Mapping[str, str] | None = None,
    prompts: Mapping[str, str] | None = None,
    text_only: bool = True,
    choice: str = "generate",
    progress: Progress | None = None,
    chunk: int = _CHUNK,
) -> dict[str, Any]:
    """Answer and score benchmarks; write predictions and ``results.json`` to ``out_dir``.

    Args:
        predictor: answers the items, with and without their images.
        benchmarks: names in ``BENCHMARKS``.
        data_dir, split: where the official files lie, and which of them.
        limit, variants, prompts, text_only, choice, chunk: see `Evaluation`.

    Returns:
        What ``results.json`` holds; `table.format_table` prints it.

    Raises:
        UsageError: an unknown benchmark, variant or choice mode, a choice mode that does not suit
            a benchmark, or other files in ``out_dir`` that would be replaced.
        InUseError: another process answers into ``out_dir``.
        DataError: missing or broken data files.
    """
    plan = Evaluation(
        benchmarks=list(dict.fromkeys(benchmarks)),
        data_dir=data_dir,
        split=split,
        out_dir=out_dir,
        limit=limit,
        variants=variants or {},
        prompts=prompts or {},
        text_only=text_only,
        choice=checked_mode(choice),
        chunk=chunk,
    )
    return _run(plan, predictor, progress)


def answer_items(
    predictor: Predictor,
    benchmark: Benchmark,
    items: list[Item],
    data_dir: Path,
    out_dir: Path,
    *,
    progress: Progress | None = None,
) -> Path:
    """Answer items of annotation files that lie anywhere; return the file of the answers.

    ``data_dir``: of their images. Answers that ``out_dir`` holds already are not made again.

    Raises:
        UsageError: another file would be replaced. InUseError: another process answers there.
    """
    file = out_dir / rows_file(benchmark.name, with_images=True)
    check_rows(file, ("id", "key", "raw"))
    plan = Evaluation([benchmark.name], data_dir, "", out_dir)
    with held(out_dir), AnswerStore(out_dir) as store:
        _Job(benchmark, items, plan, predictor, store, progress).arm(with_images=True)
    return file


def _run(plan: Evaluation, predictor: Predictor, progress: Progress | None) -> dict[str, Any]:
    # everything that can be wrong with names and files is found before the first answer
    chosen = _checked(plan)
    questions = {b.name: _questions(b, plan, predictor) for b in chosen}
    started = time.perf_counter()
    with held(plan.out_dir), AnswerStore(plan.out_dir) as store:
        entries = {
            b.name: _run_benchmark(b, questions[b.name], plan, predictor, store, progress)
            for b in chosen
        }
        results = _describe(plan, predictor, entries, time.perf_counter() - started)
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(Path(plan.out_dir) / RESULTS_FILE, text + "\n")
    return results


def _questions(benchmark: Benchmark, plan: Evaluation, predictor: Predictor) -> list[Item]:
    prompt = plan.prompt_of(benchmark)
    items = benchmark.items(plan.data_dir, plan.split, limit=plan.limit, prompt=prompt)
    asked = asked_items(benchmark.name, items, plan.choice, predictor)
    if isinstance(predictor, Measuring):
        predictor.check_lengths(asked)
    return asked


def _checked(plan: Evaluation) -> list[Benchmark]:
    if not plan.benchmarks:
        raise UsageError("no benchmark given")
    chosen = [get_benchmark(name) for name in plan.benchmarks]
    for what, given in (("variant", plan.variants), ("prompt", plan.prompts)):
        for name in given:
            if name not in plan.benchmarks:
                hint = nearest(name, plan.benchmarks)
                raise UsageError(f"a {what} is given for {name!r}, which is not evaluated{hint}")
    for benchmark in chosen:
        benchmark.checked_variant(plan.variants.get(benchmark.name))
    out = Path(plan.out_dir)
    check_outputs(out, RESULTS_FILE, ("benchmarks", "environment"))
    for name in (b.name for b in chosen):
        for with_images in (True, False):
            check_rows(out / rows_file(name, with_images=with_images), ("id", "key", "raw"))
    return chosen


def _run_benchmark(
    benchmark: Benchmark,
    items: list[Item],
    plan: Evaluation,
    predictor: Predictor,
    store: AnswerStore,
    progress: Progress | None,
) -> dict[str, Any]:
    """Answer, score and write one benchmark; return its entry in the results."""
    job = _Job(benchmark, items, plan, predictor, store, progress)
    constant = benchmark.baseline(items, plan.data_dir, plan.split, box_style=predictor.box_style)
    source = Source(Path(plan.data_dir), plan.split)
    model = job.arm(with_images=True)
    return {
        "metric": next(iter(model["metrics"])),
        "variant": model["variant"],
        "prompt": plan.prompt_of(benchmark),
        "choice": plan.choice,
        "n": model["n"],
        "files": {
            os.path.relpath(path, plan.data_dir): file_sha256(path)
            for path in benchmark.paths(source)
        },
        "model": model,
        "text_only": job.arm(with_images=False) if plan.text_only else None,
        "majority": {**job.score(constant.answers).to_json(), "source": constant.source},
    }


@dataclass(frozen=True)
class _Job:
    """One benchmark of a run."""

    benchmark: Benchmark
    items: list[Item]
    plan: Evaluation
    predictor: Predictor
    store: AnswerStore
    progress: Progress | None

    def arm(self, *, with_images: bool) -> dict[str, Any]:
        """Answer all items with or without their images, write them, and score them."""
        name = self.benchmark.name
        report = _labelled(self.progress, name if with_images else f"{name} (text only)")
        keys = self._answer(with_images, report)
        raw = [self.store[key] for key in keys]
        mode = self.plan.choice
        predictions = {
            item.id: prediction(self.benchmark, item, text, mode)
            for item, text in zip(self.items, raw, strict=True)
        }
        result = self.score(predictions)
        file = rows_file(name, with_images=with_images)
        rows = prediction_rows(self.items, keys, raw, predictions, result, self.plan.data_dir)
        write_rows(Path(self.plan.out_dir) / file, rows)
        return result.to_json()

    def score(self, predictions: Mapping[str, Prediction]) -> BenchmarkResult:
        """Score predictions by item id with the run's variant and the predictor's box style."""
        variant = self.plan.variants.get(self.benchmark.name)
        box_style = self.predictor.box_style
        return self.benchmark.score(self.items, predictions, variant=variant, box_style=box_style)

    def _answer(self, with_images: bool, report: Callable[[int, int], None]) -> list[str]:
        """Make sure that every item's answer is in the store; return the items' keys."""
        fingerprint, mode = self.predictor.fingerprint, self.plan.choice
        keys = [
            item_key(i, fingerprint=fingerprint, with_images=with_images, ranked=mode in RANKED)
            for i in self.items
        ]
        pairs = zip(keys, self.items, strict=True)
        open_items = {key: item for key, item in pairs if key not in self.store}
        total = len(set(keys))
        done = total - len(open_items)
        report(done, total)
        for group in _chunks(open_items, self.plan.chunk):
            items = [item for _, item in group]
            try:
                answers = ask(self.predictor, items, mode, with_images=with_images)
            except PartlyAnswered as error:
                self.store.add({group[place][0]: raw for place, raw in error.answers.items()})
                raise
            self.store.add({key: raw for (key, _), raw in zip(group, answers, strict=True)})
            done += len(group)
            report(done, total)
        return keys


def _labelled(progress: Progress | None, label: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(label, done, total)

    return report


def _chunks(open_items: Mapping[str, Item], chunk: int) -> Iterator[list[tuple[str, Item]]]:
    """Chunks of about ``chunk`` items; the questions of one image stay together."""
    by_image: dict[str, list[tuple[str, Item]]] = {}
    for key, item in open_items.items():
        by_image.setdefault(item.image, []).append((key, item))
    group: list[tuple[str, Item]] = []
    for questions in by_image.values():
        group.extend(questions)
        if len(group) >= chunk:
            yield group
            group = []
    if group:
        yield group


def _describe(
    plan: Evaluation, predictor: Predictor, entries: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    return {
        "data": str(plan.data_dir),
        "split": plan.split,
        "limit": plan.limit,
        "model": {
            "fingerprint": predictor.fingerprint,
            "box_style": predictor.box_style,
            "generation": dict(predictor.generation),
        },
        "benchmarks": dict(entries),
        "seeds": {"bootstrap": _BOOTSTRAP_SEED},
        "environment": environment(),
        "seconds": round(seconds, 2),
    }
