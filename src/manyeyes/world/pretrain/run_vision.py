"""``pretrain_vision``: train one shipped vision part and write its folder and card.

Training pictures are rendered on the fly; nothing but the part and the run's state reaches the
disk. Rerunning with the seed and the number of steps of a card repeats the run that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from manyeyes.errors import UsageError, nearest
from manyeyes.world.pretrain.cards import Card, Table, check_part
from manyeyes.world.pretrain.finish import finish_part
from manyeyes.world.pretrain.loop import PartObjective, train
from manyeyes.world.pretrain.measuring.detector import detection_figures
from manyeyes.world.pretrain.measuring.vision import (
    neighbour_figures,
    probe_figures,
    reconstruction_figures,
    retrieval_figures,
)
from manyeyes.world.pretrain.vision.clip import ClipObjective
from manyeyes.world.pretrain.vision.detector import DetectorObjective
from manyeyes.world.pretrain.vision.dino import DinoObjective
from manyeyes.world.pretrain.vision.mae import MaeObjective
from manyeyes.world.pretrain.vision.tagger import TaggerObjective, tagging_figures

Measure = Callable[[Path, int], Mapping[str, Table]]
"""Measures the exported part in a folder, with a seed for scenes and probes."""


@dataclass(frozen=True)
class VisionRecipe:
    """How a part is made: its objective for a seed, its measurement, and what its card says."""

    objective: Callable[[int], PartObjective]
    measure: Measure
    minutes: float
    summary: str


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


VISION: dict[str, VisionRecipe] = {
    "clip": VisionRecipe(
        ClipObjective,
        _measure_clip,
        40.0,
        "Image tower and text tower of CLIP type (`CLIPModel`), trained contrastively on rendered "
        "pictures and their captions. Captions name colour, shape, size, number and relations, "
        "never texture, mark or exact place.",
    ),
    "detector": VisionRecipe(
        DetectorObjective,
        _measure_detector,
        40.0,
        "Set-prediction detector (`ConditionalDetrForObjectDetection`) of the world's shapes: "
        "ConvNeXt to 8 x 8 places, one encoder and three decoder layers, 16 queries whose "
        "reference points start on a grid. In a trial of 110 CPU seconds each, with the same "
        "backbone and sizes, plain DETR had come to a mean box error (L1) of 0.32 and an AP of "
        "0.001 after 302 steps of 32 pictures, conditional DETR to 0.20 and 0.013 after 264.",
    ),
    "dinov2": VisionRecipe(
        DinoObjective,
        _measure_dinov2,
        55.0,
        "Image tower of DINOv2 type (`Dinov2Model`), trained by self-distillation on pictures "
        "alone: class-token and masked-patch prototypes, balanced by Sinkhorn-Knopp, and pixels of "
        "masked patches.",
    ),
    "mae": VisionRecipe(
        MaeObjective,
        _measure_mae,
        30.0,
        "Masked autoencoder (`ViTMAEForPreTraining`) with its decoder, trained to predict the raw "
        "pixels of the hidden three quarters of the patches.",
    ),
    "tagger": VisionRecipe(
        TaggerObjective,
        _measure_tagger,
        15.0,
        "Tagger (`SwinForImageClassification`, one sigmoid per tag), trained on pictures and the "
        "single words that are true of them: the colours, shapes and sizes of objects and their "
        "number, the words of captions. It does not know which word belongs to which object.",
    ),
}
"""Every trainable vision part; ``minutes`` is the default budget on one CPU thread."""


def pretrain_vision(
    part: str,
    out_dir: Path,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    start: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Card:
    """Train ``part`` and write it, measured and with its card, to ``out_dir / part``.

    The budget is ``steps`` or ``seconds``; without either the recipe's minutes. The run's state is
    kept in ``out_dir / (part + ".run")``, from which ``resume`` continues. A new run with ``start``
    starts from the part in that folder. Raises ``UsageError`` for an unknown part, and what
    ``loop.train`` and ``start_from`` of the objective raise.
    """
    recipe = _find(part)
    check_part(part, out_dir / part)
    torch.set_num_threads(threads)
    objective = recipe.objective(seed)
    if start is not None and not resume:
        objective.start_from(start)
    if steps is None and seconds is None:
        seconds = 60.0 * recipe.minutes
    state = train(
        objective,
        out_dir / f"{part}.run",
        steps=steps,
        seconds=seconds,
        resume=resume,
        progress=progress,
    )
    return finish_part(
        part,
        objective,
        state,
        out_dir / part,
        threads,
        summary=recipe.summary,
        measure=lambda folder: recipe.measure(folder, objective.seed),
        seen={
            "images per step": objective.images_per_step,
            "images": state.step * objective.images_per_step,
            **({} if start is None else {"weights at the start": start.name}),
        },
        last=state.figures,
    )


def _find(part: str) -> VisionRecipe:
    if part not in VISION:
        known = ", ".join(VISION)
        raise UsageError(f"no vision part {part!r}: expected one of {known}{nearest(part, VISION)}")
    return VISION[part]
