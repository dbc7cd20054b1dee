"""Can the world be read at all? A supervised ViT of the shipped size must read most of it.

A world that fails here asks for detail below the patch size, which no pretraining will find.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel

from manyeyes.probes.places import read_places
from manyeyes.world.pretrain.measuring.objects import ATTRIBUTES, object_rows
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.sizes import WIDTH, vision_config

SECONDS, BATCH, HELD_OUT = 900.0, 64, 1024


class PlaceReader(nn.Module):
    """A ViT and one linear head per attribute, read at the object's centre."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config())
        self.tower.set_attn_implementation("eager")  # 1.5 times as fast as sdpa at this size on CPU
        self.heads = nn.ModuleDict({k: nn.Linear(WIDTH, len(v)) for k, v in ATTRIBUTES.items()})

    def forward(self, split: str, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Return logits and labels of each attribute, for a step's objects."""
        scenes = scene_batch(split, step, BATCH, 0)
        rows = object_rows(scenes)
        pixels = picture_batch(scenes, "clip")
        patches = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]
        read = read_places(patches, rows.picture, rows.place)
        return {name: (head(read), rows.labels[name]) for name, head in self.heads.items()}


@pytest.mark.slow
def test_supervised_encoder_reads_the_world() -> None:
    torch.manual_seed(0)
    model = PlaceReader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    start, step, share = time.monotonic(), 0, 0.0
    while share < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * max(1.0 - share, 0.02)
        with torch.autocast("cpu", torch.bfloat16):
            read = model("train", step).values()
        loss = sum(functional.cross_entropy(logits.float(), labels) for logits, labels in read)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, share = step + 1, (time.monotonic() - start) / SECONDS
    accuracy = _accuracy(model.eval())
    assert min(accuracy[name] for name in ("shape", "color", "texture", "mark")) > 0.9, accuracy


@torch.no_grad()
def _accuracy(model: PlaceReader) -> dict[str, float]:
    hits: dict[str, list[Tensor]] = {name: [] for name in ATTRIBUTES}
    for step in range(HELD_OUT // BATCH):
        for name, (logits, labels) in model("val", step).items():
            hits[name].append(logits.argmax(1) == labels)
    return {name: float(torch.cat(found).float().mean()) for name, found in hits.items()}
