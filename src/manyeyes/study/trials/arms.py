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

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.images.reading import image_size
from manyeyes.inference.image_objects import objects_of_model
from manyeyes.inference.image_tags import tags_of_model
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.lines import split_lines
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import Recipe
from manyeyes.records import Box
from manyeyes.study.pages.pictures import in_pixels
from manyeyes.study.record import Answer, Arm, CurvePoint, Measure, StudyItem

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how far it is, and how far it goes."""

CAPTION_SCALE = 100.0
"""CIDEr-D is reported times 100, as papers print it."""


@dataclass(frozen=True)
class Exam:
    """The questions every arm gets: of one split, ``limits`` of each benchmark (None: all)."""

    data_dir: Path
    split: str
    limits: Mapping[str, int | None]

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
    tags = tags_of_model(model, exam.data_dir, exam.split)
    objects = objects_of_model(processor, exam.data_dir, exam.split)
    return ModelPredictor(
        model, processor, batch_size=64, image_batch=64, objects=objects, tags=tags
    )


def take_exam(
    predictor: ModelPredictor,
    out_dir: Path,
    exam: Exam,
    *,
    text_only: bool,
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


def measures(entries: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, Measure]:
    """Return the headline of every benchmark for ``model``, ``text_only`` or ``majority``."""
    found = {}
    for benchmark, entry in entries.items():
        scores = entry[kind]
        if scores is not None:
            metric = entry["metric"]
            scale = scale_of(benchmark)
            ci95 = scores["ci95"].get(metric)
            found[benchmark] = Measure(
                metric=metric,
                value=scores["metrics"][metric] * scale,
                n=scores["n"],
                ci95=None if ci95 is None else (ci95[0] * scale, ci95[1] * scale),
                variant=scores["variant"],
            )
    return found


def scale_of(benchmark: str) -> float:
    """Return what a benchmark's headline is multiplied by to be shown in points."""
    return CAPTION_SCALE if get_benchmark(benchmark).metric == "CIDEr" else 1.0


def read_answers(
    out_dir: Path, benchmark: str, items: Sequence[Item], *, text_only: bool, box_style: str
) -> dict[str, Answer]:
    """Return item id -> answer from a stored predictions file."""
    name = f"predictions-{benchmark}{'.text-only' if text_only else ''}.jsonl"
    lines = split_lines((out_dir / benchmark / name).read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in map(json.loads, lines)}
    return {item.id: _answer(item, rows[item.id], box_style) for item in items}


def _answer(item: Item, row: Mapping[str, Any], box_style: str) -> Answer:
    boxes: tuple[Box, ...] = ()
    if item.target is not None:
        width, height = image_size(item.image)
        groups = parse_boxes(row["prediction"], style=box_style, width=width, height=height)
        boxes = tuple(box for group in groups for box in group)
    return Answer(row["prediction"], float(row["score"]), boxes)


def study_item(
    benchmark: str, item: Item, answers: Mapping[str, Answer], run_dir: Path
) -> StudyItem:
    """Return a benchmark's item with every arm's answer, its image relative to ``run_dir``.

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


def describe_arm(name: str, title: str, arm_dir: Path, recipe: Recipe) -> Arm:
    """Return a trained arm without its scores: curve, level weights, sizes, hashes."""
    model = ManyEyesForConditionalGeneration.from_pretrained(arm_dir / "model")
    results = json.loads((arm_dir / "results.json").read_text())
    stages = results["stages"]
    seconds = sum(stage["seconds"] for stage in stages)
    parameters = stages[-1]["parameters"]
    digests = " ".join(digest[:16] for digest in results["weights"].values())
    return Arm(
        name=name,
        title=title,
        description=recipe.description,
        curve=read_curve(arm_dir, recipe),
        level_weights=level_weights(model),
        facts={
            "recipe": recipe.name,
            "parameters": f"{parameters['total']:,} in all, {parameters['trained']:,} trained",
            "visual tokens": f"{model.config.visual_tokens} per image",
            "training": f"{sum(s['steps'] for s in stages):,} steps in {seconds:.0f} s",
            "weights (SHA-256)": digests,
        },
    )
