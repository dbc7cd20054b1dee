"""Gated adapter attention inside a language model of ``transformers``.

    o_h = softmax(q_h K^T / √c) V + tanh(g_h) · softmax(q_h (W_k Â)^T / √c) (W_v Â)

The first term is the model's own attention; the second reads P prompts Â through the same, frozen
W_k and W_v, with a softmax of its own and without rotary positions. Prompts take no position and no
place in the key-value cache. Source: LLaMA-Adapter V2 (released code); MR-MLLM E7.

The model calls attention by a registered name. ``adapter_sdpa`` and ``adapter_eager`` stand in for
``sdpa`` and ``eager``; each name is in the mask registry too, without which the model would build
no causal mask at all.

Shapes: B samples, T positions, h heads, c width of a head, P prompts, H language-model width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from manyeyes.errors import PartError
from manyeyes.layers.adapters.side_inputs import Inside
from manyeyes.layers.attention.shared_prefix import NAME as SHARED

FAMILIES = ("llama", "mistral", "opt", "qwen2", "qwen3")
"""Model types whose attention hands its arguments on as this module needs them."""

PROMPTS = "adapter_prompts"
"""Keyword of the language model's ``forward`` that carries an ``AdapterState``."""

PREFIX = "adapter_"


@dataclass
class AdapterState:
    """What the adapted layers of one batch read: by layer index, prompts ``[B, P, H]`` and gates.

    Gates are factors in float32, tanh applied: ``[h]``, or ``[B, h]`` where samples differ. Rows of
    the language model's batch may be whole multiples of B (beams, several answers): copies of a
    sample stand side by side, and reordering beams exchanges equal rows only.
    """

    prompts: Mapping[int, Tensor]
    gates: Mapping[int, Tensor]
    _kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def keys_values(self, module: Any, query_BhTc: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and gated values ``[rows of query, h, P, c]`` for one attention module.

        Without gradients they are computed once and kept: during decoding they do not change. On
        CPUs they are kept in float32, in which one position is read fastest (see ``_fused``).
        """
        if torch.is_grad_enabled():
            return self._compute(module, query_BhTc)
        kept = self._kept.get(module.layer_idx)
        if kept is None or len(kept[0]) != len(query_BhTc):
            keys, values = self._compute(module, query_BhTc)
            if query_BhTc.device.type == "cpu":
                keys, values = keys.float(), values.float()
            kept = self._kept[module.layer_idx] = keys, values
        return kept

    def _compute(self, module: Any, query_BhTc: Tensor) -> tuple[Tensor, Tensor]:
        prompts = self.prompts[module.layer_idx].to(query_BhTc)
        heads, width = query_BhTc.shape[1], query_BhTc.shape[-1]
        shape = (*prompts.shape[:2], -1, width)
        keys = _frozen(module.k_proj)(prompts).view(shape)
        if hasattr(module, "k_norm"):
            keys = module.k_norm(keys)
        values = _frozen(module.v_proj)(prompts).view(shape)
        groups = heads // keys.shape[2]
        keys, values = (x.transpose(1, 2).repeat_interleave(groups, dim=1) for x in (keys, values))
        gates = self.gates[module.layer_idx].to(query_BhTc.device)[..., None, None]
        values = (values.float() * gates).to(keys.dtype)
        copies, left = divmod(len(query_BhTc), len(prompts))
        if left:
            raise PartError(
                f"prompts of {len(prompts)} samples for a batch of {len(query_BhTc)} rows"
            )
        return keys.repeat_interleave(copies, dim=0), values.repeat_interleave(copies, dim=0)


_PROMPTS: Inside[AdapterState] = Inside(PROMPTS)

answering = _PROMPTS.given
"""Let every attention call inside a block of code read an ``AdapterState`` (or None)."""


def positions(attention_mask_BT: Tensor) -> Tensor:
    """Return position ids that count real tokens only, ``[B, T]``.

    Text attends to text by distance, so an offset by left padding does not matter there; prompts
    all stand at position zero, so here it does.
    """
    return (attention_mask_BT.long().cumsum(dim=-1) - 1).clamp(min=0)


def adapt(model: Any) -> None:
    """Make ``model`` attend to prompts, whichever of ``sdpa`` and ``eager`` it is set to.

    Raises:
        PartError: another attention implementation.
    """
    name = str(model.config._attn_implementation)
    if name.startswith(PREFIX):
        return
    if name not in ADDED:
        raise PartError(
            f"adapter prompts work with the attention implementations {', '.join(ADDED)}; "
            f"the language model is set to {name!r}"
        )
    model.set_attn_implementation(PREFIX + name)


def _frozen(linear: nn.Module) -> nn.Module:
    """Return the projection without LoRA, which the released code applies to text alone."""
    inner: nn.Module = getattr(linear, "base_layer", linear)
    return inner


def _fused(query_BhTc: Tensor, keys_BhPc: Tensor, values_BhPc: Tensor, scaling: float) -> Tensor:
    """One kernel; but on a CPU a single position takes it more than twice as long as plain."""
    if query_BhTc.shape[2] == 1 and query_BhTc.device.type == "cpu":
        return _plain(query_BhTc, keys_BhPc, values_BhPc, scaling)
    return F.scaled_dot_product_attention(
        query_BhTc.to(keys_BhPc.dtype), keys_BhPc, values_BhPc, scale=scaling
    )


def _plain(query_BhTc: Tensor, keys_BhPc: Tensor, values_BhPc: Tensor, scaling: float) -> Tensor:
    scores = (query_BhTc.to(keys_BhPc.dtype) @ keys_BhPc.transpose(2, 3)) * scaling
    return scores.softmax(dim=-1, dtype=torch.float32).to(values_BhPc.dtype) @ values_BhPc


ADDED: Mapping[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "sdpa": _fused,
    "eager": _plain,
    SHARED: _fused,
}
"""How the second term is computed beside each attention implementation: ``[B, h, T, c]``."""


def _adapted(name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Return attention ``name`` plus the gated term, in the registry's calling convention."""

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        adapter_prompts: AdapterState | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        own: Any = ALL_ATTENTION_FUNCTIONS.get_interface(name, _eager(module))
        output, weights = own(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        state = _PROMPTS.read(adapter_prompts)
        if state is None or module.layer_idx not in state.prompts:
            return output, weights
        keys, values = state.keys_values(module, query)
        added = ADDED[name](query, keys, values, scaling).transpose(1, 2)
        return output + added.to(output.dtype), weights

    return attend


def _eager(module: Any) -> Any:
    """Return the plain attention function, which every family keeps in its own module."""
    return sys.modules[type(module).__module__].eager_attention_forward


def _register() -> None:
    for name in ADDED:
        AttentionInterface.register(PREFIX + name, _adapted(name))
        AttentionMaskInterface.register(PREFIX + name, ALL_MASK_ATTENTION_FUNCTIONS[name])


_register()
