"""The gate: can a supervised ViT of the shipped size read the world at all?

Before any self-supervised training is worth its time, a ViT with labels must read shape, colour,
texture and mark of an object at a given place above ``PASS``. A world that fails here asks for
detail that lies below the patch size, and no pretraining will find it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel

from manyeyes.model.precision import CPU, autocast
from manyeyes.probes.places import read_places
from manyeyes.world.pretrain.measuring.objects import ATTRIBUTES, ObjectRows, object_rows
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.sizes import WIDTH, vision_config

PASS = 0.9
"""Accuracy that every attribute of ``GATED`` must exceed."""

GATED = ("shape", "color", "texture", "mark")


@dataclass(frozen=True)
class GateResult:
    """Accuracy per attribute on ``objects`` held-out objects, after ``steps`` steps."""

    patch: int
    accuracy: dict[str, float]
    objects: int
    steps: int
    images: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every gated attribute is above ``PASS``."""
        return all(self.accuracy[name] > PASS for name in GATED)


class PlaceReader(nn.Module):
    """A ViT and one linear head per attribute, read at the object's centre."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config(patch))
        self.tower.set_attn_implementation("eager")  # 1.5 times as fast as sdpa at this size on CPU
        self.heads = nn.ModuleDict({k: nn.Linear(WIDTH, len(v)) for k, v in ATTRIBUTES.items()})

    def forward(self, pixels: Tensor, rows: ObjectRows) -> dict[str, Tensor]:
        """Return the logits ``[M, classes]`` of each attribute."""
        patches = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]
        read = read_places(patches, rows.picture, rows.place)
        return {name: head(read) for name, head in self.heads.items()}


def run_gate(
    patch: int,
    *,
    seconds: float,
    seed: int = 0,
    batch: int = 64,
    held_out: int = 1024,
    progress: Callable[[str], None] | None = None,
) -> GateResult:
    """Train a ``PlaceReader`` for ``seconds`` and measure it on ``held_out`` val scenes."""
    torch.manual_seed(seed)
    model = PlaceReader(patch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    start, step, share = time.monotonic(), 0, 0.0
    while share < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * max(1.0 - share, 0.02)
        loss = _step(model, optimizer, step, batch, seed)
        step += 1
        share = (time.monotonic() - start) / seconds
        if progress is not None and step % 100 == 0:
            progress(f"patch {patch} step {step} loss {loss:.3f} {share * seconds:.0f}s")
    accuracy, objects = _measure(model, seed, held_out)
    spent = time.monotonic() - start
    return GateResult(patch, accuracy, objects, step, step * batch, spent)


def _step(
    model: PlaceReader, optimizer: torch.optim.Optimizer, step: int, batch: int, seed: int
) -> float:
    scenes = scene_batch("train", step, batch, seed)
    rows = object_rows(scenes)
    with autocast(CPU):
        logits = model(picture_batch(scenes, "clip"), rows)
    losses = [functional.cross_entropy(logits[k].float(), rows.labels[k]) for k in ATTRIBUTES]
    loss = torch.stack(losses).sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _measure(model: PlaceReader, seed: int, scenes: int) -> tuple[dict[str, float], int]:
    model.eval()
    right = dict.fromkeys(ATTRIBUTES, 0)
    objects = 0
    for step in range(scenes // 64):
        batch = scene_batch("val", step, 64, seed)
        rows = object_rows(batch)
        logits = model(picture_batch(batch, "clip"), rows)
        objects += len(rows.picture)
        for name in ATTRIBUTES:
            right[name] += int((logits[name].argmax(1) == rows.labels[name]).sum())
    return {name: right[name] / objects for name in ATTRIBUTES}, objects
