"""LoRA on the linear layers of one part, through PEFT (Hu et al. 2021; DoRA: Liu et al. 2024).

A layer W becomes W x + (alpha / rank) · B A x, with W frozen; B starts at zero, so that nothing
changes at first. In the module the layer then has a ``base_layer`` beside ``lora_A`` and
``lora_B``; ``plain_name`` gives the name that a tensor had before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from manyeyes.errors import CheckpointError, PartError, RecipeError, UsageError, nearest
from manyeyes.options import check_counts

ALL_LINEAR = "all-linear"
_BASE = ".base_layer."
_OWN = re.compile(r"\.lora_\w+\.")
_ADAPTER = "default"


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """LoRA on a part: W + scale · B A, A and B of rank r."""

    rank: int = 16
    """Of the update's two matrices A and B."""
    alpha: float = 32.0
    """The update counts alpha / rank times, with ``rslora`` alpha / √rank."""
    targets: str | tuple[str, ...] = ALL_LINEAR
    """``all-linear`` is every linear layer of the part but the output head. Otherwise last names of
    layers: ``[q_proj, v_proj]``."""
    dropout: float = 0.0
    """Of the update's input, in training."""
    dora: bool = False
    """Learn the length of every row of W apart from its direction."""
    rslora: bool = False
    """Scale the update by alpha / √rank instead of alpha / rank."""

    def __post_init__(self) -> None:
        check_counts("lora", rank=self.rank)
        if not 0.0 <= self.dropout < 1.0:
            raise RecipeError(f"lora.dropout: expected 0 <= dropout < 1, got {self.dropout!r}")
        if not self.alpha > 0:
            raise RecipeError(f"lora.alpha: expected more than 0, got {self.alpha!r}")
        if not self.targets:
            raise RecipeError(f"lora.targets: name a layer, or write {ALL_LINEAR}")

    @property
    def names(self) -> tuple[str, ...]:
        """Last names of the layers; empty = all."""
        if isinstance(self.targets, str):
            return () if self.targets == ALL_LINEAR else (self.targets,)
        return self.targets


def is_lora(name: str) -> bool:
    """Tell the tensors of an update from all others, by name."""
    return _OWN.search(name) is not None


def plain_name(name: str) -> str:
    """Return the name that a tensor has in the same model without LoRA."""
    return name.replace(_BASE, ".")


def live_names(names: Iterable[str]) -> dict[str, str]:
    """Return {name without LoRA: name here} of the tensors that exist without LoRA too."""
    return {plain_name(name): name for name in names if not is_lora(name)}


def lora_layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every layer of ``module`` that carries LoRA, by its name."""
    for name, layer in module.named_modules():
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer"):
            yield name, layer


def find_targets(module: Any, options: LoraOptions, where: str) -> list[str]:
    """Return the full names of the layers of ``module`` that ``options`` mean.

    Raises:
        RecipeError: a target that no linear layer has (naming the nearest), or the output head.
        PartError: the module has no linear layer; DoRA where the bridge's adapters act on a layer.
    """
    head = _output_head(module)
    linears = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)
    }
    found = {name: layer for name, layer in linears.items() if layer is not head}
    if not found:
        raise PartError(f"{where}: {type(module).__name__} has no linear layer for LoRA")
    known = dict.fromkeys(_last(name) for name in found)
    for target in options.names:
        if target not in known:
            said = (
                "is the output head, which LoRA leaves alone"
                if head is not None
                and any(layer is head and _last(name) == target for name, layer in linears.items())
                else f"matches no linear layer{nearest(target, known)}"
            )
            raise RecipeError(f"{where}.targets: {target!r} {said}; layers: {', '.join(known)}")
    chosen = [name for name in found if not options.names or _last(name) in options.names]
    for name in chosen if options.dora else ():
        if found[name]._forward_hooks:
            raise PartError(
                f"{where}.dora: the bridge's adapters act on {name!r}, whose output DoRA would "
                "scale too; leave it out of `targets`, or use dora: false"
            )
    return chosen


def put_lora(module: Any, options: LoraOptions, where: str, *, seed: int = 0) -> list[str]:
    """Put LoRA on the layers of ``module``; return the names of the new parameters.

    A is drawn from ``seed`` alone. ``where``: its place in a recipe, for errors.

    Raises:
        UsageError: PEFT is not installed. RecipeError, PartError: see ``find_targets``.
    """
    peft = _peft()
    config = peft_config(options, find_targets(module, options, where))
    meta = any(parameter.is_meta for parameter in module.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, module, _ADAPTER, low_cpu_mem_usage=meta)
    del module.peft_config  # so that others' adapters may still be added
    added = []
    for name, parameter in module.named_parameters():
        if is_lora(f".{name}"):
            parameter._is_hf_initialized = True  # else drawn at random
            added.append(name)
    return added


def peft_config(options: LoraOptions, layers: list[str], **more: Any) -> Any:
    """Return PEFT's ``LoraConfig`` of LoRA on ``layers``, by their full names."""
    return _peft().LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        use_dora=options.dora,
        use_rslora=options.rslora,
        target_modules=list(layers),
        **more,
    )


def merge_layers(module: nn.Module, where: str) -> list[str]:
    """Add every update to its weights and take LoRA off; return names of the changed weights.

    The sum is computed in float32 and kept in the weights' own dtype.

    Raises:
        CheckpointError: the sum is not finite.
    """
    changed = []
    for name, layer in list(lora_layers(module)):
        weight = layer.base_layer.weight
        dtype, weight.data = weight.dtype, weight.data.float()
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise CheckpointError(f"{where}.{name}: LoRA is not finite ({error})") from error
        weight.data = weight.data.to(dtype)
        changed.append(f"{name}.weight")
    take_off(module)
    return changed


def take_off(module: nn.Module) -> None:
    """Leave the plain layers in place of those with LoRA."""
    for name, layer in list(lora_layers(module)):
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, layer.base_layer)


def _output_head(module: Any) -> nn.Module | None:
    get = getattr(module, "get_output_embeddings", None)
    try:
        found: nn.Module | None = None if get is None else get()
    except NotImplementedError:
        return None
    return found


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UsageError("LoRA needs the package peft: pip install 'manyeyes[peft]'") from error
    return peft
