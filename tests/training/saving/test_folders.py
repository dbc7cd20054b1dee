"""Checkpoint folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyeyes.files import written_folder
from manyeyes.training.saving.folders import (
    STATE_FILE,
    checkpoints,
    keep_newest,
    remove_unfinished,
    step_of,
    unfinished,
)


def write(folder: Path, text: str = "{}") -> None:
    with written_folder(folder, aside=unfinished(folder)) as aside:
        assert not folder.exists() or aside != folder
        (aside / STATE_FILE).write_text(text)


def test_folder_appears_when_complete_and_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-2", "old")
    write(tmp_path / "checkpoint-2", "new")
    assert (tmp_path / "checkpoint-2" / STATE_FILE).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_only_complete_checkpoints_count_in_order_of_steps(tmp_path: Path) -> None:
    for step in (10, 2, 9):
        write(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "unfinished-checkpoint-12").mkdir()
    (tmp_path / "checkpoint-12x").mkdir()
    assert [step_of(path) for path in checkpoints(tmp_path)] == [2, 9, 10]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-2")
    (tmp_path / "unfinished-checkpoint-4").mkdir()
    (tmp_path / ".unfinished-checkpoint-4.abc").mkdir()
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


@pytest.mark.parametrize(("limit", "left"), [(None, [1, 2, 3]), (2, [2, 3]), (1, [3])])
def test_keep_newest(tmp_path: Path, limit: int | None, left: list[int]) -> None:
    for step in (1, 2, 3):
        write(tmp_path / f"checkpoint-{step}")
    keep_newest(tmp_path, limit)
    assert [step_of(path) for path in checkpoints(tmp_path)] == left
