"""The processor as vLLM's Transformers backend asks for it: one placeholder for each image's rows.

Shapes: I images, R rows per image in the text, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from transformers import BatchFeature

from manyeyes.conversation.chat_parts import flatten_images
from manyeyes.conversation.tags import without_sentence
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import IMAGE_PLACEHOLDER


@dataclass(frozen=True)
class Pictures:
    """What vLLM reads of an image processor: ``size``, the largest that an encoder sees."""

    size: dict[str, int]


class PlaceholderProcessor:
    """Texts and images to ids and pixels; the pixels of the first encoder are ``pixel_values``."""

    image_token = IMAGE_PLACEHOLDER

    def __init__(self, processor: ManyEyesProcessor) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.image_token_id: int = processor.image_token_ids_by_role.image
        self.rows = processor.visual_tokens + (2 if processor.start_end else 0)
        sizes = [entry["size"] for entry in processor.encoders]
        height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
        self.image_processor = Pictures({"height": height, "width": width})

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[Any] | None = None, **_: Any
    ) -> dict[str, list[int]]:
        """Return how many tokens and rows of pixels each image takes, whatever its size."""
        images = len(image_sizes or ())
        return {"num_image_tokens": [self.rows] * images, "num_image_patches": [1] * images}

    def __call__(
        self,
        text: str | Sequence[str] = "",
        images: Iterable[Image.Image] | None = None,
        questions: Sequence[str] | None = None,
        return_text_replacement_offsets: bool = False,
        **_: Any,
    ) -> BatchFeature:
        """Return ``input_ids`` of the text as it is, and the pixels of the images.

        ``questions``: of all images, where the fusion reads one; None = the text.
        ``return_text_replacement_offsets``: also what stands for each image in the text.
        """
        pictures = flatten_images(images)
        (words,) = [text] if isinstance(text, str) else text
        inputs = {"input_ids": [self.tokenizer(words)["input_ids"]], **self._pixels(pictures)}
        if pictures:
            asked = list(questions or [words]) * len(pictures)
            inputs |= self.processor.question_inputs(asked[: len(pictures)])
        if return_text_replacement_offsets:
            shown = {"type": "image", "replacement": self.image_token * self.rows}
            inputs["text_replacement_offsets"] = [[shown] * len(pictures)]
        return BatchFeature(inputs)

    def question(self, ids: Sequence[int]) -> str:
        """Return the text of a prompt's ids, for a fusion that reads it as the question."""
        roles = self.processor.image_token_ids_by_role
        kept = [i for i in ids if i in roles or i not in self.tokenizer.all_special_ids]
        return without_sentence(self.tokenizer.decode(kept))

    def _pixels(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """Return the pixels of every encoder that the fusion reads, none without images."""
        if not images:
            return {}
        pixels = self.processor.pixels
        first, *others = pixels(images, pixels.fused).items()
        return {"pixel_values": first[1], **dict(others)}
