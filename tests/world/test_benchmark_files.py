"""The files of the benchmark formats: chosen by name, equal for equal seeds, and well formed."""

from __future__ import annotations

import base64
import csv
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from manyeyes.cli.check.data import check_data
from manyeyes.cli.output import Output
from manyeyes.data.files import read_samples
from manyeyes.errors import UsageError
from manyeyes.world.emit import FORMATS, GROUPS, chosen_formats
from manyeyes.world.emit.mmvp import PATTERNS
from manyeyes.world.emit.split import talk
from manyeyes.world.language.words import NUMBER_WORDS
from manyeyes.world.make import check_world, make_world, read_manifest
from manyeyes.world.render import render
from manyeyes.world.sample import sample_scene
from manyeyes.world.splits import HELD_OUT

COUNTS = {"train": 3, "val": 2, "test": 16, "compositional": 6, "corner": 5}
SEED = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "world"
    return make_world(folder, images=COUNTS, seed=SEED, formats=("all",)).folder


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_formats_are_chosen_by_name_and_by_group() -> None:
    assert chosen_formats(("vsr", "gqa", "vsr")) == ("gqa", "vsr")
    assert set(chosen_formats(("all", "parquet"))) == set(FORMATS)
    assert "parquet" not in GROUPS["all"]
    assert set(GROUPS["training"]) < set(GROUPS["standard"]) < set(GROUPS["all"])
    with pytest.raises(UsageError, match="did you mean 'karpathy'"):
        chosen_formats(("karpaty",))


def test_a_world_with_more_formats_serves_those_who_want_fewer(world: Path, tmp_path: Path) -> None:
    again = make_world(world, images=COUNTS, seed=SEED, formats=("gqa", "mme"))
    assert not again.made
    small = make_world(tmp_path / "small", images={"val": 1}, formats=("vsr",)).folder
    assert [p.name for p in (small / "annotations").iterdir()] == ["vsr_val.jsonl"]
    with pytest.raises(UsageError, match="formats is"):
        make_world(small, images={"val": 1}, formats=("vsr", "gqa"))


def test_equal_seeds_give_equal_bytes_in_every_format(world: Path, tmp_path: Path) -> None:
    again = make_world(tmp_path / "again", images=COUNTS, seed=SEED, formats=("all",)).folder
    assert read_manifest(again) == read_manifest(world)
    assert check_world(world) == []


def test_every_row_of_every_format_is_readable(world: Path) -> None:
    report = check_data(Output(io.StringIO(), as_json=True), world, None)
    assert report["ok"], [file for file in report["files"] if file["broken"]]
    formats = {file["format"] for file in report["files"]}
    assert {"karpathy", "gqa", "shikra", "coco_captions", "coco_instances"} <= formats


def test_refcoco_plus_names_no_place(world: Path) -> None:
    for name, splits in (
        ("refcoco+/refs(unc).p", {"train", "val", "testA", "testB", "compositional", "corner"}),
        ("refcocog/refs(umd).p", set(COUNTS)),
    ):
        refs = pickle.loads((world / "annotations" / name).read_bytes())
        assert {ref["split"] for ref in refs} == splits
        samples, report = read_samples(world / "annotations" / name, image_root=world / "images")
        assert report.broken == 0
        words = {word for sample in samples for word in sample.meta["expression"].split()}
        places = {"left", "right", "above", "below", "leftmost", "topmost", "lowest"}
        assert bool(words & places) == name.startswith("refcocog")


def test_choices_differ_and_hold_the_right_one(world: Path) -> None:
    rows = load(world, "annotations/aokvqa_v1p0_test.json")
    assert len(rows) > 20
    for row in rows:
        assert len(set(row["choices"])) == 4
        assert set(row["direct_answers"]) == {row["choices"][row["correct_choice_idx"]]}
        assert len(set(row["rationales"])) == 3
    assert {row["correct_choice_idx"] for row in rows} == {0, 1, 2, 3}


def test_mmbench_carries_each_image_once(world: Path) -> None:
    text = (world / "annotations/mmbench_test.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    carried = {row["index"]: row["image"] for row in rows if len(row["image"]) > 16}
    assert len(carried) == COUNTS["test"]
    for row in rows:
        image = carried.get(row["image"], row["image"])
        with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
            assert picture.size == (48, 48)
        options = [row[letter] for letter in "ABCD" if row[letter]]
        assert 2 <= len(options) == len(set(options))
        assert row[row["answer"]]
    assert not (world / "annotations/mmbench_train.tsv").exists()


def test_pairs_of_pictures_differ_in_one_place_and_in_the_answer(world: Path) -> None:
    with (world / "mmvp/Questions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["Index"]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= COUNTS["test"]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["Question"] == second["Question"]
        assert {first["Correct Answer"], second["Correct Answer"]} == {"(a)", "(b)"}
        one, other = (
            np.asarray(Image.open(world / f"mmvp/MMVP Images/{row['Index']}.png"), dtype=int)
            for row in (first, second)
        )
        changed = (one != other).any(axis=2)
        assert changed.any()
        if "How many" not in first["Question"]:
            assert changed.mean() < 0.4


@pytest.mark.parametrize("pattern", PATTERNS)
def test_twins_are_told_apart_by_the_answer(pattern: str) -> None:
    found = 0
    for index in range(40):
        scene = sample_scene("test", index, SEED)
        twins = PATTERNS[pattern](scene, talk(scene, "twins"))
        if twins is None:
            continue
        found += 1
        assert twins.scenes[0] == scene != twins.scenes[1]
        assert twins.answers[0] != twins.answers[1]
        assert all((o.shape, o.color) not in HELD_OUT for o in twins.scenes[1].objects)
        if pattern == "side":
            (moved,) = set(twins.scenes[1].objects) - set(scene.objects)
            assert twins.answers[1] == ("left" if moved.x < scene.width / 2 else "right")
            assert 0 <= moved.box[0] and moved.box[2] <= scene.width
        if pattern == "count":
            assert len(twins.scenes[1].objects) == int(twins.answers[1])
        assert (render(twins.scenes[0]) != render(twins.scenes[1])).any()
    assert found >= 10


def test_nocaps_has_three_domains(world: Path) -> None:
    content = load(world, "annotations/nocaps_test.json")
    domains = [image["domain"] for image in content["images"]]
    assert [domains.count(f"{name}-domain") for name in ("in", "near", "out")] == [16, 16, 6]
    assert len({image["id"] for image in content["images"]}) == len(domains)
    assert len(content["annotations"]) == 10 * len(domains)
    for image in content["images"]:
        with Image.open(world / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])


def test_dialogs_have_a_hundred_candidates(world: Path) -> None:
    data = load(world, "annotations/visdial_1.0_test.json")["data"]
    assert len(data["dialogs"]) >= 4
    for dialog in data["dialogs"]:
        assert len({turn["question"] for turn in dialog["dialog"]}) == 10
        for turn in dialog["dialog"]:
            assert len(set(turn["answer_options"])) == 100
            assert turn["answer_options"][turn["gt_index"]] == turn["answer"]
    dense = load(world, "annotations/visdial_1.0_test_dense_annotations.json")
    assert [sum(row["gt_relevance"]) for row in dense] == [1.0] * len(data["dialogs"])


def test_phrases_have_as_many_boxes_as_they_say(world: Path) -> None:
    samples, report = read_samples(
        world / "flickr30k_entities/test.txt", image_root=world / "images/test"
    )
    assert (report.broken, len(samples)) == (0, 5 * COUNTS["test"])
    assert any(len(group) > 1 for sample in samples for group in sample.turns[-1].boxes)
    for sample in samples:
        assert Path(sample.images[0]).is_file()
        phrases = sample.turns[-1].text.split("<boxes>")[:-1]
        for phrase, group in zip(phrases, sample.turns[-1].boxes, strict=True):
            words = phrase.split()
            said = [NUMBER_WORDS.index(word) for word in words if word in NUMBER_WORDS[1:]]
            assert len(group) == (said[-1] if said else 1)


def test_corner_cases_are_flagged(world: Path) -> None:
    flags = {}
    for split in ("corner", "compositional"):
        rows = load(world, f"annotations/coda_{split}.json")["annotations"]
        flags[split] = [row["corner_case"] for row in rows]
    assert all(flags["compositional"])
    assert not all(flags["corner"])
    assert not (world / "annotations/coda_test.json").exists()


def test_pointing_questions_have_four_candidates(world: Path) -> None:
    content = load(world, "visual7w-pointing/dataset.json")
    boxes = {box["box_id"]: box for box in content["boxes"]}
    pairs = [pair for image in content["images"] for pair in image["qa_pairs"]]
    assert len(pairs) > 20
    for pair in pairs:
        candidates = {pair["answer"], *pair["multiple_choices"]}
        assert len(candidates) == 4
        assert {boxes[box]["image_id"] for box in candidates} == {pair["image_id"]}


def test_parquet_for_harnesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    counts = {"test": 4}
    folder = make_world(tmp_path / "world", images=counts, formats=("vqa", "parquet")).folder
    table = datasets.Dataset.from_parquet(str(folder / "parquet/test.parquet"))
    asked = load(folder, "annotations/vqa_test_questions.json")["questions"]
    assert table["question"][:] == [row["question"] for row in asked]
    first = render(sample_scene("test", 0, 0))
    assert (np.asarray(table[0]["image"]) == first).all()
    samples, report = read_samples(folder / "parquet/test.parquet")
    assert (report.format, len(samples)) == ("question_answer", len(asked))
