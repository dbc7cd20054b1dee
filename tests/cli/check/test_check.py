"""``manyeyes check``: recipes, data files, folders, worlds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cli_runs import Trained, invoke, the_object

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("name", "fusion"),
    [
        ("comm/paper", 48_335_902),
        ("comm/paper-13b", 50_434_078),
        ("comm/paper-best-mlp", 56_729_630),
    ],
)
def test_comm_at_real_size(name: str, fusion: int) -> None:
    report = the_object(invoke("check", name, "--json"))
    parts = report["parts"]
    assert parts["fusion"]["total"] == fusion
    assert parts["fusion"]["trainable"] == fusion
    assert parts["encoders"]["total"] == 607_876_096
    assert parts["encoders"]["trainable"] == 0
    assert report["visual_tokens"] == 576
    assert report["ok"] is True


def test_people_see_parts_memory_and_how_it_is_estimated(recipe: Path) -> None:
    result = invoke("check", recipe)
    assert result.exit_code == 0, result.stderr
    for word in ("fusion", "learn in align", "optimizer", "estimates", "16 visual tokens"):
        assert word in result.stdout


def test_a_gpu_by_name_fits_or_does_not(recipe: Path) -> None:
    shown = invoke("check", recipe, "--gpu", "l4")
    assert "L4, 24 GB each" in shown.stdout
    assert "to spare" in shown.stdout
    report = the_object(invoke("check", recipe, "--gpu", "h100", "--gpus", "2", "--json"))
    found = report["gpu"]["align"]
    assert (found["gpu"], found["gpus"], found["memory"]) == ("H100 SXM", 2, 80_000_000_000)
    totals = {way: memory["total"] for way, memory in report["stages"][0]["ways"].items()}
    assert found["spare"] == {way: 80_000_000_000 - total for way, total in totals.items()}
    large = the_object(invoke("check", "comm/paper", "--gpu", "4090", "--json"))
    assert large["gpu"]["instruct"]["spare"]["one process"] < 0


def test_an_unknown_gpu_names_the_nearest(recipe: Path) -> None:
    result = invoke("check", recipe, "--gpu", "h10")
    assert result.exit_code == 2
    assert "did you mean 'h100'" in result.stderr


def test_settings_change_what_is_built(recipe: Path) -> None:
    plain, wider = (
        the_object(invoke("check", recipe, *extra, "--json"))["parts"]["fusion"]["total"]
        for extra in ((), ("--set", "model.fusion.mlp_blocks=2"))
    )
    assert wider - plain == 16 * 64 + 64 + 64 * 16 + 16


def test_a_wrong_image_root_is_said_in_one_line(tmp_path: Path, world: Path) -> None:
    shutil.copytree(world / "images", tmp_path / "images")
    (tmp_path / "llava").mkdir()
    path = Path(shutil.copy(world / "llava" / "train.json", tmp_path / "llava"))
    for target in (path, tmp_path):
        shown = invoke("check", target)
        assert shown.exit_code == 1
        (line,) = shown.stdout.splitlines()[1:]
        assert line.endswith(f"but under {tmp_path / 'images'}: --image-root {tmp_path / 'images'}")
    assert invoke("check", path, "--image-root", tmp_path / "images").exit_code == 0


def test_pictures_are_opened_and_counted(tmp_path: Path, world: Path) -> None:
    good, cut = sorted((world / "images" / "train").iterdir())[:2]
    (tmp_path / "cut.png").write_bytes(cut.read_bytes()[:90])
    turns = [{"from": "human", "value": "<image>\nhi"}, {"from": "gpt", "value": "yes"}]
    images = (str(good), "cut.png", str(good), "cut.png", str(cut))
    rows = [{"image": image, "conversations": turns} for image in images]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    shown = invoke("check", path)
    assert shown.exit_code == 1
    counted = "3 samples (llava), 2 broken; 3 images opened, 1 unreadable"
    assert shown.stdout.splitlines()[0] == f"{path}: {counted}"
    assert f"{path}, entry 2: image: expected an image that can be read, got " in shown.stdout
    (found,) = the_object(invoke("check", path, "--json"))["files"]
    assert (found["images"], found["unreadable"], found["broken"]) == (3, 1, 2)
    assert [(error["entry"], error["key"]) for error in found["errors"]] == [
        (2, "image"),
        (4, "image"),
    ]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["comm/papr"], "did you mean 'comm/paper'?"),
        (["comm/paper", "--set", "model.fusion.mlp_block=2"], "did you mean 'mlp_blocks'?"),
        (["comm/paper", "--set", "stages.instruct.train.fusoin=true"], "did you mean 'fusion'?"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_a_wrong_recipe_names_the_nearest(words: list[str], hint: str) -> None:
    result = invoke("check", *words)
    assert result.exit_code == 1
    assert hint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_every_broken_row_is_listed(tmp_path: Path, world: Path) -> None:
    image = str(next((world / "images" / "train").iterdir()))
    turns = [{"from": "human", "value": "<image>\nhi"}, {"from": "gpt", "value": "yes"}]
    rows = [
        {"id": 1, "image": image, "conversations": turns},
        {"id": 2, "image": image, "conversations": "none"},
        {"id": 3, "image": "missing.png", "conversations": turns},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]))
    result = invoke("check", path)
    assert result.exit_code == 1
    for line in (2, 3, 4):
        assert f"{path}:{line}:" in result.stdout
    report = the_object(invoke("check", path, "--json"))
    (file,) = report["files"]
    assert (file["samples"], file["broken"]) == (1, 3)
    assert [error["line"] for error in file["errors"]] == [2, 3, 4]
    assert file["errors"][0]["key"] == "conversations"


def test_a_world_is_whole_until_a_file_changes(world: Path, tmp_path: Path) -> None:
    report = the_object(invoke("check", world, "--json"))
    assert report["ok"] is True
    assert {file["format"] for file in report["files"]} >= {"llava", "vqa", "refcoco", "pope"}
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    (copy / "images" / "train" / "000000.png").unlink()
    changed = invoke("check", copy)
    assert changed.exit_code == 1
    assert "000000.png: missing, or not as it was made" in changed.stdout


def test_the_files_of_a_recipe_are_checked_with_data(recipe: Path, world: Path) -> None:
    report = the_object(invoke("check", recipe, "--data", world, "--json"))
    assert [file["broken"] for file in report["files"]] == [0]
    nowhere = invoke("check", recipe, "--data", world / "images", "--json")
    assert nowhere.exit_code == 1
    assert "no such file" in the_object(nowhere)["files"][0]["errors"][0]["message"]


def test_a_tags_file_must_name_every_image(recipe: Path, world: Path, tmp_path: Path) -> None:
    images = sorted((world / "images" / "train").iterdir())
    lines = [json.dumps({"image": f"train/{image.name}", "tags": ["red"]}) for image in images]
    content = yaml.safe_load(recipe.read_text())
    for source in content["stages"][0]["data"]:
        source |= {"image_root": "images", "tags": str(tmp_path / "tags.jsonl")}
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text(yaml.safe_dump(content))
    (tmp_path / "tags.jsonl").write_text("\n".join(lines))
    whole = the_object(invoke("check", tagged, "--data", world, "--json"))
    assert [(file["format"], file["broken"]) for file in whole["files"][1:]] == [("tags", 0)]
    (tmp_path / "tags.jsonl").write_text("\n".join(lines[1:]))
    less = invoke("check", tagged, "--data", world)
    assert less.exit_code == 1
    assert f"has no tags of 1 of {len(images)} images" in less.stdout


def test_several_targets_are_one_object(recipe: Path, world: Path) -> None:
    report = the_object(invoke("check", recipe, world / "llava" / "nothing.json", "--json"))
    assert [target["ok"] for target in report["targets"]] == [True, False]
    assert report["ok"] is False


def test_a_folder_without_data_is_an_error(tmp_path: Path) -> None:
    result = invoke("check", tmp_path)
    assert result.exit_code == 1
    assert "holds no data file" in result.stderr


def test_a_run_folder_is_no_training_data(trained: Trained) -> None:
    result = invoke("check", trained.model)
    assert result.exit_code == 1
    assert "holds no data file" in result.stderr


def test_images_of_evaluation_sets_are_reported_and_left_out(
    trained: Trained, tmp_path: Path
) -> None:
    held_out = "train/000003.png"
    (tmp_path / "test.txt").write_text(f"{held_out}\n")
    source = {"path": "llava/train.json", "image_root": "images"}
    content = yaml.safe_load(trained.recipe.read_text())
    stage = {**content["stages"][0], "data": [{**source, "exclude": [str(tmp_path / "test.txt")]}]}
    recipe = tmp_path / "clean.yaml"
    recipe.write_text(yaml.safe_dump({**content, "stages": [stage]}))
    result = invoke("check", recipe, "--data", trained.data)
    assert result.exit_code == 0, result.stderr
    assert "samples show images to exclude and are left out" in result.stdout
    assert f"images/{held_out} is image 'train/000003' of {tmp_path}/test.txt" in result.stdout
    (file,) = the_object(invoke("check", recipe, "--data", trained.data, "--json"))["files"]
    assert file["excluded"] == len(file["leaks"]) >= 1
    run = invoke("train", recipe, "--data", trained.data, "--out", tmp_path / "run", "--json")
    assert run.exit_code == 0, run.stderr
    (stage,) = json.loads((tmp_path / "run" / "results.json").read_text())["stages"]
    (used,) = stage["data"]
    assert used["excluded_rows"] == file["leaks"]
    assert used["samples"] == file["samples"]
