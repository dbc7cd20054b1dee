"""Tiny models of every fusion that fills placeholders, as folders that vLLM can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
from image_text_parts import clip_block, save_mae, save_opt
from lion_parts import build_lion, lion_block, stir
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.records import Perceived, Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


def save_parts(folder: Path) -> Path:
    """Save all checkpoints that ``blocks`` names; return ``folder``."""
    tiny.save_parts(folder, hidden=64)
    tiny.save_t5(folder / "t5")
    save_mae(folder / "mae")
    save_opt(folder / "opt", hidden=64)
    return folder


def blocks(parts: Path) -> dict[str, dict[str, Any]]:
    """Return the ``model:`` block of each fusion, by name."""
    comm = tiny.model_block(parts)
    one = tiny.model_block(parts, encoders=("clip",))
    top = [{**encoder, "levels": encoder["levels"][-1:]} for encoder in comm["encoders"]]
    clip = [{**one["encoders"][0], "levels": [-1]}]
    lion = lion_block(parts, "llama")
    lion["bridge"] = {"name": "placeholder", "start_end": False, "tags": "soft"}
    sva = {"name": "sva", "width": 8, "heads": 2, "depth": 2, "groups": 2, "grid": (2, 2)}
    return {
        "comm": comm,
        "concat": {**comm, "encoders": top, "fusion": {"name": "concat"}},
        "cross_attention": {**comm, "encoders": top, "fusion": {"name": "cross_attention"}},
        "deepseek_hybrid": {**comm, "encoders": top, "fusion": {"name": "deepseek_hybrid"}},
        "interleaved": {**comm, "encoders": top, "fusion": {"name": "interleaved"}},
        "sva": {**comm, "encoders": top, "fusion": sva},
        "single": {**one, "encoders": clip, "fusion": {"name": "single"}},
        "single-opt": {
            **one,
            "encoders": clip,
            "fusion": {"name": "single"},
            "language": {"checkpoint": str(parts / "opt")},
        },
        "qformer": clip_block(parts),
        "qformer-question": clip_block(parts, text="question", text_length=24),
        "xformer": clip_block(parts, "xformer"),
        "lion": lion,
    }


def build(block: dict[str, Any]) -> Built:
    """Build a model whose answers depend on every image: no part is as it starts."""
    model, processor = build_lion(block)
    for seed, part in enumerate((model.fusion, model.bridge, model.language_model)):
        stir(part, seed)
    return model, processor


def save(built: Built, folder: Path) -> Path:
    """Save a model with all of its parts, and its processor."""
    model, processor = built
    model.save_pretrained(folder, self_contained=True)
    processor.save_pretrained(folder)
    return folder


def spoken(processor: ManyEyesProcessor, question: str, images: int) -> str:
    """Return the prompt of a question about so many images, tagged where the model reads tags."""
    tags = (("red", "cat"),) * images if processor.tags != "none" else None
    turns = [Turn("user", "<image>\n" * images + question)]
    return processor.prompt(turns, perceived=Perceived(tags=tags))
