"""The parts that ship with the package, by name, and where their folders are.

A part is an ordinary Hugging Face folder under ``parts/<name>`` (configuration, bf16 safetensors,
preprocessor or tokenizer) with a card: ``card.json`` holds what was measured, ``README.md`` the
same in words. To add a part: give it a training recipe in ``pretrain/run.py``, train it with
``manyeyes world pretrain --part NAME``, and add its line to ``PARTS``.
"""

from __future__ import annotations

from pathlib import Path

from manyeyes.checkpoints.hub import WORLD_PARTS
from manyeyes.errors import CheckpointError, UsageError, nearest

PARTS: dict[str, str] = {
    "clip": "image tower and text tower trained on pictures and captions (CLIPModel)",
    "detector": "set-prediction detector of shapes (ConditionalDetrForObjectDetection)",
    "dinov2": "image tower trained by self-distillation on pictures alone (Dinov2Model)",
    "language": "decoder language model with tokenizer, text only (LlamaForCausalLM)",
    "mae": "masked autoencoder with its decoder (ViTMAEForPreTraining)",
    "tagger": "classifier of colours, shapes, sizes and numbers (SwinForImageClassification)",
}
"""Every shipped part and what it is."""


def part_path(name: str) -> Path:
    """Return the folder of the shipped part ``name`` (with or without ``world:`` in front).

    Raises ``UsageError`` for a name that is no part, ``CheckpointError`` when its folder is not
    there and has to be made with ``manyeyes world pretrain``.
    """
    name = name.removeprefix("world:")
    if name not in PARTS:
        known = ", ".join(PARTS)
        raise UsageError(f"no world part {name!r}: expected one of {known}{nearest(name, PARTS)}")
    folder = WORLD_PARTS / name
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"world part {name!r} is not in {folder}; make it with "
            f"`manyeyes world pretrain --part {name}`"
        )
    return folder
