"""Shared by the tests of the methods: checkpoints that are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import image_text_parts as tiny_parts
import tiny


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny clip, mae, llama, t5 and opt checkpoints."""
    folder = tiny.save_parts(tmp_path_factory.mktemp("parts"))
    tiny_parts.save_mae(folder / "mae")
    tiny_parts.save_opt(folder / "opt")
    tiny.save_t5(folder / "t5")
    return folder
