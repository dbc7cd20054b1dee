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
from torch import Tensor

from manyeyes.images.reading import load_image
from manyeyes.inference.ranking import ShownImages
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.perception.detections import read_objects
from manyeyes.records import (
    Detections,
    FeatureBundle,
    Features,
    FusionText,
    GridFeatures,
    Masking,
    ObjectFeatures,
    TagFeatures,
    TextFeatures,
    VisualEvidence,
)


class Look:
    """Images of one group, as the model's questions see them.

    Args:
        paths: the images, in the order of the rows that `shown` takes.
        objects: what counts as detected in each; None = what the model's own detector finds.
    """

    def __init__(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        paths: Sequence[str],
        objects: Sequence[Detections] | None = None,
    ) -> None:
        self.model, self.processor, self.paths = model, processor, list(paths)
        pictures = [load_image(path) for path in paths]
        self.sizes = [picture.size for picture in pictures]
        pixels = processor.pixels(pictures)
        placed: dict[str, Any] = {name: value.to(model.device) for name, value in pixels.items()}
        self._features = model.encode(**placed)
        self._given = objects
        self._features = self._told()
        self.reads_questions = bool(processor.question_inputs(["?"]))
        self._evidence: VisualEvidence | None = None
        if not self.reads_questions:
            self._evidence = model.fusion(self._features)

    @cached_property
    def objects(self) -> list[Detections] | None:
        """What was detected in each image; None where nobody looked."""
        if self._given is not None:
            return list(self._given)
        return self.processor.read_objects(self._features, self.sizes)

    def _told(self) -> FeatureBundle:
        """The features, with the words about objects where the fusion reads them."""
        if not self.processor.object_inputs(None, []):
            return self._features
        words = self.processor.object_inputs(self.objects, self.sizes)
        placed = (words[f"perception_{part}"].to(self.model.device) for part in ("ids", "mask"))
        return self.model.told(self._features, FusionText(*placed))

    def refined_objects(self) -> list[Detections] | None:
        """The objects after the fusion's refinement; None where it refines none."""
        if self.model.fusion.refines is None or self._evidence is None:
            return None
        judged = self.model.judged(self._evidence.trace, self._features)
        return read_objects(judged, self.sizes)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that the detector knows."""
        name = self.processor.detector_in(self._features)
        features = self._features.get(name or "")
        return features.labels if isinstance(features, ObjectFeatures) else ()

    def shown(self, rows: Sequence[int], questions: Sequence[str]) -> ShownImages:
        """What B questions are shown; ``rows`` are their images, ``questions`` their texts."""
        index = torch.tensor(rows, device=self.model.device)
        if self._evidence is not None:
            return ShownImages(self._evidence, index)
        inputs = self.processor.question_inputs(questions)
        text = FusionText(
            *(inputs[name].to(self.model.device) for name in ("question_ids", "question_mask"))
        )
        evidence = self.model.fusion(take_images(self._features, index), text)
        return ShownImages(evidence, torch.arange(len(rows), device=self.model.device))


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
