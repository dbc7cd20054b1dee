"""The tagger of the world: a small Swin that says which tags are true of a picture.

Swin type, as RAM's image tower: two stages of width 64 and 128 over 4-pixel patches, one sigmoid
per tag. It learns from whole pictures and their tags, never from places. Shapes: B pictures, C
tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import SwinConfig, SwinForImageClassification

from manyeyes.model.precision import CPU, autocast
from manyeyes.world.language.tags import TAGS, tags_of
from manyeyes.world.pretrain.export import save_part
from manyeyes.world.pretrain.loop import PartObjective, batched
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch, to_tensor
from manyeyes.world.render import render
from manyeyes.world.sample import IMAGE_SIZE, sample_scene
from manyeyes.world.scene import Scene

WIDTH, DEPTHS, HEADS, PATCH, WINDOW = 64, (2, 4), (2, 4), 4, 6
NORMALIZATION = "imagenet"

THRESHOLD = 0.5
"""A tag whose score is above this is named."""

MEASURED = 2000
"""Pictures of each split that the card's figures are measured on."""

Figures = dict[str, float]


class TaggerObjective(PartObjective):
    """Binary cross-entropy of every tag."""

    def __init__(self, seed: int, images_per_step: int = 64) -> None:
        super().__init__()
        self.seed, self.images_per_step = seed, images_per_step
        torch.manual_seed(seed)
        self.network: Any = SwinForImageClassification(tagger_config())

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of step ``step``'s pictures, and how many tags were right."""
        scenes = scene_batch("train", step, self.images_per_step, self.seed)
        goal = tag_labels(scenes)
        with autocast(CPU):
            logits = self.network(pixel_values=picture_batch(scenes, NORMALIZATION)).logits
        logits = logits.float()
        right = ((logits > 0) == (goal > 0)).float().mean()
        return functional.binary_cross_entropy_with_logits(logits, goal), {"right": float(right)}

    def export(self, folder: Path) -> None:
        """Write the bf16 ``SwinForImageClassification`` and its preprocessor's settings."""
        save_part(self.network, folder, "ViTImageProcessor", NORMALIZATION)


def tagger_config() -> SwinConfig:
    """Return the shipped configuration; ``id2label`` holds the tags in order."""
    return SwinConfig(
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depths=list(DEPTHS),
        num_heads=list(HEADS),
        window_size=WINDOW,
        drop_path_rate=0.0,
        problem_type="multi_label_classification",
        id2label=dict(enumerate(TAGS)),
        label2id={tag: index for index, tag in enumerate(TAGS)},
    )


def tag_labels(scenes: Sequence[Scene]) -> Tensor:
    """Return float ``[B, C]``: 1 where a tag is true of a scene."""
    true = [set(tags_of(scene)) for scene in scenes]
    return torch.tensor([[float(tag in tags) for tag in TAGS] for tags in true])


def tagging_figures(
    folder: Path, seed: int, split: str, number: int = MEASURED
) -> dict[str, Figures]:
    """Measure the tagger in ``folder`` on ``number`` pictures of ``split``.

    Per tag: precision and recall at ``THRESHOLD``, average precision, and the share of pictures
    that it is true of; ``all``: precision and recall of all tags together, and mean AP.
    """
    model = SwinForImageClassification.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()
    scores, goals = [], []
    for indices in batched(number, 100):
        scenes = [sample_scene(split, index, seed) for index in indices]
        scores.append(_scores(model, scenes))
        goals.append(tag_labels(scenes))
    score_BC, goal_BC = torch.cat(scores), torch.cat(goals).bool()
    rows = {
        tag: {
            **_precision_recall(score_BC[:, column], goal_BC[:, column]),
            "average precision": average_precision(score_BC[:, column], goal_BC[:, column]),
            "share": float(goal_BC[:, column].float().mean()),
        }
        for column, tag in enumerate(TAGS)
    }
    mean = sum(row["average precision"] for row in rows.values()) / len(rows)
    together = _precision_recall(score_BC.flatten(), goal_BC.flatten())
    return {
        "all": {**together, "average precision": mean},
        **rows,
        "n": {"pictures": float(number)},
    }


@torch.no_grad()
def _scores(model: Any, scenes: Sequence[Scene]) -> Tensor:
    side = (IMAGE_SIZE, IMAGE_SIZE)
    pictures = [
        np.asarray(Image.fromarray(render(scene)).resize(side, Image.Resampling.BILINEAR))
        for scene in scenes
    ]
    scores: Tensor = model(pixel_values=to_tensor(np.stack(pictures), NORMALIZATION)).logits
    return scores.sigmoid()


def _precision_recall(scores: Tensor, goal: Tensor) -> Figures:
    """Precision of no named tag at all is 1, and so is the recall of what is never true."""
    named = scores > THRESHOLD
    right = float((named & goal).sum())
    return {
        "precision": right / int(named.sum()) if bool(named.any()) else 1.0,
        "recall": right / int(goal.sum()) if bool(goal.any()) else 1.0,
    }


def average_precision(scores: Tensor, goal: Tensor) -> float:
    """Return the mean precision at each of the true ones of ``goal`` ``[B]``, best score first.

    1 where nothing is true.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked = goal[order]
    if not bool(ranked.any()):
        return 1.0
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())
