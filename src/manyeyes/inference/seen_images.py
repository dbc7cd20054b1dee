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
from manyeyes.inference.encoded_images import EncodedImages, question_text, take_images
from manyeyes.inference.ranking import ShownImages
from manyeyes.inference.tagging import BATCH, tag_images
from manyeyes.layers.tiling import choose_tokens
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
    def reads_tags(self) -> bool:
        """Whether prompts say which tags an image has."""
        return self.processor.tags != "none"

    @property
    def reads_questions(self) -> bool:
        """Whether the fusion reads the question, so that evidence holds for one question only."""
        return self.processor.reads_questions

    @torch.inference_mode()
    def see(
        self, pictures: Sequence[Image.Image], tags: Sequence[Sequence[str]] | None = None
    ) -> list[SeenImage]:
        """Encode upright RGB pictures, some at a time.

        ``tags``: what a model that reads tags is told of each; None = what the tagger finds.

        Raises:
            UsageError: the model reads tags, but there are neither tags nor a tagger.
        """
        told = self.tags(pictures) if tags is None else tags
        found: list[SeenImage] = []
        for start in range(0, len(pictures), BATCH):
            part = slice(start, start + BATCH)
            found += self._see(pictures[part], told[part])
        return found

    def _see(
        self, pictures: Sequence[Image.Image], tags: Sequence[Sequence[str]]
    ) -> list[SeenImage]:
        images = EncodedImages(self.model, self.processor, pictures)
        seen = []
        for row, (picture, names) in enumerate(zip(pictures, tags, strict=True)):
            evidence = None if images.evidence is None else self._row(images.evidence, row)
            one = torch.tensor([row], device=self.model.device)
            features = take_images(images.features, one) if evidence is None else {}
            found = images.perceived(row).objects
            objects = None if found is None else found[0]
            seen.append(SeenImage(picture.size, evidence, features, objects, tuple(names)))
        return seen

    def _row(self, evidence: VisualEvidence, row: int) -> VisualEvidence:
        """Evidence of one image; a slice would keep that of the others alive."""
        tokens, grids = evidence.tokens, evidence.grids
        tiles = self.model.tiles
        if tokens is not None:
            layout = None if tiles is None else tiles.layout
            tokens, grids = choose_tokens(tokens, grids, [row], layout)
        prompts, layers = (
            None if part is None else part[[row]] for part in (evidence.prompts, evidence.layers)
        )
        return VisualEvidence(tokens, prompts, layers, grids)

    def tags(self, pictures: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """Return the tags that the tagger finds in pictures; none for a model that reads none.

        Raises:
            UsageError: the model reads tags, but has no tagger.
        """
        if not (self.reads_tags and pictures):
            return [()] * len(pictures)
        if self.tagger is None:
            raise UsageError(
                "this model reads tags of its images, and has no tagger: give the image's tags"
            )
        return [names for found in tag_images(self.tagger, pictures) for names in found.names]

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
    """Evidence of several images, one after the other."""
    there = [part for part in parts if part is not None]
    return VisualEvidence(
        tokens=_rows([part.tokens for part in there]),
        prompts=_rows([part.prompts for part in there]),
        layers=_rows([part.layers for part in there]),
        grids=_rows([part.grids for part in there]),
    )


def _rows(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None
