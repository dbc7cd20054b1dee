"""Size of every shipped vision encoder: 48 x 48 pixels, 6-pixel patches, 6 blocks of width 128."""

from __future__ import annotations

from transformers import CLIPVisionConfig

from manyeyes.world.sample import IMAGE_SIZE

WIDTH, LAYERS, HEADS = 128, 6, 4
PATCH = 6
"""Patch side in pixels. In equal time, 4-pixel patches read less of a scene."""

PATCHES = (IMAGE_SIZE // PATCH) ** 2


def vision_config(patch: int = PATCH) -> CLIPVisionConfig:
    """Return the image tower's configuration in CLIP's form, for a patch side in pixels."""
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=IMAGE_SIZE,
        patch_size=patch,
    )
