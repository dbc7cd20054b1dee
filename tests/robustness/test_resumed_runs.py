"""Damaged state of a run: resuming is a named error, or ends in the weights of the unbroken run."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import tiny
from attacks import damaged_bytes, mutated, within
from manyeyes.errors import ManyEyesError
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.training import train
from study_arms import stage, write_recipe
from training_runs import same_weights

Stopped = tuple[Recipe, Path, Path, Path]


@pytest.fixture(scope="module")
def stopped(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A recipe, its data, a finished run, and the same run with its last step still to go."""
    root = tmp_path_factory.mktemp("resumed")
    data = tiny.save_data(root / "data")
    own = {**stage("train", max_steps=2), "cache_features": False}
    own["data"] = [{"path": "train.json"}]
    recipe = load_recipe(write_recipe(root, parts, "clip", stages=[own]))
    train(recipe, root / "whole", data_dir=data)
    shutil.copytree(root / "whole", root / "half")
    for left in ("model", "results.json", "train/checkpoint-2", "train/results.json"):
        place = root / "half" / left
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    return recipe, data, root / "whole", root / "half"


def attack(stopped: Stopped, seed: int, times: int, folder: Path) -> tuple[int, int]:
    """Damage one file of a stopped run at a time; return how many were refused and how many not."""
    recipe, data, whole, half = stopped
    random_ = random.Random(seed)
    names = sorted(p.relative_to(half) for p in half.rglob("*") if p.is_file())
    names = [name for name in names if "runs" not in name.parts]
    refused = read = 0
    for number in range(times):
        out = folder / str(number)
        shutil.copytree(half, out)
        name = random_.choice(names)
        what = f"{name}: {damage(out / name, random_)}"
        try:
            with within(120.0):
                train(recipe, out, data_dir=data, resume=True)
        except ManyEyesError as error:
            assert len(str(error)) > 10, what
            refused += 1
        except Exception as error:
            raise AssertionError(what) from error
        else:
            assert same_weights(out / "model", whole / "model"), what
            read += 1
        shutil.rmtree(out)
    return refused, read


def damage(path: Path, random_: random.Random) -> str:
    """Remove a file, change its bytes, or change a value in it; say what was done."""
    kind = random_.choice(("remove", "bytes", "bytes", "value", "value"))
    if kind == "remove":
        path.unlink()
        return "removed"
    if kind == "value" and path.suffix == ".json":
        changed, what = mutated(json.loads(path.read_text()), random_)
        path.write_text(json.dumps(changed), "utf-8", "surrogatepass")
        return what
    data, what = damaged_bytes(path.read_bytes(), random_)
    path.write_bytes(data)
    return what


def test_a_damaged_run_is_refused_or_goes_on(stopped: Stopped, tmp_path: Path) -> None:
    assert sum(attack(stopped, 0, 6, tmp_path)) == 6


@pytest.mark.slow
def test_many_damaged_runs(stopped: Stopped, tmp_path: Path) -> None:
    refused, read = attack(stopped, 1, 120, tmp_path)
    print(f"{refused} refused, {read} went on to the same weights")
    assert refused > 40
