"""How every vision part is made.

Training pictures are rendered on the fly; nothing but the part and the run's state reaches the
disk. Rerunning with the seed and the number of steps of a card repeats the run that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from manyeyes.world.pretrain.cards import Table
from manyeyes.world.pretrain.loop import PartObjective
from manyeyes.world.pretrain.measuring.detector import detection_figures
from manyeyes.world.pretrain.measuring.vision import (
    neighbour_figures,
    probe_figures,
    reconstruction_figures,
    retrieval_figures,
)
from manyeyes.world.pretrain.recipe import PartRecipe
from manyeyes.world.pretrain.vision.clip import ClipObjective
from manyeyes.world.pretrain.vision.detector import DetectorObjective
from manyeyes.world.pretrain.vision.dino import DinoObjective
from manyeyes.world.pretrain.vision.mae import MaeObjective
from manyeyes.world.pretrain.vision.tagger import TaggerObjective, tagging_figures


def vision_recipe(
    objective: Callable[[int], PartObjective],
    measure: Callable[[Path, int], Mapping[str, Table]],
    minutes: float,
    summary: str,
) -> PartRecipe:
    """Return the recipe of a part whose exported folder is measured, with the run's seed."""
    return PartRecipe(
        objective=lambda seed, _: objective(seed),
        measure=lambda trained, folder: measure(folder, trained.seed),
        minutes=minutes,
        summary=summary,
    )


def _measure_clip(folder: Path, seed: int) -> Mapping[str, Table]:
    return {
        "retrieval": retrieval_figures(folder, seed),
        "linear probes": probe_figures("clip", folder, seed),
    }


def _measure_dinov2(folder: Path, seed: int) -> Mapping[str, Table]:
    return {
        "nearest neighbours": neighbour_figures("dinov2", folder, seed),
        "linear probes": probe_figures("dinov2", folder, seed),
    }


def _measure_detector(folder: Path, seed: int) -> Mapping[str, Table]:
    return {"detection": detection_figures(folder, seed)}


def _measure_mae(folder: Path, seed: int) -> Mapping[str, Table]:
    return {
        "reconstruction of hidden patches": reconstruction_figures(folder, seed),
        "linear probes": probe_figures("mae", folder, seed),
    }


def _measure_tagger(folder: Path, seed: int) -> Mapping[str, Table]:
    return {
        f"tags of split {split}": tagging_figures(folder, seed, split)
        for split in ("val", "corner")
    }


VISION: dict[str, PartRecipe] = {
    "clip": vision_recipe(
        ClipObjective,
        _measure_clip,
        40.0,
        "Image tower and text tower of CLIP type (`CLIPModel`), trained contrastively on rendered "
        "pictures and their captions. Captions name colour, shape, size, number and relations, "
        "never texture, mark or exact place.",
    ),
    "detector": vision_recipe(
        DetectorObjective,
        _measure_detector,
        40.0,
        "Set-prediction detector (`ConditionalDetrForObjectDetection`) of the world's shapes: "
        "ConvNeXt to 8 x 8 places, one encoder and three decoder layers, 16 queries whose "
        "reference points start on a grid. In a trial of 110 CPU seconds each, with the same "
        "backbone and sizes, plain DETR had come to a mean box error (L1) of 0.32 and an AP of "
        "0.001 after 302 steps of 32 pictures, conditional DETR to 0.20 and 0.013 after 264.",
    ),
    "dinov2": vision_recipe(
        DinoObjective,
        _measure_dinov2,
        55.0,
        "Image tower of DINOv2 type (`Dinov2Model`), trained by self-distillation on pictures "
        "alone: class-token and masked-patch prototypes, balanced by Sinkhorn-Knopp, and pixels of "
        "masked patches.",
    ),
    "mae": vision_recipe(
        MaeObjective,
        _measure_mae,
        30.0,
        "Masked autoencoder (`ViTMAEForPreTraining`) with its decoder, trained to predict the raw "
        "pixels of the hidden three quarters of the patches.",
    ),
    "tagger": vision_recipe(
        TaggerObjective,
        _measure_tagger,
        15.0,
        "Tagger (`SwinForImageClassification`, one sigmoid per tag), trained on pictures and the "
        "single words that are true of them: the colours, shapes and sizes of objects and their "
        "number, the words of captions. It does not know which word belongs to which object.",
    ),
}
"""Every trainable vision part."""
