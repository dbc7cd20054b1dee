"""Objects that a model's own detector finds, once per image, before a stage."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

from manyeyes.checkpoints import hub
from manyeyes.data.annotations.objects import (
    ImageObjects,
    ObjectTable,
    read_object_table,
    write_objects,
)
from manyeyes.encoders import ObjectShape
from manyeyes.errors import RecipeError
from manyeyes.images.reading import load_image
from manyeyes.model.inputs import PIXELS
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.perception.detections import read_objects
from manyeyes.records import ObjectFeatures
from manyeyes.training.arguments import rank, world_size

logger = logging.getLogger(__name__)

CHUNK = 32
"""Images looked at together."""


def look_at(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    paths: list[str],
    folder: Path,
) -> ObjectTable:
    """Return the objects of images; a file in ``folder`` keeps them for the next time.

    Only those that the recipe's ``min_score`` lets into the text.

    Raises:
        RecipeError: the model has no detector, or it is trained and so will find others.
        ImageError: an image cannot be read.
    """
    name = detector_name(model, processor)
    if any(parameter.requires_grad for parameter in model.encoders[name].parameters()):
        raise RecipeError(
            f"objects: detector {name!r} is trained, so what it finds now does not hold; name a "
            "file of objects"
        )
    writer = processor.perception.writer
    least = 0.0 if writer is None else writer.options.min_score
    digest = hashlib.sha256(hub.module_fingerprint(model.encoders[name]).encode())
    settings = (model.config.pixel_transforms()[name], processor.geometry, least)
    for part in (*settings, *((path, _size(path)) for path in paths)):
        digest.update(repr(part).encode())
    file = folder / f"{digest.hexdigest()[:16]}.json"
    if rank() == 0 and not file.is_file():
        logger.info("detector %r looks at %d images", name, len(paths))
        _write(model, processor, name, least, paths, file)
    if world_size() > 1:
        torch.distributed.barrier()
    table = read_object_table(file, "/")
    return ObjectTable({path: table[os.path.abspath(path)] for path in paths}, table.file)


def _size(path: str) -> int:
    """Bytes of an image file, which tell a new picture from the old one in its place."""
    return os.path.getsize(path) if os.path.isfile(path) else -1  # inside a container, or missing


def detector_name(model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor) -> str:
    """Return the name of the encoder whose objects are written.

    Raises:
        RecipeError: there is none, or it is not clear which.
    """
    writer = processor.perception.writer
    if writer is not None and writer.options.detector is not None:
        return writer.options.detector
    shapes = model.config.encoder_shapes()
    found = [name for name, shape in shapes.items() if isinstance(shape, ObjectShape)]
    if len(found) != 1:
        raise RecipeError(
            f"objects: the model has {len(found)} detectors; name a file of objects, or the "
            "detector with model.perception_text.detector"
        )
    return found[0]


@torch.no_grad()
def _write(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    name: str,
    min_score: float,
    paths: list[str],
    file: Path,
) -> None:
    model.eval()
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    images: list[ImageObjects] = []
    labels: tuple[str, ...] = ()
    encoder: Any = model.encoders[name].to(device)
    for start in range(0, len(paths), CHUNK):
        chunk = paths[start : start + CHUNK]
        pictures = [load_image(path) for path in chunk]
        pixels = processor.pixels(pictures, [name])[f"{PIXELS}{name}"]
        features: ObjectFeatures = encoder(pixels.to(device))
        sizes = [picture.size for picture in pictures]
        found = read_objects(features, sizes, min_score=min_score)
        labels = features.labels
        for path, size, objects in zip(chunk, sizes, found, strict=True):
            images.append(ImageObjects(os.path.abspath(path), path, size, objects))
    write_objects(file, images, {label: place for place, label in enumerate(labels)})
