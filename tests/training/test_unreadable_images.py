"""Pictures that cannot be read, with and without stored features, skipped or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_detector
from manyeyes.data import opened_images
from manyeyes.errors import ImageError
from manyeyes.recipes import Recipe
from manyeyes.training import train
from training_runs import largest_difference, recipe_data

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
STORED = ("stages.0.cache_features=true", "stages.1.cache_features=true")
PATHS = pytest.mark.parametrize("settings", [(), STORED], ids=["decoded", "stored"])


@pytest.fixture
def damaged(data: Path, tmp_path: Path) -> Path:
    """Twelve rows of a picture each: the second is cut off, the sixth no picture."""
    folder = shutil.copytree(data, tmp_path / "damaged")
    cut = folder / "1.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (folder / "5.png").write_text("<html>404</html>")
    return folder


@PATHS
def test_unreadable_pictures_are_left_out_counted_and_named(
    make_recipe: MakeRecipe,
    damaged: Path,
    tmp_path: Path,
    settings: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    load = opened_images.load_image
    monkeypatch.setattr(opened_images, "load_image", lambda path: opened.append(path) or load(path))
    with caplog.at_level("WARNING", logger="manyeyes"):
        found = train(
            make_recipe(*settings), tmp_path / "out", data_dir=damaged, skip_bad_rows=True
        )
    for stage in found.results["stages"]:
        (entry,) = stage["data"]
        assert (entry["samples"], entry["skipped"]) == (10, 2)
        first, second = entry["skipped_rows"]
        assert first.startswith(f"{damaged / 'train.json'}, entry 2: image: expected an image that")
        assert f"{damaged / '1.png'}: is damaged" in first
        assert f"{damaged / '5.png'}: is not a readable image" in second
    assert "10 samples (llava), 2 broken; 2 unreadable images; first: " in caplog.text
    assert len(opened) == 12, "once for both stages"
    rows = json.loads((damaged / "train.json").read_text())
    (damaged / "train.json").write_text(json.dumps([rows[n] for n in range(12) if n not in (1, 5)]))
    train(make_recipe(*settings), tmp_path / "without", data_dir=damaged)
    assert largest_difference(tmp_path / "out" / "model", tmp_path / "without" / "model") == 0.0


@PATHS
def test_without_the_switch_sample_and_file_are_named(
    make_recipe: MakeRecipe, damaged: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    for name, sample in (("1.png", "s1"), ("5.png", "s5")):
        with pytest.raises(ImageError, match=rf"sample '{sample}': {damaged / name}: ") as caught:
            train(make_recipe(*settings), tmp_path / name, data_dir=damaged)
        assert caught.value.file == str(damaged / name)
        shutil.copy(damaged / "0.png", damaged / name)
    (damaged / "7.png").unlink()
    with pytest.raises(ImageError, match=rf"sample 's7': {damaged / '7.png'}: "):
        train(make_recipe(*settings), tmp_path / "missing", data_dir=damaged)


@pytest.mark.parametrize("skip", [False, True])
def test_a_detector_that_looks_first_names_them_too(
    make_recipe: MakeRecipe, parts: Path, damaged: Path, tmp_path: Path, skip: bool
) -> None:
    block = recipe_data(parts)["model"] | tiny_detector.block(parts)
    block["perception_text"] = {"min_score": 0.0}
    stage = {
        "name": "align",
        "train": {"fusion": True, "bridge": True},
        "data": [{"path": "train.json", "objects": {}}],
        "training": {"max_steps": 1},
    }
    recipe = make_recipe(model=block, stages=[stage])
    if not skip:
        with pytest.raises(ImageError, match=rf"sample 's1': {damaged / '1.png'}: "):
            train(recipe, tmp_path / "out", data_dir=damaged, stage="align")
        return
    found = train(recipe, tmp_path / "out", data_dir=damaged, stage="align", skip_bad_rows=True)
    (entry,) = found.results["stages"][0]["data"]
    assert (entry["samples"], entry["skipped"]) == (10, 2)
