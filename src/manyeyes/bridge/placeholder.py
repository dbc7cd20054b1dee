"""Image placeholder tokens: each image's visual tokens replace its run of placeholders.

Where the fusion gives tokens for layers too, the language model adds them at the same places.

Shapes: B samples, T positions, I images, K visual tokens per image, S layers that add tokens, H
language-model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from manyeyes.bridge.contract import Bridge, BridgeOptions, Given, ImageTokenIds
from manyeyes.errors import PartError, PlaceholderError, RecipeError
from manyeyes.layers.adapters.stacked_tokens import StackedTokens, check_stackable, stack_on
from manyeyes.layers.grid_positions import visual_positions
from manyeyes.layers.neighbours import NeighbourMix
from manyeyes.options import check_choice, check_counts
from manyeyes.records import VisualEvidence

POSITIONS = ("learned", "none")


@dataclass(frozen=True, kw_only=True)
class PlaceholderOptions(BridgeOptions):
    """The options of ``BridgeOptions``, and what stands around and in the visual tokens."""

    start_end: bool = True
    """One learned vector before and one after every image (COMM §1.9)."""
    positions: str = "none"
    """``learned`` adds a learned vector to each visual token, which tells the language model where
    it stands in the image (ours). The vectors begin as waves where the tokens are a grid, and as
    zeros elsewhere. ``none`` leaves that to the features, as the papers do."""
    neighbours: int = 1
    """Each token of a grid sees a square of tokens around it before it is read. This is the
    square's side, an odd number (ours). 1: itself alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("bridge", "positions", self.positions, POSITIONS)
        check_counts("bridge", neighbours=self.neighbours)
        if self.neighbours % 2 == 0:
            raise RecipeError(f"bridge.neighbours: expected an odd number, got {self.neighbours}")


class PlaceholderBridge(Bridge):
    """Splice visual tokens into the text embeddings.

    The two marker vectors belong to the bridge, not to the language model's vocabulary, so that a
    frozen model stays untouched. They start at the mean of its embedding rows (Shikra's rule). So
    does ``row_end``, the vector after each row of a picture in tiles.
    """

    options_class = PlaceholderOptions

    def __init__(
        self, options: PlaceholderOptions, language: PreTrainedConfig, given: Given
    ) -> None:
        super().__init__(options, language, given)
        width = int(language.hidden_size)
        if options.start_end:
            self.image_start = nn.Parameter(torch.zeros(width))
            self.image_end = nn.Parameter(torch.zeros(width))
        self.start_end = options.start_end
        self.given = given
        self.positions: nn.Parameter | None = None
        if options.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(given.tokens, width))
        self.mix: NeighbourMix | None = None
        if options.neighbours > 1 and given.grid is not None:
            self.mix = NeighbourMix(width, given.grid, options.neighbours)
        self.row_end: nn.Parameter | None = None
        if given.tiles is not None and given.tiles.row_ends:
            self.row_end = nn.Parameter(torch.zeros(width))

    @classmethod
    def check(cls, options: PlaceholderOptions, language: PreTrainedConfig, given: Given) -> None:
        super().check(options, language, given)
        if given.prompts:
            raise PartError(
                "bridge 'placeholder' takes tokens, but the fusion gives prompts: choose bridge "
                "'adapter_prompts'"
            )
        if given.layers:
            check_stackable(language, given.layers)
        if options.neighbours > 1 and given.grid is None:
            raise PartError(
                f"bridge.neighbours: {options.neighbours} needs visual tokens that are the cells "
                "of a grid, and this fusion gives none; leave it at 1"
            )

    @classmethod
    def marks_images(cls, options: PlaceholderOptions) -> bool:
        return options.start_end

    def attach(self, model: Any) -> None:
        super().attach(model)
        if self.given.layers:
            stack_on(model)

    @torch.no_grad()
    def start_from(self, embeddings_VH: Tensor) -> None:
        """Set markers and separator to the mean of the language model's embedding rows.

        Positions on a grid become waves of the rows' size.
        """
        if self.start_end:
            mean = embeddings_VH.float().mean(dim=0)
            self.image_start.copy_(mean)
            self.image_end.copy_(mean)
        if self.row_end is not None:
            self.row_end.copy_(embeddings_VH.float().mean(dim=0))
        if self.positions is not None and self.given.grid is not None:
            self.positions.copy_(visual_positions(embeddings_VH, *self.given.grid))

    def mixed(self, tokens_IKH: Tensor) -> Tensor:
        """Return the visual tokens after they have seen those around them."""
        return tokens_IKH if self.mix is None else self.mix(tokens_IKH)

    def place(self, tokens_IKH: Tensor) -> Tensor:
        """Return the visual tokens as they stand in the text: ``mixed`` and with positions."""
        tokens_IKH = self.mixed(tokens_IKH)
        if self.positions is not None:
            tokens_IKH = tokens_IKH + self.positions.to(tokens_IKH.dtype)
        return tokens_IKH

    def image_rows(self, tokens_IKH: Tensor) -> Tensor:
        """Return all that stands in the text for each image ``[I, R, H]``: tokens and markers."""
        rows = self.place(tokens_IKH)
        if not self.start_end:
            return rows
        shape = (len(rows), 1, rows.shape[-1])
        start, end = (x.to(rows.dtype).expand(shape) for x in (self.image_start, self.image_end))
        return torch.cat([start, rows, end], dim=1)

    def forward(
        self,
        embeddings_BTH: Tensor,
        input_ids_BT: Tensor,
        tokens_IKH: Tensor,
        image_counts: Sequence[int],
        ids: ImageTokenIds,
        grids_I2: Tensor | None = None,
    ) -> Tensor:
        """Return the embeddings with every placeholder filled, image by image in reading order.

        Raises:
            PlaceholderError: a sample's placeholders and its images disagree; names both numbers.
        """
        at_image = input_ids_BT == ids.image
        found = at_image.sum(dim=1).tolist()
        if grids_I2 is None:
            match_counts(found, image_counts, tokens_IKH.shape[1])
            match_images(image_counts, len(tokens_IKH))
            tokens = self.place(tokens_IKH)
        else:
            tokens = self._of_tiles(tokens_IKH, grids_I2, found, image_counts)
        tokens = tokens.to(embeddings_BTH.dtype)
        filled = embeddings_BTH.masked_scatter(at_image[..., None], tokens)
        if self.start_end:
            start, end = (
                (input_ids_BT == ids.start)[..., None],
                (input_ids_BT == ids.end)[..., None],
            )
            filled = torch.where(start, self.image_start.to(filled.dtype), filled)
            filled = torch.where(end, self.image_end.to(filled.dtype), filled)
        return filled

    def stacked(
        self,
        input_ids_BT: Tensor,
        evidence: VisualEvidence | None,
        image_index: Tensor | None,
        ids: ImageTokenIds,
    ) -> StackedTokens | None:
        if evidence is None or evidence.layers is None:
            return None
        layers = evidence.layers if image_index is None else evidence.layers[image_index]
        return StackedTokens(layers, input_ids_BT == ids.image)

    def _of_tiles(
        self,
        tokens_JKH: Tensor,
        grids_I2: Tensor,
        found: Sequence[int],
        image_counts: Sequence[int],
    ) -> Tensor:
        """All tokens of all images, one after the other; a tile is placed as an image is."""
        assert self.given.tiles is not None, "evidence of tiles comes from a model with tiling"
        match_images(image_counts, len(grids_I2))
        match_lengths(found, image_counts, self.given.tiles.lengths(grids_I2))
        joined = torch.cat(self.given.tiles.join(self.place(tokens_JKH), grids_I2, self.row_end))
        if self.row_end is None:
            return joined
        # a batch of single tiles has no separator, and all batches have the same gradients
        return joined + (self.row_end.sum() * 0.0).to(joined.dtype)


def match_counts(placeholders: Sequence[int], images: Sequence[int], per_image: int) -> None:
    """Compare placeholders with images sample by sample: opposite errors must not cancel.

    Raises:
        PlaceholderError: naming the sample and both numbers.
    """
    for sample, (found, count) in enumerate(zip(placeholders, images, strict=True)):
        if found != count * per_image:
            raise PlaceholderError(
                f"sample {sample}: {found} image tokens in the text, but {count} image(s) x "
                f"{per_image} visual tokens = {count * per_image}"
            )


def match_images(images: Sequence[int], given: int) -> None:
    """Raise ``PlaceholderError`` unless the samples have as many images as there are features."""
    if sum(images) != given:
        raise PlaceholderError(
            f"the batch refers to {sum(images)} images, but features of {given} were given"
        )


def match_lengths(
    placeholders: Sequence[int], images: Sequence[int], lengths: Sequence[int]
) -> None:
    """Compare placeholders with the ``lengths`` of the images of each sample, in reading order.

    Raises:
        PlaceholderError: naming the sample and both numbers.
    """
    first = 0
    for sample, (found, count) in enumerate(zip(placeholders, images, strict=True)):
        own = lengths[first : first + count]
        first += count
        if found != sum(own):
            raise PlaceholderError(
                f"sample {sample}: {found} image tokens in the text, but its {count} image(s) in "
                f"tiles have {' + '.join(map(str, own)) or 0}"
            )


def images_of_samples(placeholders: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Return how many of the images, in reading order, fill the placeholders of each sample."""
    counts, first = [], 0
    for found in placeholders:
        last, room = first, found
        while last < len(lengths) and room >= lengths[last]:
            room -= lengths[last]
            last += 1
        counts.append(last - first)
        first = last
    return counts
