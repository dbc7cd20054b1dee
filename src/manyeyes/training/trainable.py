"""What learns in a stage: freezing by name pattern, and the optimizer's parameter groups.

A pattern without wildcards covers the part of that name (``fusion``, ``encoders.clip``); a pattern
with wildcards is matched against whole parameter names (``fusion.*scale*``). The last matching
pattern decides, and what no pattern covers is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from manyeyes.errors import RecipeError, nearest
from manyeyes.layers.adapters.lora import is_lora
from manyeyes.recipes import PartTraining

ALIASES: Mapping[str, str] = {"language": "language_model"}
"""Part names of recipes that differ from the model's attribute."""

Train = Mapping[str, bool | float | PartTraining]
"""A stage's ``train`` block."""

Assignment = Mapping[str, PartTraining | None]
"""Parameter name → its arguments, or None when it is frozen."""


def assign(model: nn.Module, train: Train) -> Assignment:
    """Return what the ``train`` block of a stage means for every parameter of ``model``.

    Of a part with ``lora`` the updates alone learn, which the model must carry already.

    Raises:
        RecipeError: a pattern that covers no parameter (naming the nearest part).
    """
    names = [name for name, _ in model.named_parameters()]
    assignment: dict[str, PartTraining | None] = dict.fromkeys(names)
    for pattern, value in train.items():
        covered = [name for name in names if covers(pattern, name)]
        if not covered:
            parts = _part_names(names)
            raise RecipeError(
                f"train.{pattern}: no parameter of this model matches{nearest(pattern, parts)}; "
                f"parts: {', '.join(parts)}"
            )
        own = _arguments(value)
        only = own is not None and own.lora is not None
        assignment |= {n: own if is_lora(n) or not only else None for n in covered}
    return assignment


def covers(pattern: str, name: str) -> bool:
    """Tell whether ``pattern`` covers the parameter called ``name``."""
    head, dot, rest = pattern.partition(".")
    full = ALIASES.get(head, head) + dot + rest
    if any(character in full for character in "*?["):
        return fnmatchcase(name, full)
    return name == full or name.startswith(full + ".")


def freeze(model: nn.Module, assignment: Assignment) -> None:
    """Let exactly the assigned parameters learn; those are kept in float32."""
    for name, parameter in model.named_parameters():
        learns = assignment[name] is not None
        parameter.requires_grad_(learns)
        if learns and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()  # small updates vanish in half precision


def parameter_groups(
    model: nn.Module, assignment: Assignment, *, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return optimizer groups, one per learning rate and weight decay.

    ``learning_rate`` and ``weight_decay`` hold where a pattern gives none of its own. Parameters
    of one dimension or none (biases, norms, layer scales) never decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        own = assignment[name]
        if own is None:
            continue
        rate = learning_rate if own.learning_rate is None else own.learning_rate
        decay = weight_decay if own.weight_decay is None else own.weight_decay
        key = (rate, decay if parameter.ndim > 1 else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _arguments(value: bool | float | PartTraining) -> PartTraining | None:
    if isinstance(value, PartTraining):
        return value
    if isinstance(value, bool):
        return PartTraining() if value else None
    return PartTraining(learning_rate=value)


def _part_names(names: list[str]) -> list[str]:
    parts: dict[str, None] = {}
    for name in names:
        pieces = name.split(".")
        depth = 2 if pieces[0] == "encoders" else 1
        parts[".".join(pieces[:depth])] = None
    recipe_names = {attribute: part for part, attribute in ALIASES.items()}
    return [recipe_names.get(part, part) for part in parts]
