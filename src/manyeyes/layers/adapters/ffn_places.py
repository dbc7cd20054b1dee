"""Where the feed-forward sub-layers of a language model are, and what goes into each.

    T5        out = x + FFN(RMSNorm(x))   a module of its own, in every encoder and decoder layer
    Llama     the same, written out in the decoder layer, of which it is the last part
    OPT       the same, over positions in one row, if its norms come first

Adapters beside a sub-layer (LION §2.1) read x, the residual stream before the norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from manyeyes.errors import PartError, nearest

ENCODER_DECODER = ("mt5", "t5")
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
FFN_FAMILIES = (*ENCODER_DECODER, *LLAMA_LIKE, "opt")
"""Model types whose sub-layers are known here."""


@dataclass(frozen=True)
class FfnPlace:
    """One sub-layer. The ``attentions`` of its layer run before it and are called with the model's
    keywords; x is the first argument of ``reads``; what ``adds`` returns is summed up. All of them
    run inside the layer's forward, which checkpointing runs again.
    """

    name: str
    attentions: tuple[nn.Module, ...]
    reads: nn.Module
    adds: nn.Module


def place_names(config: PreTrainedConfig) -> list[str]:
    """Return a name for every sub-layer: ``encoder0``, ..., ``decoder0``, ... or ``layer0``, ...

    Raises:
        PartError: an unknown family, or OPT with its norms last.
    """
    family = config.model_type
    if family not in FFN_FAMILIES:
        raise PartError(
            f"adapters reach into the feed-forward layers of {', '.join(FFN_FAMILIES)}; the "
            f"language model is a {family!r}{nearest(family, FFN_FAMILIES)}"
        )
    if family in ENCODER_DECODER:
        counts = {"encoder": config.num_layers, "decoder": config.num_decoder_layers}
        return [f"{stack}{index}" for stack, count in counts.items() for index in range(count)]
    if family == "opt" and not config.do_layer_norm_before:
        raise PartError(
            "adapters read the residual stream before the norm; this OPT norms after the sum "
            "(do_layer_norm_before: false)"
        )
    return [f"layer{index}" for index in range(config.num_hidden_layers)]


def ffn_places(model: Any) -> list[FfnPlace]:
    """Return the sub-layers of ``model``, in the order of ``place_names``."""
    names = place_names(model.config)
    found: list[tuple[tuple[nn.Module, ...], nn.Module, nn.Module]]
    if model.config.model_type in ENCODER_DECODER:
        layers = [block.layer for block in (*model.encoder.block, *model.decoder.block)]
        found = [(tuple(layer[:-1]), layer[-1], layer[-1]) for layer in layers]
    elif model.config.model_type == "opt":
        blocks = model.model.decoder.layers
        found = [((block.self_attn,), block.final_layer_norm, block.fc2) for block in blocks]
    else:
        blocks = model.model.layers
        found = [
            ((block.self_attn,), block.post_attention_layernorm, block.mlp) for block in blocks
        ]
    return [FfnPlace(name, *modules) for name, modules in zip(names, found, strict=True)]
