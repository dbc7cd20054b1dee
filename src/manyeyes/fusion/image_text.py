"""What the image-text objectives read of a fusion with queries, and writing captions with it.

    itc              similarities of this process's pairs with all pairs
    itm              matching logits of own pairs and of two hard negatives each
    itg              vocabulary logits at the words of the captions
    reconstruction   M', where the fusion has it

Shapes: B pairs of this process, N of all processes, Q queries, T text tokens, S words of all
captions, D width, E contrast width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import torch
from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.fusion.contract import grid_features
from manyeyes.fusion.queries import QueryFusion, States, check_pairs
from manyeyes.layers.bundles import choose_images, gather_images
from manyeyes.layers.negatives import draw_negatives, query_similarity
from manyeyes.layers.ranks import gather_padded, gather_rows, rank_and_world, shared_generator
from manyeyes.records import IGNORE, LOCAL_STATES, FeatureBundle, FusionText

CONTRAST = ("image_to_text", "text_to_image", "pair_index")
MATCH = ("match_logits", "match_labels")
CAPTION = ("caption_logits", "caption_targets")


class ImageTextFusion(QueryFusion):
    """A fusion with queries that can be trained without any language model (``text: caption``)."""

    def intermediates(
        self, bundle: FeatureBundle, captions: FusionText | None, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """Return those of ``wanted`` that a pass over image-text pairs gives.

        Raises:
            PartError: the text side or the captions are missing.
            DataError: texts and images disagree in number; a single pair where negatives are drawn.
        """
        if not self._serves(wanted):
            return {}
        if self.options.text != "caption" or captions is None:
            raise PartError(
                "image-text objectives need `fusion.text: caption` and captions in the batch "
                "(caption_ids, caption_mask, which the processor then makes)"
            )
        check_pairs(len(captions.ids), len(grid_features(bundle, self.image_encoder).levels[0]))
        pairs = _Pairs(self, bundle, captions)
        found = dict(pairs.image.trace)
        if set(CONTRAST) & set(wanted):
            found.update(zip(CONTRAST, pairs.contrast, strict=True))
        if set(MATCH) & set(wanted):
            found.update(pairs.match())
        if set(CAPTION) & set(wanted):
            found.update(zip(CAPTION, self.caption_words(bundle, captions), strict=True))
        return found

    @property
    def reconstructs_match(self) -> bool:
        """Whether M' of the matching pass is reconstructed too."""
        return False

    def _serves(self, wanted: Collection[str]) -> bool:
        return bool({*CONTRAST, *MATCH, *CAPTION} & set(wanted))

    def caption_words(self, bundle: FeatureBundle, captions: FusionText) -> tuple[Tensor, Tensor]:
        """Return logits ``[S, V]`` that predict the captions' words and these words ``[S]``.

        The first token is replaced by ``[DEC]``; position t predicts token t + 1 (BLIP-2 §3.1).
        """
        written = captions.ids.clone()
        written[:, 0] = self.vocabulary - 1
        states = self.caption_states(bundle, FusionText(written, captions.mask))
        targets = captions.ids.masked_fill(captions.mask == 0, IGNORE)[:, 1:]
        at = targets != IGNORE
        return self.heads.words(states[:, :-1][at], self.text.word_embeddings.weight), targets[at]

    def caption_states(self, bundle: FeatureBundle, written: FusionText) -> Tensor:
        """Return text states ``[B, T, D]`` of text that is being written about the images."""
        return self.run(bundle, self.refinement(bundle), written, "causal")[1]

    def contrast_images(self, states: States) -> Tensor:
        """Return unit vectors ``[I, Q, E]`` of a pass's queries."""
        return self.heads.contrast_image(states.queries)

    def contrast_texts(self, text: FusionText) -> Tensor:
        """Return unit vectors ``[B, E]`` of texts, from their first state."""
        return self.heads.contrast_text(self.read_text(text)[:, 0])

    def match(self, bundle: FeatureBundle, text: FusionText) -> Tensor:
        """Return matching logits ``[I, 2]`` (other, same) of images with their texts."""
        return self.heads.match(self.read(bundle, text, "bidirectional").queries)

    @torch.no_grad()
    def write(self, bundle: FeatureBundle, *, last: int, length: int | None = None) -> list[Tensor]:
        """Write a caption of every image, greedily, from ``[DEC]`` on.

        Returns one row of ids per image, without ``[DEC]`` and without ``last``, which ends it.
        ``length``: most tokens; None = the longest text.
        """
        image = self.image_tokens(bundle)
        ids = torch.full((len(image), 1), self.vocabulary - 1, device=image.device)
        ended = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        for _ in range((length or self.options.longest_text) - 1):
            states = self.caption_states(bundle, FusionText(ids, torch.ones_like(ids)))
            logits = self.heads.words(states[:, -1], self.text.word_embeddings.weight)
            following = logits[:, :-1].argmax(dim=-1).masked_fill(ended, last)
            ended |= following == last
            ids = torch.cat([ids, following[:, None]], dim=1)
            if bool(ended.all()):
                break
        return [row[row != last] for row in ids[:, 1:]]


class _Pairs:
    """The passes over one batch of pairs, each run once."""

    def __init__(self, fusion: ImageTextFusion, bundle: FeatureBundle, text: FusionText) -> None:
        self.fusion, self.bundle, self.text = fusion, bundle, text
        self.count = len(text.ids)
        self.first = rank_and_world()[0] * self.count

    @cached_property
    def image(self) -> States:
        """The queries alone; its M' is the one that is reconstructed."""
        return self.fusion.read(self.bundle)

    @cached_property
    def contrast(self) -> tuple[Tensor, Tensor, Tensor]:
        """Similarities over temperature, image to text and back ``[B, N]``; own column ``[B]``."""
        fusion = self.fusion
        images, texts = fusion.contrast_images(self.image), fusion.contrast_texts(self.text)
        to_text = query_similarity(images, gather_rows(texts))
        to_image = query_similarity(gather_rows(images), texts).T
        own = torch.arange(self.first, self.first + self.count, device=texts.device)
        temperature = fusion.heads.temperature.float()
        return to_text / temperature, to_image / temperature, own

    def match(self) -> dict[str, Tensor]:
        """Logits ``[3B, 2]`` and labels ``[3B]``: own pairs, other images, other texts.

        Everything of an image, masked features included, goes with it (BLIP-2 §3.1; x-former.md
        §3.2).
        """
        to_text, to_image, own = self.contrast
        generator = shared_generator(own.device)
        other_images = draw_negatives(to_image, self.first, generator)
        other_texts = draw_negatives(to_text, self.first, generator)
        bundle = choose_images(gather_images(self.bundle), torch.cat([own, other_images, own]))
        texts = torch.cat([own, own, other_texts])
        ids, mask = gather_padded(self.text.ids, 0), gather_padded(self.text.mask, 0)
        states = self.fusion.read(bundle, FusionText(ids[texts], mask[texts]))
        labels = (torch.arange(3 * self.count, device=own.device) < self.count).long()
        found = dict(zip(MATCH, (self.fusion.heads.match(states.queries), labels), strict=True))
        if self.fusion.reconstructs_match:
            own_pairs = states.trace[LOCAL_STATES][: self.count]
            found[LOCAL_STATES] = torch.cat([self.image.trace[LOCAL_STATES], own_pairs])
        return found
