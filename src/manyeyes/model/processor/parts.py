"""What does a processor's work; each part is made of the saved fields, and so never differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from manyeyes.bridge import ImageTokenIds
from manyeyes.conversation.fusion_text import TextReader
from manyeyes.errors import DataError
from manyeyes.model.pictures.pixels import Pixels
from manyeyes.model.pictures.tiles import Tiles, need_sizes
from manyeyes.model.text_rows import TextRows
from manyeyes.perception.object_texts import ObjectTexts


class ProcessorParts:
    """The parts of ``ManyEyesProcessor``, whose fields they read."""

    tokenizer: Any
    encoders: list[dict[str, Any]]
    visual_tokens: int
    start_end: bool
    geometry: str
    tiling: Mapping[str, Any] | None
    pad_color: list[int]
    box_style: str
    prompt_style: str
    max_length: int | None
    positions: int | None
    answers_in_sequence: bool
    tags: str
    perception_text: dict[str, Any] | None
    text_reader: TextReader | None
    image_token_ids_by_role: ImageTokenIds

    @property
    def tiles(self) -> Tiles | None:
        """How pictures are seen in tiles; None = they are not."""
        return None if self.tiling is None else Tiles.of_saved(self.tiling, self.visual_tokens)

    @property
    def pixels(self) -> Pixels:
        """Images to pixels: ``processor.pixels(images)``."""
        return Pixels(self.encoders, self.geometry, self.pad_color, self.tiles)

    @property
    def perception(self) -> ObjectTexts:
        """Detected objects: read from features, written for the prompt or the fusion."""
        return ObjectTexts(self.perception_text, self.box_style, self.tokenizer)

    @property
    def text_rows(self) -> TextRows:
        """Turns to token ids and labels."""
        tiles = self.tiles
        return TextRows(
            tokenizer=self.tokenizer,
            image_ids=self.image_token_ids_by_role,
            prompt_style=self.prompt_style,
            visual_tokens=self.visual_tokens,
            layout=None if tiles is None else tiles.layout,
            start_end=self.start_end,
            max_length=self.max_length,
            positions=self.positions,
            answers_in_sequence=self.answers_in_sequence,
            tags=self.tags,
        )

    def image_lengths(self, sizes: Sequence[tuple[int, int]] | None) -> list[int] | None:
        """Return the visual tokens of each image; ``sizes``: (width, height) in reading order.

        None where nobody says the sizes; then all images have one length, or a text that holds any
        is refused, see ``TextRows.runs``.
        """
        if sizes is None:
            return None
        tiles = self.tiles
        return [self.visual_tokens if tiles is None else tiles.length(size) for size in sizes]

    def checked_lengths(self, sizes: Sequence[tuple[int, int]], images: int) -> list[int]:
        """Return the visual tokens of so many images, whose sizes only tiles need.

        Raises:
            UsageError: pictures are seen in tiles, and there are no sizes.
            DataError: sizes of another number of images.
        """
        if self.tiling is None:
            return [self.visual_tokens] * images
        if images and not sizes:
            raise need_sizes()
        if len(sizes) != images:
            raise DataError(f"sizes of {len(sizes)} images were given, and there are {images}")
        return self.image_lengths(sizes) or []

    @property
    def reads_questions(self) -> bool:
        """Whether the fusion reads the question beside the images."""
        return self.text_reader is not None and self.text_reader.kind == "question"

    def question_inputs(
        self, questions: Sequence[str], images: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Return ``question_ids`` and ``question_mask`` ``[I, T]``, empty where nothing reads them.

        ``images``: how many each question is about; None = one.
        """
        if self.text_reader is None or not self.reads_questions:
            return {}
        return self.text_reader.question_inputs(questions, images)
