"""``manyeyes convert data``, and training on what it may write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import data_rows as good
from cli_runs import invoke, the_object
from packed import make_tar

pytestmark = pytest.mark.long

OTHER = {**good.LLAVA, "conversations": []}


def test_people_see_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([good.LLAVA, OTHER]))
    words = ("convert", "data", tmp_path / "in.json", "--to", "messages")
    result = invoke(*words, "--out", tmp_path / "out.jsonl", "--skip-bad-rows")
    assert result.exit_code == 0, result.stderr
    assert "in.json: 1 samples (llava), 1 broken" in result.stdout
    assert "in.json, entry 2: conversations" in result.stdout
    assert "out.jsonl: 1 samples (messages)" in result.stdout
    (row,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["messages"][1] == {"role": "assistant", "content": "A cube."}
    assert row["images"] == ["one.png"]


def test_programs_read_one_object(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([good.LLAVA]))
    words = ("convert", "data", tmp_path / "in.json", "--to", "llava", "--json")
    report = the_object(invoke(*words, "--out", tmp_path / "out.json"))
    assert (report["samples"], report["source"]["format"]) == (1, "llava")
    again = invoke(*words, "--out", tmp_path / "out.json")
    assert again.exit_code == 2
    assert the_object(again)["error"]["message"].endswith("exists: choose a new file")


def test_a_broken_row_fails_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([good.LLAVA, OTHER]))
    words = ("convert", "data", tmp_path / "in.json", "--to", "llava", "--json")
    result = invoke(*words, "--out", tmp_path / "out.json")
    assert result.exit_code == 1
    error = the_object(result)["error"]
    assert (error["entry"], error["key"]) == (2, "conversations")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_training_reads_images_out_of_containers(
    kind: str, recipe: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows give the same model, whether images are files or inside a container."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = json.loads((world / "llava/val.json").read_text())
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(rows))
    packed = tmp_path / f"rows.{kind}"
    if kind == "tar":
        pack(packed, rows, world / "images")
    else:
        pytest.importorskip("datasets")
        words = ("convert", "data", source, "--to", "parquet", "--out", packed)
        assert invoke(*words, "--image-root", world / "images").exit_code == 0
    results = [
        train(recipe, tmp_path / f"run-{path.suffix[1:]}", path, world / "images")
        for path in (source, packed)
    ]
    assert results[0]["weights"] == results[1]["weights"]


def pack(path: Path, rows: list[dict[str, Any]], images: Path) -> None:
    members = []
    for row in rows:
        members.append((f"{row['id']}.png", (images / row["image"]).read_bytes()))
        members.append((f"{row['id']}.json", json.dumps(row).encode()))
    make_tar(path, members)


def train(recipe: Path, out: Path, data: Path, images: Path) -> dict[str, Any]:
    """Train the recipe's first stage on one file, over stored features; return the results."""
    content = yaml.safe_load(recipe.read_text())
    stage = {**content["stages"][0], "cache_features": True}
    stage["data"] = [{"path": str(data), "image_root": str(images)}]
    changed = recipe.with_name(f"{out.name}.yaml")
    changed.write_text(yaml.safe_dump({**content, "stages": [stage]}))
    result = invoke("train", changed, "--out", out)
    assert result.exit_code == 0, result.stderr
    return json.loads((out / "results.json").read_text())
