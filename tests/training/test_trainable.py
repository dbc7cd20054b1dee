"""What learns: patterns, freezing, parameter groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from manyeyes.errors import RecipeError
from manyeyes.recipes import PartTraining
from manyeyes.training.trainable import assign, covers, freeze, parameter_groups


def small_model() -> nn.Module:
    model = nn.Module()
    model.fusion = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model.fusion.scale = nn.Parameter(torch.zeros(3))
    model.language_model = nn.Linear(2, 2, bias=False)
    model.encoders = nn.ModuleDict({"clip": nn.Linear(2, 2), "dinov2": nn.Linear(2, 2)})
    return model


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("fusion", "fusion.0.weight", True),
        ("fusion", "fusion2.0.weight", False),
        ("language", "language_model.weight", True),
        ("language.*.q_proj", "language_model.layers.0.q_proj.weight", False),
        ("language.*.q_proj.*", "language_model.layers.0.q_proj.weight", True),
        ("encoders.clip", "encoders.clip.weight", True),
        ("encoders.clip", "encoders.clip_large.weight", False),
        ("fusion.*scale*", "fusion.mergers.clip.scale_logits", True),
        ("*", "anything.at.all", True),
    ],
)
def test_patterns_cover_parts_and_globs(pattern: str, name: str, expected: bool) -> None:
    assert covers(pattern, name) is expected


def test_last_matching_pattern_decides_and_the_rest_is_frozen() -> None:
    model = small_model()
    train = {"fusion": True, "fusion.0": False, "encoders.*": 1e-4, "encoders.clip": False}
    learning = {name for name, value in assign(model, train).items() if value is not None}
    assert learning == {
        "fusion.1.weight",
        "fusion.1.bias",
        "fusion.scale",
        "encoders.dinov2.weight",
        "encoders.dinov2.bias",
    }


def test_freeze_sets_gradients_and_keeps_what_learns_in_float32() -> None:
    model = small_model().to(torch.bfloat16)
    freeze(model, assign(model, {"fusion": True}))
    kinds = {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()}
    assert kinds["fusion.0.weight"] == (True, torch.float32)
    assert kinds["language_model.weight"] == (False, torch.bfloat16)


def test_groups_have_own_rates_and_no_decay_on_one_dimension() -> None:
    model = small_model()
    own = PartTraining(learning_rate=3e-3, weight_decay=0.5)
    assignment = assign(model, {"fusion": True, "fusion.scale": 1e-2, "language": own})
    groups = parameter_groups(model, assignment, learning_rate=1e-3, weight_decay=0.1)
    found = {
        (group["lr"], group["weight_decay"]): sorted(p.ndim for p in group["params"])
        for group in groups
    }
    assert found == {(1e-3, 0.1): [2], (1e-3, 0.0): [1, 1, 1], (1e-2, 0.0): [1], (3e-3, 0.5): [2]}


def test_unmatched_pattern_names_the_nearest_part() -> None:
    with pytest.raises(RecipeError, match=r"train\.fusoin: .*'fusion'.*encoders\.clip"):
        assign(small_model(), {"fusoin": True})
