"""Tiny checkpoints of the Q-Former's company: EVA inside BLIP-2, MAE with decoder, OPT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

import tiny
from image_text import unsettle

MAE: dict[str, Any] = {
    "hidden_size": 20,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": tiny.IMAGE_SIZE,
    "patch_size": tiny.PATCH_SIZE,
    "decoder_hidden_size": 16,
    "decoder_intermediate_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "norm_pix_loss": False,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": tiny.IMAGE_SIZE,
    "patch_size": tiny.PATCH_SIZE,
}
QFORMER: dict[str, Any] = {
    "queries": 4,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "ffn": 32,
    "dropout": 0.0,
    "max_positions": 64,
    "contrast_width": 8,
}
IMAGE_TOKEN = 3
"""Id that stands for an image in the inputs of the models of ``transformers``."""


def save_mae(folder: Path, *, normalized: bool = False) -> Path:
    """Save a random ``ViTMAEForPreTraining`` with real position tables."""
    from manyeyes.encoders import ENCODERS, parse_encoder

    torch.manual_seed(4)
    config = ViTMAEConfig(**{**MAE, "norm_pix_loss": normalized})
    spec = {"name": "mae", "family": "mae", "backbone": MAE, "levels": [-1]}
    parsed = parse_encoder({**spec, "decoder": True, "final_norm": True, "keep_prefix": True})
    encoder: Any = ENCODERS["mae"](parsed, config)
    model = ViTMAEForPreTraining(config)
    model.vit.load_state_dict(encoder.backbone.state_dict())
    model.decoder.load_state_dict(encoder.decoder.decoder.state_dict())
    model.save_pretrained(folder)
    return folder


def teach_mae(folder: Path, pixels: Tensor, *, steps: int = 120) -> None:
    """Train the MAE in ``folder`` on a few pictures, so that its decoder has something to say."""
    model = ViTMAEForPreTraining.from_pretrained(folder)
    model.config.mask_ratio = model.vit.config.mask_ratio = 0.5
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 5e-3)
    for _ in range(steps):
        loss = model(pixel_values=pixels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def save_opt(folder: Path, *, hidden: int = 32) -> Path:
    """Save a random OPT with 2 blocks and the byte-level tokenizer."""
    tokenizer = tiny.byte_tokenizer()
    torch.manual_seed(5)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        word_embed_proj_dim=hidden,
        ffn_dim=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    OPTForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_blip2(folder: Path, opt: Path, kind: str = "blip2") -> Any:
    """Save and return a random BLIP-2 or InstructBLIP around the OPT of ``opt``."""
    words = len(tiny.byte_tokenizer())
    qformer = {
        "hidden_size": QFORMER["width"],
        "num_hidden_layers": QFORMER["layers"],
        "num_attention_heads": QFORMER["heads"],
        "intermediate_size": QFORMER["ffn"],
        "encoder_hidden_size": VISION["hidden_size"],
        "max_position_embeddings": QFORMER["max_positions"],
        "vocab_size": words + 1,
    }
    config_class, model_class = {
        "blip2": (Blip2Config, Blip2ForConditionalGeneration),
        "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
    }[kind]
    language = OPTForCausalLM.from_pretrained(opt)
    config: Any = config_class(
        vision_config=VISION,
        qformer_config=qformer,
        text_config=language.config.to_dict(),
        num_query_tokens=QFORMER["queries"],
        image_token_index=IMAGE_TOKEN,
    )
    torch.manual_seed(6)
    model: Any = model_class(config).eval()
    for part in (model.qformer, model.vision_model, model.language_projection):
        unsettle(part)
    torch.nn.init.normal_(model.query_tokens)
    model.language_model = language
    model.save_pretrained(folder)
    return model


def clip_block(parts: Path, name: str = "qformer", **fusion: Any) -> dict[str, Any]:
    """The ``model:`` block over the tiny CLIP, for ``xformer`` also MAE, and the tiny Llama."""
    encoders = [
        {"name": "clip", "family": "clip", "checkpoint": str(parts / "clip"), "levels": [-1],
         "keep_prefix": True},
    ]  # fmt: skip
    if name == "xformer":
        encoders.append(
            {"name": "mae", "family": "mae", "checkpoint": str(parts / "mae"), "levels": [-1],
             "keep_prefix": True, "final_norm": True}
        )  # fmt: skip
    return {
        "encoders": encoders,
        "fusion": {
            "name": name,
            **QFORMER,
            "tokenizer": str(parts / "llama"),
            "vocab_size": None,
            **fusion,
        },
        "bridge": {"name": "placeholder", "start_end": False},
        "language": {"checkpoint": str(parts / "llama")},
        "prompt_style": "plain",
        "box_style": "shikra",
    }
