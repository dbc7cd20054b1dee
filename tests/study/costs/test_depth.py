"""Steps of deep models, from those of shallow ones: to the byte what the whole step gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from manyeyes.recipes import Recipe
from manyeyes.study.costs import memory as counting
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.study.costs.tracing import Traced

LLAMA = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
T5 = {
    "model_type": "t5",
    "vocab_size": 300,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 7,
    "num_decoder_layers": 7,
    "num_heads": 2,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}
LORA = {"language": {"lora": {"rank": 4}}}


def make(parts: Path, language: dict[str, Any], train: dict[str, Any], **training: Any) -> Recipe:
    block = tiny.model_block(parts)
    block["language"] = language
    stage = {
        "name": "only",
        "train": {"fusion": True, **train},
        "data": [{"path": "a.json"}],
        "training": {"max_steps": 1, "per_device_train_batch_size": 2, **training},
    }
    return Recipe(name="deep", model=block, stages=[stage])


@pytest.mark.parametrize(
    ("language", "train", "training"),
    [
        ({"config": LLAMA}, {"language": True}, {"bf16": False}),
        ({"config": LLAMA}, {"language": True}, {"bf16": True}),
        ({"config": LLAMA}, {}, {"bf16": True}),
        ({"config": LLAMA}, LORA, {"bf16": False}),
        (
            {"config": LLAMA},
            {"language": True},
            {"bf16": True, "activation_checkpointing": True},
        ),
        ({"config": T5, "kind": "encoder_decoder"}, {"language": True}, {"bf16": False}),
    ],
)
@pytest.mark.parametrize("gpus", [1, 2])
def test_the_line_through_two_steps_meets_the_whole_one(
    parts: Path,
    language: dict[str, Any],
    train: dict[str, Any],
    training: dict[str, Any],
    gpus: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = make(parts, language, train, **training)
    steps: list[Traced] = []
    trace = counting.trace_step

    def noted(*args: Any, **kwargs: Any) -> Traced:
        steps.append(trace(*args, **kwargs))
        return steps[-1]

    monkeypatch.setattr(counting, "trace_step", noted)
    short = inspect_recipe(recipe, gpus=gpus).stages[0]
    assert len(steps) == 2 * gpus
    monkeypatch.setattr(counting, "trace_deep", lambda model, assignment, step: step())
    whole = inspect_recipe(recipe, gpus=gpus).stages[0]
    assert len(steps) == 3 * gpus
    assert short.memory == whole.memory
    assert short.ways == whole.ways
