"""LoRA of a whole model: which parts carry it is written in ``config.lora``.

    config.lora = {"language_model": {"rank": 16, ...}, "encoders.clip": {...}}

A model whose configuration names LoRA is built with it, so that checkpoints hold the updates beside
whatever else was trained, and load as any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manyeyes.encoders import GridEncoder
from manyeyes.errors import PartError, RecipeError, UsageError, nearest
from manyeyes.language import IdleLanguage
from manyeyes.layers.adapters.lora import (
    LoraOptions,
    find_targets,
    is_lora,
    lora_layers,
    merge_layers,
    peft_config,
    plain_name,
    put_lora,
    take_off,
)
from manyeyes.options import parse_options, plain

LANGUAGE_PART = "language_model"
_PROMPT_LAYERS = ("k_proj", "v_proj")


def lora_parts(model: Any) -> list[str]:
    """Return the parts of ``model`` that can carry LoRA."""
    grids = [name for name, encoder in model.encoders.items() if isinstance(encoder, GridEncoder)]
    language = [] if isinstance(model.language_model, IdleLanguage) else [LANGUAGE_PART]
    return [*(f"encoders.{name}" for name in grids), *language]


def parse_lora(part: str, values: Any) -> LoraOptions:
    """Return the checked options of LoRA on ``part``. Raises ``RecipeError``."""
    return parse_options(LoraOptions, values, f"lora.{part}")


def add_lora(
    model: Any, part: str, options: LoraOptions, *, where: str = "", seed: int = 0
) -> None:
    """Put LoRA on ``part`` and record it in the configuration.

    Raises:
        RecipeError: no such part (naming the nearest), or targets that it does not have.
        PartError: a part without linear layers. UsageError: PEFT is not installed.
    """
    known = lora_parts(model)
    if part not in known:
        raise RecipeError(
            f"{where or 'lora'}: LoRA goes on {' and '.join(known) or 'no part of this model'}, "
            f"not on {part!r}{nearest(part, known)}"
        )
    held = set(model.state_dict())
    put_lora(model.get_submodule(part), options, where or f"lora.{part}", seed=seed)
    now = model.state_dict()
    added = {name for name in now if is_lora(name)} - held
    moved = {plain_name(name): name for name in now if name not in held | added}
    _rename(model, moved)
    model._added |= added
    model._touched |= added
    model.config.lora = {**(model.config.lora or {}), part: plain(options)}


def merge_lora(model: Any, part: str | None = None) -> None:
    """Add the updates of ``part`` (None = of all parts) to the weights; LoRA is gone afterwards.

    Raises:
        PartError: prompts of the bridge read keys and values without LoRA, which a sum cannot.
        CheckpointError: an update is not finite.
    """
    for name in _parts(model, part):
        module = model.get_submodule(name)
        if name == LANGUAGE_PART:
            _check_prompts(model)
        changed = merge_layers(module, name)
        _forget(model, name)
        model._touched |= {f"{name}.{weight}" for weight in changed}


def remove_lora(model: Any) -> None:
    """Take the updates off without adding them to the weights."""
    for name in _parts(model, None):
        take_off(model.get_submodule(name))
        _forget(model, name)


def write_adapter(model: Any, folder: Path) -> None:
    """Take LoRA off ``model`` and write it into ``folder`` in PEFT's own format.

    ``PeftModel.from_pretrained(model, folder)`` puts it back.

    Raises:
        UsageError: there is none, or parts differ in what one adapter of PEFT can say.
    """
    from peft import get_peft_model

    config = _whole_config(model)
    updates = {name: tensor.clone() for name, tensor in model.state_dict().items() if is_lora(name)}
    remove_lora(model)
    wants_gradient = {name: p.requires_grad for name, p in model.named_parameters()}
    tuned = get_peft_model(model, config)
    own: dict[str, Tensor] = tuned.base_model.model.state_dict()
    with torch.no_grad():
        for name, tensor in updates.items():
            own[name].copy_(tensor)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    tuned.unload()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(wants_gradient[name])


def _whole_config(model: Any) -> Any:
    """PEFT's configuration of the LoRA of all parts together."""
    parts = {part: parse_lora(part, said) for part, said in (model.config.lora or {}).items()}
    if not parts:
        raise UsageError("this model carries no LoRA: there is no adapter to keep")
    first = next(iter(parts.values()))
    if any((o.dora, o.rslora) != (first.dora, first.rslora) for o in parts.values()):
        raise UsageError(
            "the parts differ in dora or rslora, which one adapter of PEFT cannot say: export "
            "without --keep-adapter, which merges"
        )
    layers = {
        f"{part}.{name}": options
        for part, options in parts.items()
        for name, _ in lora_layers(model.get_submodule(part))
    }
    return peft_config(
        first,
        list(layers),
        rank_pattern={n: o.rank for n, o in layers.items() if o.rank != first.rank},
        alpha_pattern={n: o.alpha for n, o in layers.items() if o.alpha != first.alpha},
    )


def _parts(model: Any, part: str | None) -> list[str]:
    carrying = list(model.config.lora or {})
    return [name for name in carrying if part in (None, name)]


def _check_prompts(model: Any) -> None:
    """Raise ``PartError`` where keys and values of prompts would change, see ``attention``."""
    if not model.config.given.prompts:
        return
    for name, _ in lora_layers(model.language_model):
        if name.rpartition(".")[2] in _PROMPT_LAYERS:
            raise PartError(
                f"{name}: the bridge's prompts read this projection without LoRA, so that adding "
                "LoRA to the weights would change the model. Export with --keep-adapter, or train "
                "LoRA with `targets` that leave k_proj and v_proj out"
            )


def _forget(model: Any, part: str) -> None:
    """Drop what is recorded of the LoRA of ``part``."""
    gone = {name for name in model._touched | model._added if _is_own(part, name)}
    model._touched -= gone
    model._added -= gone
    own = {name for name in (*model._touched, *model._added) if name.startswith(f"{part}.")}
    _rename(model, {name: plain_name(name) for name in own})
    model.config.lora = {name: said for name, said in model.config.lora.items() if name != part}


def _is_own(part: str, name: str) -> bool:
    return name.startswith(f"{part}.") and is_lora(name)


def _rename(model: Any, names: dict[str, str]) -> None:
    model._touched = {names.get(name, name) for name in model._touched}
    model._added = {names.get(name, name) for name in model._added}


__all__ = ["add_lora", "find_targets", "lora_parts", "merge_lora", "parse_lora", "write_adapter"]
