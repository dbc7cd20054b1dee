"""Shared by the tests of the methods: checkpoints that are made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import image_text_parts as tiny_parts
import tiny
import tiny_detector
from whole_model import Build, Built


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny clip, mae, llama, t5 and opt checkpoints."""
    folder = tiny.save_parts(tmp_path_factory.mktemp("parts"))
    tiny_parts.save_mae(folder / "mae")
    tiny_parts.save_opt(folder / "opt")
    tiny.save_t5(folder / "t5")
    return folder


@pytest.fixture
def mr_mllm(build: Build, parts: Path) -> Any:
    """Build an MR-MLLM, or another model with prompts; ``gate`` sets every gate."""

    def made(*, gate: float = 0.0, detector: bool = True, **changes: Any) -> Built:
        fusion = changes.pop("fusion", {})
        block = tiny_detector.block(parts, detector=detector)
        block["fusion"] = fusion if "name" in fusion else {**block["fusion"], **fusion}
        model, processor = build(**{**block, **changes})
        with torch.no_grad():
            model.bridge.gates.fill_(gate)
        return model, processor

    return made
