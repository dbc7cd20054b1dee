"""Set-prediction detector of DETR type: the world's shapes and their boxes.

Conditional DETR (Meng et al. 2021, arXiv 2108.06152), because each of its queries looks around a
reference point of its own; at the start these lie on a grid over the picture. Shapes: B pictures,
Q object queries, M objects of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    ConvNextConfig,
)

from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.export import save_part
from manyeyes.world.pretrain.loop import PartObjective
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.sample import IMAGE_SIZE
from manyeyes.world.scene import SHAPES, Scene

WIDTH, GRID_SIDE = 96, 4
QUERIES = GRID_SIDE**2
"""At most five objects lie in a picture of the world."""


class DetectorObjective(PartObjective):
    """Matching, then focal loss on classes, L1 and generalised IoU on boxes, in every layer."""

    learning_rate = 7e-4

    def __init__(self, seed: int, images_per_step: int = 16) -> None:
        super().__init__()
        self.seed, self.images_per_step = seed, images_per_step
        torch.manual_seed(seed)
        self.network = ConditionalDetrForObjectDetection(detector_config())
        self.network.requires_grad_(True)
        spread_references(self.network)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the set-prediction loss of step ``step``'s batch and its last layer's terms."""
        scenes = scene_batch("train", step, self.images_per_step, self.seed)
        pixels = picture_batch(scenes, "imagenet")
        with autocast(CPU):
            out = self.network(pixel_values=pixels, labels=detection_targets(scenes))
        terms = {"class": "loss_ce", "box": "loss_bbox", "giou": "loss_giou"}
        figures = {name: float(out.loss_dict[key].detach()) for name, key in terms.items()}
        return out.loss, figures

    def export(self, folder: Path) -> None:
        """Write the ``ConditionalDetrForObjectDetection``; its image processor takes any size."""
        save_part(self.network, folder, "ConditionalDetrImageProcessor", "imagenet", do_pad=False)


def detection_targets(scenes: Sequence[Scene]) -> list[dict[str, Tensor]]:
    """Return per scene ``class_labels`` ``[M]`` and ``boxes`` ``[M, 4]``: cx, cy, w, h in 0..1."""
    return [
        {
            "class_labels": torch.tensor([SHAPES.index(item.shape) for item in scene.objects]),
            "boxes": _center_boxes(scene),
        }
        for scene in scenes
    ]


def _center_boxes(scene: Scene) -> Tensor:
    corners = torch.tensor([item.box for item in scene.objects], dtype=torch.float32)
    low, high = corners.view(-1, 2, 2).unbind(dim=1)
    size = torch.tensor([scene.width, scene.height])
    return torch.cat([(low + high) / 2 / size, (high - low) / size], dim=1)


@torch.no_grad()
def spread_references(network: ConditionalDetrForObjectDetection) -> None:
    """Let the queries' reference points start on a grid; fresh ones all lie in the middle.

    The last layer of the head that makes them is solved for that.
    """
    queries = network.model.query_position_embeddings.weight
    queries.normal_()
    hidden, last = network.model.decoder.ref_point_head.layers
    lines = (torch.arange(GRID_SIDE) + 0.5) / GRID_SIDE
    y, x = torch.meshgrid(lines, lines, indexing="ij")
    goal = torch.logit(torch.stack([x.flatten(), y.flatten()], dim=1))
    last.weight.copy_((torch.linalg.pinv(torch.relu(hidden(queries))) @ goal).T)
    last.bias.zero_()


def detector_config() -> ConditionalDetrConfig:
    """Return the shipped configuration: ConvNeXt to 8 x 8 places, 1 encoder, 3 decoder layers."""
    stages: dict[str, Any] = {
        "num_stages": 2,
        "patch_size": 3,
        "hidden_sizes": [48, WIDTH],
        "depths": [1, 2],
        "out_features": ["stage2"],
    }
    fields: dict[str, Any] = {
        "backbone_config": ConvNextConfig(**stages),
        "backbone": None,
        "use_timm_backbone": False,
        "d_model": WIDTH,
        "num_queries": QUERIES,
        "encoder_layers": 1,
        "decoder_layers": 3,
        "encoder_ffn_dim": 2 * WIDTH,
        "decoder_ffn_dim": 2 * WIDTH,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "dropout": 0.0,
        "image_size": IMAGE_SIZE,
        "auxiliary_loss": True,
        "id2label": dict(enumerate(SHAPES)),
        "label2id": {shape: number for number, shape in enumerate(SHAPES)},
    }
    return ConditionalDetrConfig(**fields)
