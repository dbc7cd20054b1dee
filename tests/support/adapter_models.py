"""Tiny language models of every family that adapter prompts reach, and prompts for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from manyeyes.bridge.adapter_prompts import AdapterPromptsBridge, AdapterPromptsOptions
from manyeyes.bridge.contract import Given
from manyeyes.records import VisualEvidence

LAYERS, HEADS, WIDTH, VOCABULARY, LENGTH = 4, 4, 64, 97, 3
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
GATED: dict[str, Any] = {**COMMON, "intermediate_size": 96}
BIASED: dict[str, Any] = {**GATED, "num_key_value_heads": HEADS, "attention_bias": True}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**GATED, num_key_value_heads=HEADS),
    "llama with biases": LlamaConfig(**BIASED, mlp_bias=True),
    "llama, grouped heads": LlamaConfig(**GATED, num_key_value_heads=2),
    "mistral": MistralConfig(**GATED, num_key_value_heads=2, sliding_window=5),
    "opt": OPTConfig(
        **{k: v for k, v in COMMON.items() if k != "initializer_range"},
        ffn_dim=96,
        word_embed_proj_dim=WIDTH,
        init_std=0.2,
        dropout=0.0,
    ),
    "qwen2": Qwen2Config(**GATED, num_key_value_heads=2),
    "qwen3": Qwen3Config(**GATED, num_key_value_heads=2, head_dim=24),
}
"""Grouped heads, biases, key norms, and heads whose widths do not add up to the model's."""


def language_model(family: str, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Any:
    """A random model in ``eval()``; all biases and norms away from their starting values."""
    torch.manual_seed(0)
    config = CONFIGS[family]
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return model.to(dtype).eval()


def bridge(family: str, *, gate: float | None = None, **options: Any) -> AdapterPromptsBridge:
    """A bridge with random queries; ``gate``: None = random gates, else all gates' value."""
    torch.manual_seed(1)
    made = AdapterPromptsBridge(AdapterPromptsOptions(**options), CONFIGS[family], Given(0, LENGTH))
    with torch.no_grad():
        random = torch.randn(made.gates.shape)
        made.gates.copy_(random if gate is None else torch.full_like(random, gate))
    return made


def evidence(images: int, seed: int = 2, layers: int = 1) -> VisualEvidence:
    """Prompts of as many different images."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, layers, LENGTH, WIDTH)
    return VisualEvidence(prompts=torch.randn(shape, generator=generator))


def texts(*lengths: int, pad: str = "left") -> tuple[Tensor, Tensor]:
    """Random ids and their mask ``[len(lengths), longest]``, padded on one side."""
    generator = torch.Generator().manual_seed(3)
    longest = max(lengths)
    ids = torch.zeros(len(lengths), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(longest - length, None) if pad == "left" else slice(0, length)
        ids[row, place] = torch.randint(3, VOCABULARY, (length,), generator=generator)
        mask[row, place] = 1
    return ids, mask
