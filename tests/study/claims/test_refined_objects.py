"""AP of refined objects beside the detector's, over seeds and images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tiny_detector
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks.contract import Grade
from manyeyes.evaluation.benchmarks.measures import Corpus
from manyeyes.images.reading import load_image
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.study.claims.judgement import judge_claims, run_claims
from manyeyes.study.claims.refined_objects import (
    METRIC,
    RefinedObjects,
    image_scores,
    keep_refined,
    kept_refined,
    refined_difference,
)
from manyeyes.study.claims.table import CLAIMS, RefinementClaim
from manyeyes.study.comparison.compare import Settings
from manyeyes.study.comparison.summary import summarize
from manyeyes.study.trials.trial import trial_file
from study_trials import change_record, write_study
from whole_model import Build, Pictures

ARM = "comm"


@pytest.fixture(scope="module")
def asked(
    tmp_path_factory: pytest.TempPathFactory, build: Build, parts: Path, pictures: Pictures
) -> Path:
    """Two finished and asked trials of a model; the truth is what its detector finds."""
    folder = tmp_path_factory.mktemp("asked")
    write_study(folder, images=4, seeds=2)
    images = folder / "corner" / "images"
    images.mkdir(parents=True)
    paths = [images / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    for seed, gate in enumerate((0.0, 2.0)):
        model, processor = build(**tiny_detector.block(parts, refine=True))
        with torch.no_grad():
            model.fusion.refiner.gate.fill_(gate)
        trained = folder / "runs" / ARM / f"seed-{seed}" / "model"
        model.eval().save_pretrained(trained)
        processor.save_pretrained(trained)
    look = EncodedImages(model, processor, [load_image(str(path)) for path in paths])
    write_truth(folder / "corner" / "annotations" / "coda_corner.json", look)
    told: list[str] = []
    ask(folder, progress=lambda title, done, total: told.append(title))
    assert told == [f"{ARM}, seed {seed}: refined objects" for seed in (0, 1)]
    return folder


@pytest.fixture
def study(asked: Path, tmp_path: Path) -> Path:
    """A copy of the study, to be changed."""
    return shutil.copytree(asked, tmp_path / "study")


def write_truth(path: Path, look: EncodedImages) -> None:
    assert look.objects is not None
    categories = {label: number for number, label in enumerate(tiny_detector.LABELS, start=1)}
    objects = [(image, found) for image, row in enumerate(look.objects) for found in row]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": categories[found.label],
            "bbox": [found.box[0], found.box[1], *np.subtract(found.box[2:], found.box[:2])],
            "corner_case": True,
        }
        for number, (image, found) in enumerate(objects)
    ]
    rows = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(look.sizes)
    ]
    known = [{"id": number, "name": label} for label, number in categories.items()]
    path.parent.mkdir()
    path.write_text(json.dumps({"images": rows, "annotations": annotations, "categories": known}))


def ask(study: Path, **more: Any) -> list[RefinedObjects]:
    keep_refined(ARM, 2, study, study / "corner", **more)
    return kept_refined(ARM, 2, study)


def test_a_shut_gate_changes_nothing_and_an_open_one_is_seen(study: Path) -> None:
    shut, opened = ask(study)
    assert shut.images == ("0", "1", "2")
    assert np.mean(shut.detector) == pytest.approx(100.0)
    assert shut.refined == shut.detector == opened.detector
    assert np.mean(opened.refined) < 90.0
    found = refined_difference([shut, opened])
    assert found.difference == pytest.approx((np.mean(opened.refined) - 100.0) / 2)
    assert (found.seeds, found.n, found.clusters) == (2, 3, 3)


def test_records_are_enough_until_the_model_or_the_objects_change(study: Path) -> None:
    first = ask(study)
    moved = study.with_name("moved")
    shutil.copytree(study / "records", moved / "records")
    keep_refined(ARM, 2, moved, study / "corner")
    assert kept_refined(ARM, 2, moved) == first
    change_record(trial_file(moved, ARM, 1), weights="another")
    with pytest.raises(UsageError, match=r"comm, seed 1: .* not in the records and its model"):
        keep_refined(ARM, 2, moved, study / "corner")
    path = study / "corner" / "annotations" / "coda_corner.json"
    truth = json.loads(path.read_text())
    path.write_text(json.dumps({**truth, "annotations": truth["annotations"][:-1]}))
    assert ask(study)[0].exam != first[0].exam
    (study / "records" / ARM / "refined-0.json").write_text("{}")  # no fields
    with pytest.raises(DataError, match=r"refined-0\.json"):
        ask(study)


def test_a_model_that_refines_nothing_is_refused(study: Path, build: Build, parts: Path) -> None:
    model, processor = build(**tiny_detector.block(parts))
    folder = study / "runs" / ARM / "seed-0" / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (study / "records" / ARM / "refined-0.json").unlink()
    with pytest.raises(UsageError, match="comm, seed 0: the model refines no objects"):
        ask(study)


def test_the_claim_is_judged_with_the_others(study: Path) -> None:
    claim = RefinementClaim("refined", "says it helps", "ours", ARM, "clip")
    summary = summarize(study)
    (judged,) = judge_claims([claim], study, summary)
    assert judged.outcome == "not separable"
    assert judged.verdict.difference < 0
    assert judged.control is None and judged.control_text == ""
    records = study / "records" / ARM
    shutil.copy(records / "refined-0.json", records / "refined-1.json")
    (equal,) = judge_claims([claim], study, summary)
    assert (equal.verdict.difference, equal.verdict.p) == (0.0, 1.0)
    (records / "refined-1.json").unlink()
    with pytest.raises(DataError, match=r"refined-1\.json"):
        judge_claims([claim], study, summary)


def test_scores_of_images_have_the_mean_and_the_spread_of_the_metric() -> None:
    random = np.random.default_rng(0)
    values, sizes = random.normal(size=200), random.uniform(0.5, 1.5, size=200)

    def grade(value: Any) -> Grade:
        return Grade((), [None] * 200, corpus=Corpus(("AP", METRIC), lambda w: (0.0, value(w))))

    mean = image_scores(grade(lambda w: float(w @ values / w.sum())))
    assert mean == pytest.approx(values)
    ratio = image_scores(grade(lambda w: float(w @ values / (w @ sizes))))
    assert ratio.mean() == pytest.approx(values.sum() / sizes.sum())
    draws: NDArray[np.float64] = random.multinomial(200, [1 / 200] * 200, size=4000).astype(float)
    spread = ((draws @ values) / (draws @ sizes)).std()
    assert ratio.std(ddof=1) / np.sqrt(200) == pytest.approx(spread, rel=0.05)
    steps = image_scores(grade(lambda w: float(np.max(np.where(w > 0, values, -9.0)))))
    assert steps.mean() == pytest.approx(values.max()), "also of what is not smooth"


def test_data_without_corner_cases_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*given: object, **named: object) -> None:
        pytest.fail("trained first")

    monkeypatch.setattr("manyeyes.study.claims.judgement.compare_held", train)
    refining = [claim for claim in CLAIMS if isinstance(claim, RefinementClaim)]
    with pytest.raises(DataError, match="corner"):
        run_claims([CLAIMS[0], *refining], tmp_path / "out", Settings(data_dir=tmp_path))
