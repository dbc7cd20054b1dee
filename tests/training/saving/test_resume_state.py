"""Damaged state of a checkpoint is an error that names the file, never a traceback or a guess."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from manyeyes.errors import CheckpointError
from manyeyes.recipes import Recipe
from manyeyes.training import train
from manyeyes.training.saving.checksums import CHECKSUMS_FILE, check_checksums, write_checksums

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
LAST = "checkpoint-4"


@pytest.fixture
def stopped(make_recipe: MakeRecipe, data: Path, tmp_path: Path) -> Callable[[], Any]:
    """A run whose first stage is to be continued; returns a function that does so."""
    out, recipe = tmp_path / "out", make_recipe()
    train(recipe, out, data_dir=data, stage="align")
    (out / "align" / "results.json").unlink()

    def go_on() -> Any:
        return train(recipe, out, data_dir=data, stage="align", resume=True)

    return go_on


def problem(go_on: Callable[[], Any]) -> str:
    """What the error says; "nothing" where there is none."""
    try:
        go_on()
    except CheckpointError as error:
        return str(error)
    return "nothing"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change one bit of the largest tensor, which torch itself would not notice."""
    with zipfile.ZipFile(path) as parts:
        content = max((parts.read(name) for name in parts.namelist()), key=len)
    data = bytearray(path.read_bytes())
    data[data.find(content) + len(content) // 2] ^= 1
    path.write_bytes(data)


def change(**values: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return edit


def reshape(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    moments = next(iter(state["state"].values()))
    moments["exp_avg"] = torch.zeros(3, 2)
    torch.save(state, path)


DAMAGES: dict[str, list[tuple[str, Callable[[Path], Any]]]] = {
    "optimizer.pt": [
        ("gone", Path.unlink),
        ("empty", lambda path: path.write_bytes(b"")),
        ("cut", cut),
        ("one bit", flip),
        ("a list", lambda path: torch.save([1], path)),
        ("nothing in it", lambda path: torch.save({}, path)),
        ("another shape", reshape),
    ],
    "scheduler.pt": [
        ("gone", Path.unlink),
        ("text", lambda path: path.write_text("{}")),
        ("cut", cut),
        ("a list", lambda path: torch.save([1], path)),
        ("nothing in it", lambda path: torch.save({}, path)),
    ],
    "trainer_state.json": [
        ("empty", lambda path: path.write_text("")),
        ("cut", cut),
        ("a list", lambda path: path.write_text("[]")),
        ("deep", lambda path: path.write_text("[" * 100_000)),
        ("another key", change(speed=3)),
        ("another kind", change(log_history="x")),
        ("another step", change(global_step=2)),
        ("no step", change(global_step=None)),
    ],
    "data_state.json": [
        ("gone", Path.unlink),
        ("cut", cut),
        ("a text", lambda path: path.write_text('"x"')),
        ("a text as number", change(position="4")),
        ("a figure that does not follow", change(samples_seen=3)),
        ("a negative one", change(epoch=-1)),
    ],
}


def test_every_damage_is_named_and_the_whole_state_goes_on(
    stopped: Callable[[], Any], tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "align" / LAST
    (folder / CHECKSUMS_FILE).unlink()  # as in checkpoints of before
    shutil.copytree(folder, tmp_path / "whole")
    for name, damages in DAMAGES.items():
        for what, damage in damages:
            damage(folder / name)
            said = problem(stopped)
            assert name in said or "the data state is damaged" in said, (name, what, said)
            shutil.copyfile(tmp_path / "whole" / name, folder / name)
    stopped()
    results = tmp_path / "out" / "align" / "results.json"
    cut(results)
    (tmp_path / "out" / "results.json").unlink()
    with pytest.raises(CheckpointError, match=r"align/results\.json: missing or damaged"):
        stopped()


def test_files_without_checksums_of_their_own_have_them_in_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("model.safetensors", "sub/config.json"):
        (tmp_path / name).write_text("abc")
    check_checksums(tmp_path)  # a checkpoint of before
    write_checksums(tmp_path)
    check_checksums(tmp_path)
    (tmp_path / "sub/config.json").write_text("abd")
    with pytest.raises(
        CheckpointError, match=r"sub/config\.json: damaged .*remove this checkpoint"
    ):
        check_checksums(tmp_path)
    (tmp_path / "sub/config.json").unlink()
    check_checksums(tmp_path)
