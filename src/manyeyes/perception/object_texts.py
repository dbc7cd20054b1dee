"""Objects between what encoders see and what the prompt or the fusion reads of it.

Shapes: I images, O objects, T positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.conversation.rendering import add_contexts
from manyeyes.perception.detections import detector_of, read_objects
from manyeyes.perception.text import ObjectWriter, object_writer, pairs
from manyeyes.records import Detections, FeatureBundle, ObjectFeatures, Turn


@dataclass(frozen=True)
class ObjectTexts:
    """What a processor does with detected objects.

    ``options``: a recipe's ``perception_text`` block; None = objects are not written.
    """

    options: Mapping[str, Any] | None
    box_style: str
    tokenizer: PreTrainedTokenizerBase

    @property
    def writer(self) -> ObjectWriter | None:
        """What writes objects by the recipe's options; None = they are not written."""
        return object_writer(self.options, self.box_style, self.tokenizer)

    def add_to(
        self,
        turns: Sequence[Turn],
        objects: Sequence[Detections] | None,
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Turn]:
        """Give turns the perception text of their images as context, where prompts hold it.

        Raises:
            DataError: objects of another number of images.
        """
        writer = self.writer
        if writer is None or objects is None or writer.options.form != "prompt":
            return list(turns)
        return add_contexts(turns, writer.texts(objects, image_sizes))

    def fusion_inputs(
        self, objects: Sequence[Detections] | None, image_sizes: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """Return ``perception_ids`` and ``perception_mask`` ``[I, O, T]``, each object's words.

        Empty unless the fusion reads them; without objects O is 0.
        """
        writer = self.writer
        if writer is None or writer.options.form != "adapter":
            return {}
        found: list[list[str]] = [[] for _ in image_sizes]
        if objects is not None:
            found = [writer.items(image, size) for image, size in pairs(objects, image_sizes)]
        rows = []
        for texts in found:
            every = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
            rows.append(_stacked([torch.tensor(ids) for ids in every]))
        return pad_objects(rows)

    def read(
        self,
        bundle: FeatureBundle,
        image_sizes: Sequence[tuple[int, int]],
        *,
        name: str | None = None,
        min_score: float = 0.0,
    ) -> list[Detections] | None:
        """Return what a detector among the features found in each image, in original pixels.

        ``name``: which detector; None = the one whose objects the recipe writes. ``min_score``:
        objects below it are left out. None is returned where the model has no detector.

        Raises:
            PartError: several detectors, and nothing says which.
        """
        found = self.detector_in(bundle, name)
        if found is None:
            return None
        features = cast(ObjectFeatures, bundle[found])
        return read_objects(features, image_sizes, min_score=min_score)

    def detector_in(self, bundle: FeatureBundle, name: str | None = None) -> str | None:
        """Return the name of the detector among the features, see ``read``."""
        writer = self.writer
        return detector_of(bundle, name if name or writer is None else writer.options.detector)


def pad_objects(ids: Sequence[Tensor]) -> dict[str, Tensor]:
    """Put images' ids ``[O, T]``, -1 where there is none, into ``perception_ids`` and ``_mask``."""
    number = max((len(image) for image in ids), default=0)
    length = max((image.shape[1] for image in ids), default=0)
    every = torch.full((len(ids), number, length), -1)
    for place, image in enumerate(ids):
        every[place, : image.shape[0], : image.shape[1]] = image
    return {"perception_ids": every.clamp(min=0), "perception_mask": (every >= 0).long()}


def join_objects(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the ``perception_ids`` of several samples into one batch; empty where rows have none."""
    if not rows or "perception_ids" not in rows[0]:
        return {}
    parts = [
        ids.masked_fill(mask == 0, -1)
        for row in rows
        for ids, mask in zip(row["perception_ids"], row["perception_mask"], strict=True)
    ]
    return pad_objects(parts)


def _stacked(texts: Sequence[Tensor]) -> Tensor:
    if not texts:
        return torch.zeros(0, 0, dtype=torch.long)
    return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=-1.0)
