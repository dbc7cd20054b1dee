"""A group of images encoded once, and what each of its questions is shown of them.

    images ─encoders, once→ features ─fusion→ evidence
                                       └ once, or for every question where the fusion reads it

Shapes: I images of the group, B questions of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from manyeyes.inference.ranking import ShownImages
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.pictures.tiles import GRIDS
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.perception.detections import read_objects
from manyeyes.records import (
    NOTHING_PERCEIVED,
    Detections,
    FeatureBundle,
    Features,
    FusionText,
    GridFeatures,
    Masking,
    ObjectFeatures,
    Perceived,
    TagFeatures,
    TextFeatures,
    VisualEvidence,
)


class EncodedImages:
    """Images of one group, as the model's questions see them.

    Args:
        pictures: RGB images, in the order of the rows that `shown` takes.
        known: what is known of each already; objects that it leaves open are found by the model's
            own detector.
    Attributes:
        evidence: of the images, None where the fusion reads the question; ``features``: what the
            fusion reads.
    """

    def __init__(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        pictures: Sequence[Image.Image],
        known: Sequence[Perceived] | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self._known = [NOTHING_PERCEIVED] * len(pictures) if known is None else list(known)
        self.sizes = [picture.size for picture in pictures]
        pixels: dict[str, Any] = dict(processor.pixels(pictures))
        placed = {name: value.to(model.device) for name, value in pixels.items()}
        self.features = model.encode(**placed)
        self.features = self._with_object_texts()
        self.evidence: VisualEvidence | None = None
        if not processor.reads_questions:
            self.evidence = model.fuse(self.features, tile_grids=placed.get(GRIDS))

    @cached_property
    def objects(self) -> list[Detections] | None:
        """What was detected in each image; None where nobody looked."""
        given = [known.objects[0] for known in self._known if known.objects is not None]
        if self._known and len(given) == len(self._known):
            return given
        return self.processor.perception.read(self.features, self.sizes)

    def perceived(self, row: int) -> Perceived:
        """What the prompt says of one image: its tags, and its objects where they are written."""
        writes = self.processor.perception.writer is not None
        objects = self.objects if writes else None
        return Perceived(self._known[row].tags, None if objects is None else (objects[row],))

    def _with_object_texts(self) -> FeatureBundle:
        """The features, with the words about objects where the fusion reads them."""
        perception = self.processor.perception
        if not perception.fusion_inputs(None, []):
            return self.features
        words = perception.fusion_inputs(self.objects, self.sizes)
        placed = (words[f"perception_{part}"].to(self.model.device) for part in ("ids", "mask"))
        return self.model.with_object_texts(self.features, FusionText(*placed))

    def refined_objects(self) -> list[Detections] | None:
        """The objects after the fusion's refinement; None where it refines none."""
        if self.model.fusion.plan.refines is None or self.evidence is None:
            return None
        refined = self.model.refined_objects(self.evidence.trace, self.features)
        return read_objects(refined, self.sizes)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that the detector knows."""
        name = self.processor.perception.detector_in(self.features)
        features = self.features.get(name or "")
        return features.labels if isinstance(features, ObjectFeatures) else ()

    def shown(self, rows: Sequence[int], questions: Sequence[str]) -> ShownImages:
        """What B questions are shown; ``rows`` are their images, ``questions`` their texts."""
        index = torch.tensor(rows, device=self.model.device)
        if self.evidence is not None:
            return ShownImages(self.evidence, index)
        text = question_text(self.model, self.processor, questions)
        evidence = self.model.fusion(take_images(self.features, index), text)
        return ShownImages(evidence, torch.arange(len(rows), device=self.model.device))


def question_text(
    model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor, questions: Sequence[str]
) -> FusionText:
    """Return what a fusion reads of one question per image, on the model's device."""
    inputs = processor.question_inputs(questions)
    return FusionText(*(inputs[f"question_{part}"].to(model.device) for part in ("ids", "mask")))


def take_images(bundle: FeatureBundle, rows: Tensor) -> FeatureBundle:
    """The features of some of a bundle's images, in the order of ``rows``, which may repeat."""
    return {name: _take(features, rows) for name, features in bundle.items()}


def _take(features: Features, rows: Tensor) -> Features:
    if isinstance(features, GridFeatures):
        seen = features.masking
        return replace(
            features,
            levels=tuple(level[rows] for level in features.levels),
            prefix=tuple(prefix[rows] for prefix in features.prefix),
            masking=seen and Masking(seen.hidden[rows], seen.restore[rows]),
        )
    if isinstance(features, ObjectFeatures):
        parts = {name: getattr(features, name)[rows] for name in ("queries", "boxes", "logits")}
        return replace(features, **parts)
    if isinstance(features, TextFeatures):
        return TextFeatures(features.vectors[rows], features.mask[rows])
    assert isinstance(features, TagFeatures), "there is no other kind of features"
    chosen = rows.tolist()
    return TagFeatures(
        tuple(features.names[row] for row in chosen), tuple(features.scores[row] for row in chosen)
    )
