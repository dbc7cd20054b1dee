"""Tiny parts, tiny data and a two-stage recipe over them, shared by the training tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from manyeyes.recipes import Recipe, load_recipe
from training_runs import recipe_data, write_recipe


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors run faster on one thread, and sums come in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_data(tmp_path_factory.mktemp("data"), samples=12)


@pytest.fixture
def make_recipe(parts: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Return a function from ``--set`` settings to the checked two-stage recipe."""

    def make(*settings: str, **changes: Any) -> Recipe:
        path = write_recipe(tmp_path / "recipe.yaml", recipe_data(parts, **changes))
        return load_recipe(path, settings)

    return make
