"""``manyeyes world make`` and ``world pretrain``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli_runs import invoke, the_object
from manyeyes.world.pretrain import run


def test_make_writes_a_world_once(tmp_path: Path) -> None:
    words = ("world", "make", "--out", tmp_path / "w", "--images", "3", "--split", "val")
    report = the_object(invoke(*words, "--json"))
    assert report["images"] == {"val": 3}
    assert report["made"] is True
    assert len(list((tmp_path / "w" / "images" / "val").iterdir())) == 3
    again = invoke(*words)
    assert again.exit_code == 0
    assert "already there" in again.stdout
    other = invoke(*words, "--seed", "5")
    assert other.exit_code == 2
    assert "seed is 0, wanted 5" in other.stderr


def test_an_unknown_split_is_wrong_usage(tmp_path: Path) -> None:
    words = ("world", "make", "--out", tmp_path / "w", "--images", "3", "--split", "vla")
    result = invoke(*words)
    assert result.exit_code == 2
    assert "vla" in result.stderr
    assert not (tmp_path / "w").exists()


def test_pretrain_hands_the_budget_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def pretrain(part: str, out_dir: Path, **options: Any) -> Any:
        calls.append({"part": part, "out": out_dir, **options})
        return SimpleNamespace(training={"steps": 7})

    monkeypatch.setattr(run, "pretrain", pretrain)
    words = ("world", "pretrain", "--part", "mae", "--out", tmp_path, "--minutes", "2")
    result = invoke(*words, "--resume")
    assert result.exit_code == 0, result.stderr
    assert f"{tmp_path / 'mae'}: 7 steps" in result.stdout
    assert (calls[0]["part"], calls[0]["out"]) == ("mae", tmp_path)
    assert calls[0]["seconds"] == 120.0
    assert calls[0]["resume"] is False  # nothing there to resume
    (tmp_path / "mae.run").mkdir()
    invoke(*words, "--resume")
    assert calls[1]["resume"] is True


def test_an_unknown_part_names_the_nearest(tmp_path: Path) -> None:
    result = invoke("world", "pretrain", "--part", "dino", "--out", tmp_path)
    assert result.exit_code == 2
    assert "did you mean 'dinov2'?" in result.stderr
