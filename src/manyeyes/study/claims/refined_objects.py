"""What a model's refinement adds to its detector's list on the corner cases, for every seed.

    OUT/records/ARM/refined-S.json    AP of both lists, as a part for every image

AP is no mean over images. Image i is given the score

    AP + (n - 1) (mean of AP without one image - AP without image i)

Their mean is AP and their spread that which the jackknife (Tukey 1958) finds for AP, so that a
difference of two lists is judged over seeds and images like any other. The jackknife's correction
of bias is left out: AP is no smooth function of the images, and it would shift differences by
several times their spread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.confidence.crossed import CrossedDifference, crossed_difference
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.files import write_text
from manyeyes.images.reading import load_image
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.inference.questions import Item
from manyeyes.records import Detections
from manyeyes.study.trials.arms import Exam, Progress, load_predictor
from manyeyes.study.trials.inputs import digest_of
from manyeyes.study.trials.trial import RECORDS, load_trial, trial_file

BENCHMARK, METRIC, SPLIT = "coda", "AP_corner", "corner"
_BATCH = 16


@dataclass(frozen=True)
class RefinedObjects:
    """AP over corner cases in points, before and after, as scores of the images.

    ``weights``: SHA-256 of the model that was asked. ``exam``: hash of images and objects.
    """

    weights: str
    exam: str
    images: tuple[str, ...]
    detector: tuple[float, ...]
    refined: tuple[float, ...]


def keep_refined(
    arm_folder: str,
    seeds: int,
    out: Path,
    data: Path,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Ask every trial of an arm what it refines, unless its record is there, and write that.

    Raises:
        DataError: data without corner cases, or a broken record. UsageError: a trial that was not
            asked before and whose model is not here, or a model that refines nothing.
    """
    exam, items = corner_cases(data, limit)
    asked = digest_of([(item.id, repr(item.meta["objects"])) for item in items])
    for seed in range(seeds):
        trial = load_trial(trial_file(out, arm_folder, seed))
        assert trial is not None, "the study is finished"
        path = _file(out, arm_folder, seed)
        known = _read(path) if path.is_file() else None
        if known is None or (known.weights, known.exam) != (trial.weights, asked):
            model = out / "runs" / arm_folder / f"seed-{seed}" / "model"
            lists = _find(model, exam, items, f"{trial.arm}, seed {seed}", progress)
            parts = [tuple(image_scores(_grade(items, objects)).tolist()) for objects in lists]
            ids = tuple(item.cluster for item in items)
            found = RefinedObjects(trial.weights, asked, ids, *parts)
            write_text(path, json.dumps(asdict(found)) + "\n")


def corner_cases(data: Path, limit: int | None) -> tuple[Exam, list[Item]]:
    """Return the images that are asked about; DataError where ``data`` has none."""
    exam = Exam(data, SPLIT, {BENCHMARK: limit})
    return exam, exam.items(BENCHMARK)


def kept_refined(arm_folder: str, seeds: int, out: Path) -> list[RefinedObjects]:
    """Return what `keep_refined` wrote; DataError if a record is missing or broken."""
    return [_read(_file(out, arm_folder, seed)) for seed in range(seeds)]


def refined_difference(trials: Sequence[RefinedObjects]) -> CrossedDifference:
    """Refined minus detector's AP, over seeds and images."""
    refined = np.array([trial.refined for trial in trials])
    detector = np.array([trial.detector for trial in trials])
    return crossed_difference(refined, detector, list(trials[0].images))


def image_scores(grade: Grade) -> FloatArray:
    """AP over corner cases as scores ``[n]`` of the images; see the module."""
    corpus = grade.corpus
    assert corpus is not None, "detections have metrics of the whole set"
    place, count = corpus.names.index(METRIC), len(grade.per_item)
    whole = corpus.values(np.ones(count))[place]
    without = np.array([corpus.values(weights)[place] for weights in 1.0 - np.eye(count)])
    return np.asarray(whole + (count - 1) * (without.mean() - without))


def _grade(items: Sequence[Item], found: Sequence[Detections]) -> Grade:
    answers = [_as_answer(item, objects) for item, objects in zip(items, found, strict=True)]
    return get_benchmark(BENCHMARK).grade(Answers(items, answers, "official", "shikra"))


def _as_answer(item: Item, objects: Detections) -> list[Mapping[str, Any]]:
    """Detections as a results file has them; classes that the file does not know are left out."""
    ids = {name: identity for identity, name in item.meta["categories"].items()}
    return [
        {
            "category_id": ids[found.label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 1.0 if found.score is None else found.score,
        }
        for found in objects
        for x1, y1, x2, y2 in (found.box,)
        if found.label in ids
    ]


@torch.inference_mode()
def _find(
    folder: Path, exam: Exam, items: Sequence[Item], title: str, progress: Progress | None
) -> tuple[list[Detections], list[Detections]]:
    """The detector's objects in every image, and the refined ones."""
    if not folder.is_dir():
        raise UsageError(
            f"{title}: its refined objects are not in the records and its model is not in {folder}"
        )
    predictor = load_predictor(folder, exam)
    before: list[Detections] = []
    after: list[Detections] = []
    for start in range(0, len(items), _BATCH):
        if progress is not None:
            progress(f"{title}: refined objects", start, len(items))
        paths = [str(item.image) for item in items[start : start + _BATCH]]
        pictures = [load_image(path) for path in paths]
        images = EncodedImages(predictor.model, predictor.processor, pictures)
        refined = images.refined_objects()
        if refined is None or images.objects is None:
            raise UsageError(f"{title}: the model refines no objects")
        before += images.objects
        after += refined
    return before, after


def _file(out: Path, arm_folder: str, seed: int) -> Path:
    return out / RECORDS / arm_folder / f"refined-{seed}.json"


def _read(path: Path) -> RefinedObjects:
    try:
        return TypeAdapter(RefinedObjects).validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=str(path)) from error
    except ValidationError as error:
        raise DataError(error.errors()[0]["msg"], file=str(path)) from error
