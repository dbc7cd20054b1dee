"""Weights that a configuration ties, but that have values of their own.

``transformers`` ties by configuration. Where a checkpoint holds two different tensors for a tied
pair (FlanT5's output head, the heads of a detector's layers) it keeps both, for that model only and
on no record. Here such names can be listed, and another model be given the same freedom.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_DECLARED = "_declared_ties"


def untied(model: PreTrainedModel) -> list[str]:
    """Return names that the configuration ties, but that have weights of their own in ``model``."""
    return sorted(
        target
        for target, source in _declared(model).items()
        if model.get_parameter_or_buffer(target) is not model.get_parameter_or_buffer(source)
    )


def tied_head(model: Any) -> list[str]:
    """Return the names of the output head's weights that the configuration ties to others."""
    head = model.get_output_embeddings()
    return [name for name in _declared(model) if model.get_submodule(_parent(name)) is head]


def untie(model: PreTrainedModel, names: Collection[str]) -> None:
    """Give each of ``names`` weights of its own, with their present values; tie all others.

    Later ties, such as those after loading weights, leave them alone.
    """
    for prefix, module in _submodels(model):
        declared = _own_ties(module)
        if not declared:
            continue
        module.__dict__[_DECLARED] = declared
        kept = {t: s for t, s in declared.items() if prefix + t not in names}
        module._tied_weights_keys = kept
    for name in names:
        parent, attribute = model.get_submodule(_parent(name)), name.rpartition(".")[2]
        old = getattr(parent, attribute)
        new: Any = nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad)
        new._is_hf_initialized = getattr(old, "_is_hf_initialized", False)  # else drawn at random
        setattr(parent, attribute, new)
    for _, module in _submodels(model):
        module.all_tied_weights_keys = module.get_expanded_tied_weights_keys(all_submodels=True)
    model.tie_weights()


def take(model: PreTrainedModel, loaded: PreTrainedModel) -> None:
    """Copy all weights of ``loaded`` into ``model``, of the same class and sizes."""
    untie(model, untied(loaded))
    model.load_state_dict(loaded.state_dict())


def _declared(model: PreTrainedModel) -> dict[str, str]:
    """Return {target: source} of all that the configurations in ``model`` tie."""
    return {
        prefix + target: prefix + source
        for prefix, module in _submodels(model)
        for target, source in _own_ties(module).items()
    }


def _own_ties(module: PreTrainedModel) -> dict[str, str]:
    found: dict[str, str] | None = module.__dict__.get(_DECLARED)
    return module.get_expanded_tied_weights_keys(all_submodels=False) if found is None else found


def _submodels(model: PreTrainedModel) -> Iterator[tuple[str, PreTrainedModel]]:
    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            yield f"{name}." if name else "", module


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
