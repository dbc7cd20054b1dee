"""The gate of the world's geometry."""

from __future__ import annotations

import pytest

from manyeyes.world.pretrain.measuring.gate import GATED, GateResult, run_gate
from manyeyes.world.pretrain.pictures import scene_batch
from manyeyes.world.pretrain.sizes import PATCH


@pytest.mark.parametrize("weak", GATED)
def test_every_gated_attribute_must_pass(weak: str) -> None:
    accuracy = {**dict.fromkeys(GATED, 0.95), "size": 0.5}
    assert GateResult(6, accuracy, 10, 1, 1, 1.0).passed
    assert not GateResult(6, {**accuracy, weak: 0.9}, 10, 1, 1, 1.0).passed


def test_gate_measures_what_it_trained() -> None:
    result = run_gate(PATCH, seconds=0.5, batch=8, held_out=64)
    assert result.images == 8 * result.steps
    assert set(result.accuracy) >= set(GATED)
    assert all(0.0 <= value <= 1.0 for value in result.accuracy.values())
    assert result.objects == sum(len(scene.objects) for scene in scene_batch("val", 0, 64, 0))


@pytest.mark.slow
def test_supervised_encoder_reads_the_world() -> None:
    result = run_gate(PATCH, seconds=900.0)
    assert result.passed, result
