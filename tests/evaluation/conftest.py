"""A small world on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyeyes.world.make import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's files with 12 training and 10 validation images."""
    folder = tmp_path_factory.mktemp("evaluation") / "world"
    make_world(folder, images={"train": 12, "val": 10}, seed=1)
    return folder
