"""``manyeyes tag``: a recipe's tagger, a model's, or a checkpoint's own name; bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from cli_runs import invoke, the_object
from manyeyes.cli.chat import tags_of_images
from manyeyes.cli.tag import find_tagger
from manyeyes.data.annotations.tags import read_tags
from manyeyes.errors import UsageError

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tagger(tmp_path_factory.mktemp("tagger"), NAMES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_data(tmp_path_factory.mktemp("data") / "d", samples=3)


def test_a_data_files_images_are_tagged_once(tagger: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.jsonl"
    run = invoke("tag", tagger, data / "train.json", "--out", out, "--threshold", 0, "--json")
    assert run.exit_code == 0, run.stderr
    assert the_object(run) == {"out": str(out), "images": 3, "tags": 9}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert all(tuple(row["tags"]) == NAMES and len(row["scores"]) == 3 for row in rows)
    assert set(read_tags(out, data)) == {str(data / f"{n}.png") for n in range(3)}
    again = invoke("tag", tagger, data / "train.json", "--out", out)
    assert again.exit_code == 2 and "exists: choose a new file" in again.stderr


def test_a_folder_of_images_and_paths_outside_the_root(
    tagger: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tags.jsonl"
    run = invoke("tag", tagger, data, "--image-root", tmp_path, "--out", out, "--batch-size", 2)
    assert run.exit_code == 0 and "3 images" in run.stdout
    names = [json.loads(line)["image"] for line in out.read_text().splitlines()]
    assert names == [str(data / f"{n}.png") for n in range(3)]


def test_recipes_and_models_name_their_tagger(tagger: Path, tmp_path: Path) -> None:
    block = {"family": "classifier", "checkpoint": str(tagger), "threshold": 0.3}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: comm/world\nmodel:\n  tagger: {json.dumps(block)}\n")
    assert find_tagger(str(recipe), {}).threshold == 0.3
    assert find_tagger(str(recipe), {"threshold": 0.9}).threshold == 0.9
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "manyeyes", "tagger": block}))
    assert find_tagger(str(model), {}).checkpoint == str(tagger)
    assert find_tagger("world:tagger", {}).family == "classifier"
    assert find_tagger("ram.pth", {"tags": "list.txt"}).family == "ram"
    with pytest.raises(UsageError, match="comm/world has no `tagger`"):
        find_tagger("comm/world", {})


def test_bad_input_is_one_line(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = invoke("tag", tagger, tmp_path / "empty", "--out", tmp_path / "t.jsonl")
    assert run.exit_code == 2 and "names no image" in run.stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    run = invoke("tag", tagger, broken, "--out", tmp_path / "t.jsonl")
    assert run.exit_code == 1 and "a.png" in run.stderr and not (tmp_path / "t.jsonl").exists()
    lists = tmp_path / "thresholds.txt"
    lists.write_text("0.5\n")
    run = invoke("tag", tagger, broken, "--out", tmp_path / "t.jsonl", "--thresholds", lists)
    assert run.exit_code == 1 and "1 thresholds for 3 tags" in " ".join(run.stderr.split())


def test_chat_takes_one_list_of_tags_per_image() -> None:
    assert tags_of_images(["a, b,", ""], [Path("x"), Path("y")]) == [["a", "b"], []]
    assert tags_of_images(None, [Path("x")]) == [None] and tags_of_images(None, None) == []
    with pytest.raises(UsageError, match="--tags is given 1 times, --image 2 times"):
        tags_of_images(["a"], [Path("x"), Path("y")])
