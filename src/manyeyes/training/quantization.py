"""Frozen weights in four bits, under LoRA (QLoRA, Dettmers et al. 2023): through bitsandbytes.

The linear layers of a part, but not its output head, are held as 4-bit NormalFloat numbers in
blocks of 64 with scales that are quantised too. A checkpoint names the part's own checkpoint as
ever, so it loads anywhere; the weights are quantised again when training goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from manyeyes.errors import ManyEyesError, RecipeError, nearest
from manyeyes.layers.adapters.lora import ALL_LINEAR, LoraOptions, find_targets, is_lora
from manyeyes.model.lora import lora_parts
from manyeyes.training.trainable import ALIASES, Assignment

BITS = 4.127
"""Bits per weight of nf4: 4, and the quantised scales of blocks."""


def quantizable(model: Any, kinds: Collection[str]) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the layers of ``model`` that ``quantization`` names, by their full names.

    Raises:
        RecipeError: a part that this model does not have (naming the nearest).
    """
    known = lora_parts(model)
    for said in kinds:
        part = ALIASES.get(said, said)
        if part not in known:
            names = [next((s for s, a in ALIASES.items() if a == p), p) for p in known]
            raise RecipeError(
                f"quantization.{said}: no such part{nearest(said, names)}; parts: "
                f"{', '.join(names)}"
            )
        module = model.get_submodule(part)
        options = LoraOptions(targets=ALL_LINEAR)
        for name in find_targets(module, options, f"quantization.{said}"):
            if not is_lora(f".{name}."):
                yield f"{part}.{name}", module.get_submodule(name)


def check_quantized(model: Any, kinds: Mapping[str, str], assignment: Assignment) -> None:
    """Check that nothing learns which a recipe quantises.

    Raises:
        RecipeError: it does; names the first such parameter.
    """
    for name, _ in quantizable(model, kinds):
        if assignment.get(f"{name}.weight") is not None:
            raise RecipeError(
                f"quantization: {name}.weight is trained, and four bits cannot learn; train "
                "`lora` on that part, or leave it out of `quantization`"
            )


def check_backend(kinds: Mapping[str, str]) -> None:
    """Check that bitsandbytes is here and computes on this machine.

    Raises:
        RecipeError: it is not, or does not; says how to go on without.
    """
    if not kinds:
        return
    without = "; or leave `quantization` out (--set quantization={})"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RecipeError(
            "quantization needs the package bitsandbytes: pip install 'manyeyes[qlora]'" + without
        )
    layer = nn.Linear(64, 64, bias=False)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        _four_bits(layer, torch.float32, device)(torch.ones(1, 64, device=device)).sum().item()
    except ManyEyesError:
        raise
    except Exception as error:  # whatever a backend that is not there leads to
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"quantization: bitsandbytes does not compute on {device} here ({reason}){without}"
        ) from error


def quantize(model: Any, kinds: Mapping[str, str], compute: torch.dtype) -> None:
    """Hold the layers that ``kinds`` names in four bits; products are computed in ``compute``.

    Raises:
        RecipeError: weights that are not those of the part's checkpoint: an earlier stage trained
            them, and they would not be in a checkpoint.
    """
    if not kinds:
        return
    model.note_changes()
    for name, layer in list(quantizable(model, kinds)):
        if f"{name}.weight" in model.stored_names([f"{name}.weight"]):
            raise RecipeError(
                f"quantization: {name}.weight is not that of its part's checkpoint, because it was "
                "trained or the part has none; export that model with --self-contained and name it "
                "as checkpoint, or leave the part out of `quantization`"
            )
        parent, _, own = name.rpartition(".")
        device = layer.weight.device
        setattr(model.get_submodule(parent), own, _four_bits(layer, compute, device))
        model.note_quantized(f"{name}.")


def _four_bits(layer: nn.Linear, compute: torch.dtype, device: torch.device) -> nn.Module:
    bnb: Any = importlib.import_module("bitsandbytes")
    made = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        quant_type="nf4",
        compress_statistics=True,
        compute_dtype=compute,
        device="meta",
    )
    made.weight = bnb.nn.Params4bit(
        layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    made.bias = layer.bias
    made._forward_hooks, made._forward_pre_hooks = layer._forward_hooks, layer._forward_pre_hooks
    quantized: nn.Module = made.to(device)
    return quantized
