"""Questions of a small world, their task folders, and a tiny model that answers some rightly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.inference.questions import Item
from manyeyes.records import Sample, Turn
from manyeyes.world.make import make_world

NAMES = ("pope", "vqa")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmms") / "world"
    make_world(folder, images={"train": 8, "val": 4}, seed=2)
    return folder


@pytest.fixture(scope="module")
def items(data: Path) -> dict[str, list[Item]]:
    return {name: get_benchmark(name).items(data, "val") for name in NAMES}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, items: dict[str, list[Item]]) -> Path:
    """A saved tiny model that answers some of the questions rightly."""
    folder = tmp_path_factory.mktemp("lmms-model")
    config = ManyEyesConfig(**tiny.model_block(tiny.save_parts(folder / "parts")))
    processor = ManyEyesProcessor.from_config(config)
    built = ManyEyesForConditionalGeneration.from_parts(config)
    asked = [*items["pope"][:6], *items["vqa"][:6]]
    teach(built, processor, [(i, i.references[0] if k % 3 else "no") for k, i in enumerate(asked)])
    built.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder / "model"


def teach(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    answers: Sequence[tuple[Item, str]],
    steps: int = 60,
) -> None:
    rows = [
        processor.encode(
            Sample("", (), (Turn("user", f"<image>\n{item.prompt}"), Turn("assistant", answer))),
            [Image.open(item.image).convert("RGB")],
        )
        for item, answer in answers
    ]
    batch = processor.collate(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Both benchmarks as tasks of lmms-eval."""
    from manyeyes.evaluation.harness.local_tasks import write_task

    folder = tmp_path_factory.mktemp("lmms-tasks")
    written = [write_task(name, data, "val", folder) for name in NAMES]
    assert written == [f"manyeyes_{name}" for name in NAMES]
    return folder
