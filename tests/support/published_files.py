"""Tiny checkpoints with the names and files of published ones, and their configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Blip2Config,
    CLIPConfig,
    DetrConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    InstructBlipConfig,
    PreTrainedConfig,
    ResNetConfig,
    SiglipConfig,
    ViTMAEConfig,
)

import published_layouts as layouts
import tiny
import tiny_detector
from image_text_parts import MAE, VISION

SMALL: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
TEXT: dict[str, Any] = {**SMALL, "num_attention_heads": 2, "vocab_size": 20}
QFORMER: dict[str, Any] = {**TEXT, "encoder_hidden_size": 16}
DINO: dict[str, Any] = {**VISION, "mlp_ratio": 2}
DINO3: dict[str, Any] = {**VISION, "num_register_tokens": 2}
CLIP: dict[str, Any] = {**VISION, "projection_dim": 8}
TWO: dict[str, Any] = {**MAE, "decoder_num_hidden_layers": 2}
LM: dict[str, Any] = {"vocab_size": len(tiny.byte_tokenizer()), "hidden_size": 32}
LLAMA: dict[str, Any] = {
    **LM, "model_type": "llama", "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip
QWEN2: dict[str, Any] = {
    **LLAMA, "model_type": "qwen2", "num_key_value_heads": 1, "tie_word_embeddings": True,
}  # fmt: skip
SMOLLM2: dict[str, Any] = {**LLAMA, "num_key_value_heads": 1, "tie_word_embeddings": True}
OPT: dict[str, Any] = {
    **LM, "model_type": "opt", "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "do_layer_norm_before": True,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": LM["vocab_size"], "model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 64,
    "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "feed_forward_proj": "gated-gelu_python", "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A kind of published file: what it holds, and the parts of ours that are read from it.

    ids: the checkpoints of packaged recipes that are such files. config: what their config.json
    says. fields: what a recipe writes of the part's architecture. files: their form. parts:
    of the encoder.
    """

    ids: tuple[str, ...]
    layout: list[str]
    config: PreTrainedConfig
    fields: Mapping[str, Any]
    family: str
    files: str = "safetensors"
    parts: tuple[str, ...] = ("backbone",)
    layers: int = 2
    spec: Mapping[str, Any] = field(default_factory=dict)


def _language(fields: Mapping[str, Any]) -> PreTrainedConfig:
    return AutoConfig.for_model(**fields)


_WHOLE_CLIP = CLIPConfig(text_config=TEXT, vision_config=CLIP, projection_dim=8)
_WHOLE_SIGLIP = SiglipConfig(text_config=TEXT, vision_config=VISION)
_BLIP2 = {"vision_config": VISION, "qformer_config": QFORMER, "text_config": OPT}
_RESNET = ResNetConfig(
    embedding_size=8, hidden_sizes=[16], depths=[1], layer_type="bottleneck",
    out_features=["stage1"],
)  # fmt: skip
_DETR = DetrConfig(
    **{**tiny_detector.config().to_dict(), "backbone_config": _RESNET, "encoder_layers": 2}
)
_TOKENS = {"final_norm": True, "keep_prefix": True}
_VICUNA = ("lmsys/vicuna-7b-v1.1", "lmsys/vicuna-7b-v1.5", "lmsys/vicuna-13b-v1.1")

PUBLISHED: dict[str, Published] = {
    "clip": Published(
        ("openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14-336"),
        layouts.CLIP, _WHOLE_CLIP, CLIP, "clip",
    ),
    "clip_projected": Published(
        ("openai/clip-vit-large-patch14",),
        layouts.CLIP_PROJECTED, _WHOLE_CLIP, CLIP, "clip_projected", spec=_TOKENS,
    ),
    "siglip": Published(
        (
            "google/siglip-large-patch16-384",
            "google/siglip-so400m-patch14-384",
            "google/siglip2-so400m-patch14-384",
        ),
        layouts.SIGLIP, _WHOLE_SIGLIP, VISION, "siglip",
    ),
    "dinov2": Published(
        ("facebook/dinov2-large",), layouts.DINOV2, Dinov2Config(**DINO), DINO, "dinov2"
    ),
    "dinov2_registers": Published(
        ("facebook/dinov2-with-registers-large",),
        layouts.DINOV2_REGISTERS, Dinov2WithRegistersConfig(**DINO), DINO, "dinov2_registers",
    ),
    "dinov3": Published(
        ("facebook/dinov3-vitl16-pretrain-lvd1689m",),
        layouts.DINOV3, DINOv3ViTConfig(**DINO3), DINO3, "dinov3",
    ),
    "mae": Published(
        ("facebook/vit-mae-large", "facebook/vit-mae-huge"),
        layouts.MAE, ViTMAEConfig(**TWO), TWO, "mae", files="bin",
    ),
    "mae with decoder": Published(
        ("facebook/vit-mae-large", "facebook/vit-mae-huge"),
        layouts.MAE_WITH_DECODER, ViTMAEConfig(**TWO), TWO, "mae", files="bin",
        parts=("backbone", "decoder"), spec={**_TOKENS, "decoder": True},
    ),
    "eva of blip2": Published(
        ("Salesforce/blip2-opt-6.7b",),
        layouts.EVA, Blip2Config(**_BLIP2), VISION, "eva_clip", files="sharded safetensors",
    ),
    "eva of instructblip": Published(
        ("Salesforce/instructblip-flan-t5-xl",),
        layouts.EVA, InstructBlipConfig(**_BLIP2), VISION, "eva_clip", files="sharded safetensors",
    ),
    "detr": Published(
        ("facebook/detr-resnet-50",),
        layouts.DETR, _DETR, _DETR.to_dict(), "detr",
    ),
}  # fmt: skip
"""What encoders are read from."""

LANGUAGE: dict[str, Published] = {
    "llama": Published(
        ("huggyllama/llama-7b",),
        layouts.LLAMA, _language(LLAMA), LLAMA, "", files="sharded safetensors",
    ),
    "vicuna": Published(_VICUNA, layouts.LLAMA, _language(LLAMA), LLAMA, "", files="sharded bin"),
    "qwen2": Published(
        ("Qwen/Qwen2.5-0.5B-Instruct",), layouts.QWEN2, _language(QWEN2), QWEN2, ""
    ),
    "smollm2": Published(
        ("HuggingFaceTB/SmolLM2-135M-Instruct",), layouts.SMOLLM2, _language(SMOLLM2), SMOLLM2, ""
    ),
    "opt": Published(
        ("facebook/opt-1.3b", "facebook/opt-6.7b"),
        layouts.OPT, _language(OPT), OPT, "", files="sharded bin",
    ),
    "opt with head": Published(
        ("facebook/opt-1.3b", "facebook/opt-6.7b"),
        layouts.OPT_WITH_HEAD, _language(OPT), OPT, "", files="bin",
    ),
    "flan-t5": Published(
        ("google/flan-t5-base", "google/flan-t5-xl", "google/flan-t5-xxl"),
        layouts.T5, _language(T5), T5, "", files="sharded safetensors",
    ),
}  # fmt: skip


def random_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return a state for ``module`` in which no two values are alike."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(tensor.shape, generator=generator) + 0.5
        for name, tensor in module.state_dict().items()
    }


def language_state(fields: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state for a language model, with what its published file ties tied."""
    config = _language(fields)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    state = random_state(auto.from_config(config))
    if fields["model_type"] == "t5":  # the head is the file's own
        for side in ("encoder", "decoder"):
            state[f"{side}.embed_tokens.weight"] = state["shared.weight"]
    if fields["model_type"] in ("llama", "qwen2") and fields["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    if fields["model_type"] == "opt":
        state["lm_head.weight"] = state["model.decoder.embed_tokens.weight"]
    return state


def publish(folder: Path, kind: Published, state: Mapping[str, Tensor]) -> None:
    """Write ``state``, named as in the part, as the published file names it."""
    renamed = layouts.names(kind.layout, kind.layers)
    tensors = {
        name: torch.randn(3) if own is None else state[own].clone() for name, own in renamed.items()
    }
    write(folder, tensors, kind.files)
    kind.config.save_pretrained(folder)


def write(folder: Path, tensors: dict[str, Tensor], files: str) -> None:
    """Write the tensors as one file or as two shards with an index."""
    folder.mkdir(parents=True)
    sharded, _, form = files.rpartition(" ")
    stem = "model" if form == "safetensors" else "pytorch_model"
    names = sorted(tensors)
    pieces = [names[::2], names[1::2]] if sharded else [names]
    places = {}
    for number, piece in enumerate(pieces, start=1):
        file = f"{stem}-{number:05}-of-{len(pieces):05}.{form}" if sharded else f"{stem}.{form}"
        held = {name: tensors[name] for name in piece}
        if form == "safetensors":
            save_file(held, folder / file, {"format": "pt"})
        else:
            torch.save(held, folder / file)
        places |= dict.fromkeys(piece, file)
    if sharded:
        index = {"metadata": {"total_size": 1}, "weight_map": places}
        (folder / f"{stem}.{form}.index.json").write_text(json.dumps(index))
