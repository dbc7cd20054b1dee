"""One arm of a study: train a recipe, evaluate it, and read both back as records.

ARM/recipe.yaml, ARM/<stage>/, ARM/model      the training run (see ``training.run``)
ARM/evaluation/                               answers and scores (see ``evaluation.asking.runner``)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.images.reading import image_size
from manyeyes.inference.perceived import perceived_in_data
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item, Predictor
from manyeyes.lines import split_lines
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import Recipe
from manyeyes.study.pages.pictures import in_pixels
from manyeyes.study.record import Answer, CurvePoint, Measure, StudyItem
from manyeyes.study.trials.trial import Said

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how far it is, and how far it goes."""

CAPTION_SCALE = 100.0
"""CIDEr-D is reported times 100, as papers print it."""


@dataclass(frozen=True)
class Exam:
    """The questions every arm gets: of one split, ``limits`` of each benchmark (None: all).

    ``withheld``: the first seed of an arm answers them without the images as well.
    """

    data_dir: Path
    split: str
    limits: Mapping[str, int | None]
    withheld: bool = False

    def items(self, benchmark: str) -> list[Item]:
        """Return the questions of one benchmark."""
        return get_benchmark(benchmark).items(
            self.data_dir, self.split, limit=self.limits[benchmark]
        )


def load_predictor(model_dir: Path, exam: Exam) -> ModelPredictor:
    """Return a trained arm ready to answer, in float32, on an accelerator if there is one.

    A model that reads tags, or objects, of a file gets those that its recipe names for the exam's
    split.
    """
    model = ManyEyesForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32)
    device = torch.accelerator.current_accelerator(check_available=True)
    model.to(device or torch.device("cpu"))  # type: ignore[arg-type]
    processor = ManyEyesProcessor.from_pretrained(model_dir)
    perceived = perceived_in_data(model, processor, exam.data_dir, exam.split)
    return ModelPredictor(model, processor, batch_size=64, image_batch=64, perceived=perceived)


@dataclass(frozen=True)
class WithoutImages:
    """A model that is never shown the image."""

    model: ModelPredictor

    @property
    def fingerprint(self) -> str:
        """That of the model, marked."""
        return f"{self.model.fingerprint} without images"

    @property
    def box_style(self) -> str:
        """As of the model."""
        return self.model.box_style

    @property
    def generation(self) -> Mapping[str, Any]:
        """As of the model."""
        return self.model.generation

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        """Answer from the text alone."""
        return self.model.answer(items, with_images=False)

    def check_lengths(self, items: Sequence[Item]) -> None:
        """As of the model."""
        self.model.check_lengths(items)


def take_exam(
    predictor: Predictor,
    out_dir: Path,
    exam: Exam,
    *,
    text_only: bool = False,
    progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    """Answer and score every benchmark; return benchmark -> its entry of ``results.json``.

    ``text_only``: also answer with the image withheld. Answers already on disk are not made again.
    """
    found = {}
    for benchmark, limit in exam.limits.items():
        results = evaluate(
            predictor,
            [benchmark],
            exam.data_dir,
            exam.split,
            out_dir / benchmark,
            limit=limit,
            text_only=text_only,
            progress=progress,
        )
        found[benchmark] = results["benchmarks"][benchmark]
    return found


def stored_answers(folder: Path, benchmark: str, items: Sequence[Item]) -> dict[str, Said]:
    """Return what `take_exam` stored of the items that the headline counts."""
    path = folder / benchmark / f"predictions-{benchmark}.jsonl"
    rows = {row["id"]: row for row in map(json.loads, split_lines(path.read_text("utf-8")))}
    found = {}
    for item in items:
        row = rows[item.id]
        if row["score"] is not None:
            said = row["prediction"]
            text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
            found[item.id] = Said(text, float(row["score"]))
    return found


def labelled(progress: Progress | None, title: str) -> Progress:
    """Return ``progress`` with a trial's title in front of what it is doing."""

    def report(label: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{title}: {label}", done, total)

    return report


def measures(entries: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, Measure]:
    """Return the headline of every benchmark for ``model``, ``text_only`` or ``majority``."""
    found = {}
    for benchmark, entry in entries.items():
        scores = entry[kind]
        if scores is not None:
            metric = entry["metric"]
            scale = scale_of(metric)
            ci95 = scores["ci95"].get(metric)
            found[benchmark] = Measure(
                metric=metric,
                value=scores["metrics"][metric] * scale,
                n=scores["n"],
                ci95=None if ci95 is None else (ci95[0] * scale, ci95[1] * scale),
                variant=scores["variant"],
            )
    return found


def scale_of(metric: str) -> float:
    """Return what a headline is multiplied by to be shown in points."""
    return CAPTION_SCALE if metric == "CIDEr" else 1.0


def study_item(
    benchmark: str, item: Item, answers: Mapping[str, Answer], run_dir: Path
) -> StudyItem:
    """Return a benchmark's item with every arm's answer, its images relative to ``run_dir``.

    An image that is not inside ``run_dir`` is named absolutely.
    """
    return StudyItem(
        benchmark=benchmark,
        id=item.id,
        image=path_within(item.image, run_dir),
        cluster=item.cluster,
        question=item.prompt,
        truth=_truth(item),
        size=image_size(item.image),
        target=item.target,
        groups=item.groups,
        answers=answers,
        more_images=tuple(path_within(image, run_dir) for image in item.more_images),
    )


def path_within(image: str, folder: Path) -> str:
    """Return the path of ``image`` seen from ``folder`` (links are not followed), or absolute."""
    place, root = (Path(os.path.abspath(path)) for path in (image, folder))
    return (place.relative_to(root) if place.is_relative_to(root) else place).as_posix()


def _truth(item: Item) -> str:
    if item.target is not None:
        return in_pixels(item.target)
    return "; ".join(dict.fromkeys(item.references))


def read_curve(arm_dir: Path, recipe: Recipe) -> tuple[CurvePoint, ...]:
    """Return the training loss of all stages from their logs."""
    points = []
    for stage in recipe.stages:
        for line in split_lines((arm_dir / stage.name / "log.jsonl").read_text()):
            entry = json.loads(line)
            if "loss" in entry:
                points.append(CurvePoint(stage.name, int(entry["step"]), float(entry["loss"])))
    return tuple(points)


def level_weights(model: ManyEyesForConditionalGeneration) -> dict[str, tuple[float, ...]]:
    """Return encoder -> weight of each level, for fusions that have such weights."""
    found = model.fusion.level_weights()
    return {key: tuple(float(w) for w in value) for key, value in found.items()}


def weighted_levels(model: ManyEyesForConditionalGeneration) -> dict[str, tuple[int, ...]]:
    """Return encoder -> the levels that `level_weights` weighs, in their order."""
    encoders: Any = model.encoders
    return {key: tuple(encoders[key].levels) for key in model.fusion.level_weights()}
