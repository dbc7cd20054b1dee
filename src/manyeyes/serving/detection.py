"""What a detector finds in images, alone or inside a model that refines it.

paths ─detector→ objects ─language model→ its own list ─merge→ refined objects
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig

from manyeyes.checkpoints import hub, tying
from manyeyes.checkpoints.trust import trusts_remote_code
from manyeyes.encoders import ENCODERS, DetectorEncoder, ObjectShape, PixelTransform, parse_encoder
from manyeyes.errors import CheckpointError, UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.loading import choose_device, load_model
from manyeyes.model.pictures.pixels import to_pixels
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.perception.detections import read_objects
from manyeyes.perception.refinement import MergeWeights, Refined, merge_objects
from manyeyes.records import Detections
from manyeyes.serving.refinement import Written, rewrite_objects


@dataclass(frozen=True)
class Seen:
    """One image: (width, height), the detector's objects and, where asked for, what became of them.

    ``refined`` and ``written``: None without refinement.
    """

    size: tuple[int, int]
    objects: Detections
    refined: Refined | None = None
    written: Written | None = None


class Finder(Protocol):
    """Whatever finds objects; ``labels`` are the classes it knows."""

    labels: tuple[str, ...]

    def find(self, paths: Sequence[str], *, min_score: float = 0.0) -> list[Seen]:
        """Return what is in each image; objects below ``min_score`` are left out."""


class DetectorAlone:
    """A detector behind the contract of encoders, and its pixel transform."""

    def __init__(self, encoder: Any, rule: PixelTransform) -> None:
        self.encoder, self.rule = encoder.eval(), rule
        self.labels: tuple[str, ...] = encoder.labels

    @torch.inference_mode()
    def find(self, paths: Sequence[str], *, min_score: float = 0.0) -> list[Seen]:
        """See `Finder`."""
        pictures = [load_image(path) for path in paths]
        pixels = to_pixels(pictures, self.rule, "squash", (0, 0, 0))
        device = next(self.encoder.parameters()).device
        features = self.encoder(pixels.to(device))
        sizes = [picture.size for picture in pictures]
        found = read_objects(features, sizes, min_score=min_score)
        return [Seen(size, objects) for size, objects in zip(sizes, found, strict=True)]


class ModelWithDetector:
    """A whole model; its fusion may refine the objects, and its language model what came of that.

    Args:
        weights: how far what the language model writes is believed, where it reads objects; None =
            no refinement.

    Raises:
        UsageError: the model has no detector.
    """

    def __init__(
        self,
        model: Any,
        processor: ManyEyesProcessor,
        *,
        weights: MergeWeights | None = None,
        max_new_tokens: int = 512,
    ) -> None:
        shapes = model.config.encoder_shapes().values()
        if not any(isinstance(shape, ObjectShape) for shape in shapes):
            raise UsageError("the model has no detector among its encoders")
        self.model, self.processor = model.eval(), processor
        self.weights, self.writes = weights, processor.perception.writer is not None
        self.max_new_tokens = max_new_tokens
        self.labels: tuple[str, ...] = ()

    @torch.inference_mode()
    def find(self, paths: Sequence[str], *, min_score: float = 0.0) -> list[Seen]:
        """See `Finder`."""
        pictures = [load_image(path) for path in paths]
        images = EncodedImages(self.model, self.processor, pictures)
        found = images.objects
        assert found is not None, "a detector was found in the beginning"
        self.labels = images.labels
        seen = [
            Seen(size, _sure(objects, min_score))
            for size, objects in zip(images.sizes, found, strict=True)
        ]
        if self.weights is None or not (self.writes or self.model.fusion.plan.refines):
            return seen
        better = images.refined_objects() or found
        kept = [_sure(objects, min_score) for objects in better]
        if not self.writes:
            pairs = zip(seen, kept, strict=True)
            return [replace(image, refined=Refined(objects)) for image, objects in pairs]
        written = rewrite_objects(
            self.model, self.processor, images, better, max_new_tokens=self.max_new_tokens
        )
        return [
            replace(
                image,
                refined=merge_objects(objects, said.objects, self.labels, self.weights),
                written=said,
            )
            for image, objects, said in zip(seen, kept, written, strict=True)
        ]


def _sure(objects: Detections, min_score: float) -> Detections:
    return tuple(found for found in objects if (found.score or 0.0) >= min_score)


def load_finder(
    checkpoint: str,
    *,
    weights: MergeWeights | None = None,
    dtype: str = "auto",
    device: str = "auto",
) -> Finder:
    """Load a manyeyes model with a detector, or a detector's own checkpoint.

    Raises:
        CheckpointError: neither is there. UsageError: a model without a detector.
    """
    where = hub.resolve(checkpoint)
    with hub.reading(checkpoint):
        config: Any = AutoConfig.from_pretrained(where, trust_remote_code=trusts_remote_code())
    if config.model_type == ManyEyesConfig.model_type:
        model, processor = load_model(checkpoint, dtype=dtype, device=device)
        return ModelWithDetector(model, processor, weights=weights)
    return load_detector(checkpoint, config, device=device)


def load_detector(checkpoint: str, config: Any, *, device: str = "auto") -> DetectorAlone:
    """Load a detector of one of our families.

    Raises:
        CheckpointError: its kind is none of them.
    """
    families = {
        cls.config_class.model_type: name
        for name, cls in ENCODERS.items()
        if issubclass(cls, DetectorEncoder)
    }
    if config.model_type not in families:
        raise CheckpointError(
            f"{checkpoint!r} is a {config.model_type!r}, neither a manyeyes model nor a detector "
            f"of a known kind ({', '.join(sorted(families))})"
        )
    spec = parse_encoder(
        {"name": "detector", "family": families[config.model_type], "checkpoint": checkpoint}
    )
    cls = ENCODERS[spec.family]
    backbone = cls.read_config(spec)
    encoder = cls(spec, backbone)
    for part in encoder.pretrained_parts().values():
        loaded = hub.load_pretrained(part.__class__, checkpoint, part.config)
        tying.take(part, loaded)
    rule = cls.transform(spec, backbone)
    return DetectorAlone(encoder.to(choose_device(device)), rule)


def drawing_path(image: str, folder: Path | None, ending: str) -> Path:
    """Return ``NAME-ENDING.png`` beside an image, or in ``folder``."""
    path = Path(image)
    return (folder or path.parent) / f"{path.stem}-{ending}.png"
