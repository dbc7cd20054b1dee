"""Models of the first stage of X-Former over tiny parts, their batches and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import image_text_parts as tiny_parts
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.losses import OBJECTIVES
from manyeyes.records import Sample, Turn
from manyeyes.training.trainable import assign, freeze

FOUR = ("itc", "itm", "itg", "reconstruction")
FIRST: dict[str, Any] = {"text": "caption", "text_length": 24}
Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


def make(block: dict[str, Any]) -> Built:
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    return ManyEyesForConditionalGeneration.from_parts(config), processor


def xformer(home: Path, *, ratio: float = 0.5, idle: bool = True, **fusion: Any) -> Built:
    """The model of the first stage."""
    options = {**FIRST, "reconstruct": True, **fusion}
    block = tiny_parts.clip_block(home, "xformer", **options)
    block["encoders"][1] |= {"mask_ratio": ratio, "decoder": options["reconstruct"]}
    block["language"] = {**block["language"], "idle": idle}
    return make(block)


def pairs(
    processor: ManyEyesProcessor, pictures: list[Image.Image], count: int = 3
) -> dict[str, Tensor]:
    rows = [
        processor.encode(
            Sample(
                str(i),
                ("x",),
                (Turn("user", "<image>\nDescribe."), Turn("assistant", "A red dot" + "!?." * i)),
            ),
            [pictures[i % len(pictures)]],
        )
        for i in range(count)
    ]
    return processor.collate(rows)


def needs(*objectives: str) -> list[str]:
    return [need for name in objectives for need in OBJECTIVES[name].needs]


def gradients(model: torch.nn.Module) -> set[str]:
    """Names of parameters with a gradient that is not zero."""
    return {
        name
        for name, p in model.named_parameters()
        if p.grad is not None and float(p.grad.abs().max()) > 0
    }


def first_stage(model: ManyEyesForConditionalGeneration) -> None:
    freeze(model, assign(model, {"fusion": True, "fusion.projector": False}))
    model.train()
