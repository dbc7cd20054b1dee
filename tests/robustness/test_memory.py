"""A thousand steps and a thousand answers: memory grows no more once everything has been used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manyeyes.world.make import make_world
from processes import ENVIRONMENT
from study_arms import stage, write_recipe

pytestmark = pytest.mark.slow

UNITS = 1000
WARM = 200
"""Steps or items until every code path has run and caches are full."""


def watched(*words: object) -> list[tuple[int, int, int]]:
    """What ``memory_process`` measured: units done, resident bytes, living tensors."""
    script = Path(__file__).parents[1] / "support" / "memory_process.py"
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def check_flat(seen: list[tuple[int, int, int]]) -> None:
    """From ``WARM`` units on at most 5 % more bytes, and no tensor more than a step has."""
    after = [one for one in seen if one[0] >= WARM]
    assert after[-1][0] >= UNITS
    first, last = after[0], after[-1]
    said = f"{first[1] / 2**20:.0f} MiB at {first[0]}, {last[1] / 2**20:.0f} MiB at {last[0]}"
    print(f"{said}; tensors {first[2]} and {last[2]}")
    assert last[1] <= 1.05 * first[1], said
    assert last[2] <= first[2] + 20, seen


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "world"
    make_world(folder, images={"train": 60, "test": 400}, seed=1)
    return folder


@pytest.mark.parametrize("cached", [True, False], ids=["stored", "encoded"])
def test_training(cached: bool, parts: Path, data: Path, tmp_path: Path) -> None:
    own = stage("train", max_steps=UNITS, logging_steps=10, save_steps=100, save_total_limit=1)
    own["cache_features"] = cached
    recipe = write_recipe(tmp_path, parts, "clip+dinov2", stages=[own])
    check_flat(watched("train", recipe, data, tmp_path / "out"))


def test_evaluating(build: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    model, processor = build()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    check_flat(watched("evaluate", tmp_path / "model", data, tmp_path / "out"))
