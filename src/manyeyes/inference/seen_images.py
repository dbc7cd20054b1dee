"""Images that a model has seen: each is encoded once, whatever is asked about it and how often.

    picture ─encoders, detector, tagger, once→ SeenImage
    SeenImages + questions ─→ prompts, and what the model is shown of the images

Shapes: I images in reading order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from manyeyes.encoders import Tagger
from manyeyes.errors import UsageError
from manyeyes.inference.encoded_images import EncodedImages, question_text
from manyeyes.inference.ranking import ShownImages
from manyeyes.inference.tagging import tag_images
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import Detections, FeatureBundle, FusionText, Perceived, Turn, VisualEvidence


@dataclass(frozen=True, eq=False)
class SeenImage:
    """What encoders, detector and tagger made of a picture of ``size`` (width, height).

    ``features`` in place of ``evidence`` where the fusion reads the question; ``objects``: what the
    model's detector found, None where it has none that writes into prompts.
    """

    size: tuple[int, int]
    evidence: VisualEvidence | None
    features: FeatureBundle
    objects: Detections | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sight:
    """A model that looks at images, with the tagger of a model that reads tags."""

    model: ManyEyesForConditionalGeneration
    processor: ManyEyesProcessor
    tagger: Tagger | None = None

    @property
    def reads_questions(self) -> bool:
        """Whether the fusion reads the question, so that evidence holds for one question only."""
        return self.processor.reads_questions

    @torch.inference_mode()
    def see(self, picture: Image.Image, tags: Sequence[str] = ()) -> SeenImage:
        """Encode an upright RGB picture; ``tags``: what a model that reads tags is told of it."""
        images = EncodedImages(self.model, self.processor, [picture])
        features = images.features if images.evidence is None else {}
        found = images.perceived(0).objects
        objects = None if found is None else found[0]
        return SeenImage(picture.size, images.evidence, features, objects, tuple(tags))

    def tags(self, picture: Image.Image, given: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the tags of a picture: those given, or what the tagger finds.

        Raises:
            UsageError: the model reads tags, but there are neither tags nor a tagger.
        """
        if self.processor.tags == "none":
            return ()
        if given is None and self.tagger is None:
            raise UsageError(
                "this model reads tags of its images, and has no tagger: give the image's tags"
            )
        if given is not None or self.tagger is None:
            return tuple(given or ())
        (features,) = tag_images(self.tagger, [picture])
        return features.names[0]

    def prompt(self, turns: Sequence[Turn], images: Sequence[SeenImage]) -> str:
        """Return the string of a conversation about images in reading order."""
        found = [image.objects for image in images]
        objects = [] if None in found else [each for each in found if each is not None]
        return self.processor.prompt(
            turns,
            image_sizes=[image.size for image in images],
            perceived=Perceived(tuple(image.tags for image in images), objects or None),
        )

    def shown(self, images: Sequence[SeenImage], questions: Sequence[str]) -> ShownImages | None:
        """What a model is shown of I images, each with the question that is asked about it."""
        if not images:
            return None
        if self.reads_questions:
            return self._shown_for(images, questions)
        distinct = list(dict.fromkeys(images))
        rows = torch.tensor([distinct.index(image) for image in images], device=self.model.device)
        return ShownImages(_together([image.evidence for image in distinct]), rows)

    def _shown_for(self, images: Sequence[SeenImage], questions: Sequence[str]) -> ShownImages:
        text = question_text(self.model, self.processor, questions)
        parts = [
            self.model.fusion(image.features, FusionText(ids[None], mask[None]))
            for image, ids, mask in zip(images, text.ids, text.mask, strict=True)
        ]
        return ShownImages(_together(parts), torch.arange(len(images), device=self.model.device))


def _together(parts: Sequence[VisualEvidence | None]) -> VisualEvidence:
    """Evidence of several images, one row each."""
    there = [part for part in parts if part is not None]
    return VisualEvidence(
        tokens=_rows([part.tokens for part in there]),
        prompts=_rows([part.prompts for part in there]),
    )


def _rows(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None
