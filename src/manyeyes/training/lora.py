"""LoRA of a stage: what its ``train`` block asks for, put on the model before anything is frozen.

A part keeps the LoRA of the stage before if this stage asks for the same or leaves the part frozen.
Where it trains the part's own weights, or asks for another LoRA, the old one is added to the
weights first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.errors import RecipeError, nearest
from manyeyes.layers.adapters.lora import LoraOptions, is_lora, lora_layers
from manyeyes.model.lora import add_lora, lora_parts, merge_lora, parse_lora
from manyeyes.recipes import PartTraining
from manyeyes.training.trainable import ALIASES, Train, assign

ENCODERS = "encoders"


def prepare_lora(model: Any, train: Train, *, seed: int = 0) -> None:
    """Bring the LoRA of ``model`` into the form that a stage's ``train`` block asks for.

    Raises:
        RecipeError: a pattern that names no part, targets that match nothing, or LoRA of which
            later patterns freeze all.
        PartError, UsageError, CheckpointError: see ``add_lora`` and ``merge_lora``.
    """
    asked = asked_lora(model, train)
    for part, said in list(model.config.lora.items()):
        options = asked.get(part)
        changed = options is not None and parse_lora(part, said) != options
        if changed or (options is None and _trains_under(model, part, train)):
            merge_lora(model, part)
    for number, (part, options) in enumerate(asked.items()):
        if part not in model.config.lora:
            add_lora(model, part, options, where=f"train.{_said(part)}.lora", seed=seed + number)
    _check_learning(model, train, asked)


def asked_lora(model: Any, train: Train) -> dict[str, LoraOptions]:
    """Return part of the model → LoRA that a ``train`` block gives it.

    Raises:
        RecipeError: a pattern that is no part.
    """
    known = lora_parts(model)
    asked: dict[str, LoraOptions] = {}
    for pattern, value in train.items():
        if not isinstance(value, PartTraining) or value.lora is None:
            continue
        name = ALIASES.get(pattern, pattern)
        parts = [p for p in known if name == p or (name == ENCODERS and p.startswith(name))]
        if not parts:
            names = [_said(part) for part in known]
            raise RecipeError(
                f"train.{pattern}.lora: LoRA goes on {' or '.join(names)}, not on {pattern!r}"
                f"{nearest(pattern, names)}"
            )
        asked |= dict.fromkeys(parts, value.lora)
    return asked


def _trains_under(model: Any, part: str, train: Train) -> bool:
    """Whether a stage trains weights of ``part`` that LoRA stands on."""
    assignment = assign(model, train)
    layers = [f"{part}.{name}.base_layer." for name, _ in lora_layers(model.get_submodule(part))]
    return any(a is not None and name.startswith(tuple(layers)) for name, a in assignment.items())


def _check_learning(model: Any, train: Train, asked: Mapping[str, LoraOptions]) -> None:
    assignment = assign(model, train) if asked else {}
    for part in asked:
        names = [n for n in assignment if n.startswith(f"{part}.") and is_lora(n)]
        if all(assignment[name] is None for name in names):
            raise RecipeError(
                f"train.{_said(part)}.lora: nothing of it learns, because a later pattern of "
                "`train` freezes all of it; patterns that come later decide"
            )


def _said(part: str) -> str:
    """Return a part's name as recipes write it."""
    return next((said for said, attribute in ALIASES.items() if attribute == part), part)
