"""Shared by all tests: offline, quiet, and tiny random parts made once."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.world.make import make_world

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process ends long after the others."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Keep what libraries and tests have made so far: every training's end walks over the rest."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """What tests write need not outlive the machine: only the number of a file is checked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's files with 12 training and 10 validation images."""
    folder = tmp_path_factory.mktemp("evaluation") / "world"
    make_world(folder, images={"train": 12, "val": 10}, seed=1)
    return folder


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny clip, dinov2, llama and t5 checkpoints."""
    folder = tiny.save_parts(tmp_path_factory.mktemp("parts"))
    tiny.save_t5(folder / "t5")
    return folder


@pytest.fixture(scope="session")
def build(parts: Path) -> Callable[..., Built]:
    """Build a COMM model and its processor over the tiny parts; keywords override the block."""

    def make(**changes: Any) -> Built:
        config = ManyEyesConfig(**{**tiny.model_block(parts), **changes})
        processor = ManyEyesProcessor.from_config(config)
        return ManyEyesForConditionalGeneration.from_parts(config), processor

    return make


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three different pictures, one of them not square."""
    sizes = ((16, 16), (20, 12), (16, 16))
    generator = torch.Generator().manual_seed(0)
    return [
        Image.fromarray(
            torch.randint(0, 256, (height, width, 3), generator=generator).byte().numpy()
        )
        for width, height in sizes
    ]
