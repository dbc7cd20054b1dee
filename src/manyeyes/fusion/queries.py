"""Fusions with learned queries that read an image: BLIP-2's Q-Former and what builds on it.

    passes         which positions see which                         used by
    image          queries alone                                     evidence, ITC, reconstruction
    text           text alone                                        ITC
    question       queries and text see each other                   evidence (InstructBLIP), ITM
    caption        text sees the queries and its own past            ITG, writing

A subclass changes the queries of a pass (X-Former) through its ``Refinement``.
Shapes: I images, N image tokens of width W, Q queries and T text tokens of width D, K = Q visual
tokens, H language-model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from manyeyes.conversation.fusion_text import ReaderKind, ReaderSpec, fusion_tokenizer
from manyeyes.errors import DataError, PartError
from manyeyes.fusion.contract import (
    IMAGE_POSITIONS,
    Fusion,
    FusionPlan,
    Shapes,
    grid_features,
    tokens_at,
)
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.attention.qformer import (
    MaskKind,
    TextEmbeddings,
    TextHeads,
    attention_mask,
    image_attentions,
    run_layers,
)
from manyeyes.layers.grid_positions import add_waves
from manyeyes.layers.mlp import PROJECTORS, build_projector
from manyeyes.layers.normal_linear import STD
from manyeyes.options import check_choice, check_counts, check_heads
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence

TEXTS = ("none", "question", "caption")


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """Sizes of the Q-Former; the defaults are BLIP-2's."""

    queries: int = 32
    """Number of queries, which is the number of visual tokens."""
    width: int = 768
    """Of the transformer."""
    layers: int = 12
    """Of the transformer."""
    heads: int = 12
    """Of its attention."""
    ffn: int = 3072
    """Inner width of its feed-forward layers."""
    dropout: float = 0.1
    """In training."""
    cross_every: int = 2
    """Every so many layers one reads the image."""
    image_encoder: str | None = None
    """The encoder whose deepest level the queries read. By default the first."""
    ln_vision: bool = True
    """A LayerNorm on what the queries read, trained with the fusion."""
    ln_vision_eps: float = 1e-5
    """Its epsilon: 1e-5 in LAVIS, 1e-6 in ``transformers``."""
    image_positions: str = "none"
    """Whether the place of each patch is added to what the queries read: ``waves`` or ``none``
    (ours)."""
    text: Literal["none"] | ReaderKind = "none"
    """The text side: ``none``; ``question``, read together with the image (InstructBLIP);
    ``caption``, with the heads of the image-text objectives (first stage)."""
    tokenizer: str = "bert-base-uncased"
    """Of the text side."""
    vocab_size: int | None = 30523
    """Of the text side. nothing: the tokenizer's, with [DEC]."""
    max_positions: int = 512
    """Of the text side."""
    text_length: int | None = None
    """Longest text in tokens. By default 32 for captions, 128 for questions."""
    contrast_width: int = 256
    """Width in which image and text are compared."""
    projector: str = "linear"
    """To the language model, see ``PROJECTORS``."""

    def __post_init__(self) -> None:
        check_choice("fusion", "text", self.text, TEXTS)
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", queries=self.queries, layers=self.layers, ffn=self.ffn)
        check_heads("fusion", self.width, self.heads)
        check_choice("fusion", "image_positions", self.image_positions, IMAGE_POSITIONS)
        if self.longest_text > self.max_positions:
            raise PartError(
                f"fusion.text_length {self.longest_text} is more than max_positions "
                f"{self.max_positions}"
            )

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text, first and last included."""
        return self.text_length or (128 if self.text == "question" else 32)


@dataclass(frozen=True)
class States:
    """What one pass gives: ``queries`` ``[I, Q, D]`` and named intermediates."""

    queries: Tensor
    trace: Mapping[str, Tensor] = field(default_factory=dict)


class Refinement:
    """What changes the queries in one pass. This one changes nothing."""

    interleaved = False
    """Whether ``between`` is to be called after every layer."""

    def between(self, layer: int, queries_IQD: Tensor) -> Tensor:
        """Return the queries for the layer after ``layer``."""
        return queries_IQD

    def finish(self, queries_IQD: Tensor) -> States:
        """Return the queries after the last layer."""
        return States(queries_IQD)


class QueryFusion(Fusion):
    """Queries, Q-Former, text side and projector; every pass of the image-text objectives."""

    options_class: ClassVar[type[QueryOptions]]
    options: QueryOptions
    partial: ClassVar[tuple[str, ...]] = (
        "text.*",
        "heads.*",
        "qformer.*[0-9].intermediate.*",
        "qformer.*[0-9].output.*",
    )

    def __init__(self, options: QueryOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.image_encoder = image_encoder(options, shapes)
        image_width = self.image_width(options, shapes)
        self.image_grid = shapes[self.image_encoder].grid
        self.query_tokens = nn.Parameter(torch.empty(1, options.queries, options.width))
        nn.init.normal_(self.query_tokens, std=STD)
        self.ln_vision = (
            nn.LayerNorm(image_width, eps=options.ln_vision_eps) if options.ln_vision else None
        )
        self.qformer: Any = Blip2QFormerModel(qformer_config(options, image_width))
        self.projector = build_projector(options.projector, options.width, out_width)
        if options.text != "none":
            vocabulary = self.vocabulary
            self.text = TextEmbeddings(vocabulary, options.max_positions, options.width)
            if options.text == "caption":
                self.heads = TextHeads(vocabulary, options.width, options.contrast_width)

    @classmethod
    def check(cls, options: Any, shapes: Shapes) -> None:
        named = options.image_encoder
        if named is not None and named not in shapes:
            raise PartError(f"fusion.image_encoder {named!r} is no encoder of {', '.join(shapes)}")

    @classmethod
    def planned(cls, options: Any, shapes: Shapes) -> FusionPlan:
        return FusionPlan(tokens=options.queries, text=cls.reader(options))

    @classmethod
    def reader(cls, options: QueryOptions) -> ReaderSpec | None:
        """Return which text the processor must make; None = none is read."""
        if options.text not in ("question", "caption"):
            return None
        return ReaderSpec(
            options.tokenizer, options.text, options.longest_text, options.vocab_size or 0
        )

    @classmethod
    def resolve(cls, values: dict[str, Any]) -> None:
        named = values.get("tokenizer", cls.options_class.tokenizer)
        text = values.get("text", cls.options_class.text)
        if text != "none" and values.get("vocab_size", 0) is None:
            values["vocab_size"] = len(fusion_tokenizer(named))

    @classmethod
    def image_width(cls, options: QueryOptions, shapes: Shapes) -> int:
        """Width of the image tokens that the Q-Former reads."""
        return shapes[image_encoder(options, shapes)].width

    @property
    def vocabulary(self) -> int:
        """Entries of the text side's vocabulary; ``[DEC]`` is the last."""
        size = self.options.vocab_size
        if size is None:
            raise PartError("fusion.vocab_size is not known; ManyEyesConfig.resolve() reads it")
        return size

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. read the image, and the question if this fusion does   2. project the queries."""
        reads = self.options.text == "question"
        if reads and question is None:
            raise PartError(
                "this fusion reads the question: pass question_ids and question_mask, which the "
                "processor makes"
            )
        states = self.read(bundle, question if reads else None)
        return VisualEvidence(tokens=self.projector(states.queries), trace=states.trace)

    # ---- one pass -----------------------------------------------------------------------------

    def image_tokens(self, bundle: FeatureBundle) -> Tensor:
        """Return what the queries read, ``[I, N, W]``: class token and patches, normalised."""
        features = grid_features(bundle, self.image_encoder)
        tokens_INW = tokens_at(features, max(features.level_indices))
        return self.placed(tokens_INW if self.ln_vision is None else self.ln_vision(tokens_INW))

    def placed(self, tokens_INW: Tensor) -> Tensor:
        """Return image tokens with their places, where the options ask for them."""
        if self.options.image_positions == "none":
            return tokens_INW
        return add_waves(tokens_INW, self.image_grid)

    def refinement(self, bundle: FeatureBundle) -> Refinement:
        """Return what changes the queries in one pass; here: nothing."""
        return Refinement()

    def run(
        self,
        bundle: FeatureBundle,
        refinement: Refinement,
        text: FusionText | None = None,
        mask: MaskKind = "bidirectional",
    ) -> tuple[Tensor, Tensor]:
        """Run queries, and text if given, over the images: ``[I, Q, D]`` and ``[I, T, D]``.

        Raises:
            DataError: texts and images disagree in number.
        """
        image_INW, count = self.image_tokens(bundle), self.options.queries
        states = self.query_tokens.to(image_INW.dtype).expand(len(image_INW), -1, -1)
        seen = None
        if text is not None:
            check_pairs(len(text.ids), len(image_INW))
            states = torch.cat([states, self.text(text.ids).to(image_INW.dtype)], dim=1)
            seen = attention_mask(mask, count, text.mask)
        between = refinement.between if refinement.interleaved else None
        states = run_layers(self.qformer, states, count, seen, image_INW, between)  # [I, Q + T, D]
        return states[:, :count], states[:, count:]

    def read(
        self,
        bundle: FeatureBundle,
        text: FusionText | None = None,
        mask: MaskKind = "bidirectional",
    ) -> States:
        """Return the queries after one whole pass and its named extras."""
        refinement = self.refinement(bundle)
        return refinement.finish(self.run(bundle, refinement, text, mask)[0])

    def read_text(self, text: FusionText) -> Tensor:
        """Return text states ``[B, T, D]`` without any image."""
        seen = attention_mask("unimodal", 0, text.mask)
        return run_layers(self.qformer, self.text(text.ids), 0, seen, None)

    def attentions(self) -> tuple[AttentionSite, ...]:
        return image_attentions(self.qformer, self.read_encoders)

    @property
    def read_encoders(self) -> tuple[str, ...]:
        """Names of the encoders whose tokens ``image_tokens`` holds, in its order."""
        return (self.image_encoder,)


def image_encoder(options: QueryOptions, shapes: Mapping[str, Any]) -> str:
    """Return the name of the encoder that the queries read."""
    return options.image_encoder or next(iter(shapes))


def check_pairs(texts: int, images: int) -> None:
    """Raise ``DataError`` unless there is one text per image."""
    if texts != images:
        raise DataError(
            f"{texts} texts for {images} images: a fusion with queries reads one text per image"
        )


def qformer_config(options: QueryOptions, image_width: int) -> Blip2QFormerConfig:
    """Return the configuration of ``transformers`` for these options."""
    return Blip2QFormerConfig(
        vocab_size=options.vocab_size or 1,
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=options.ffn,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        max_position_embeddings=options.max_positions,
        cross_attention_frequency=options.cross_every,
        encoder_hidden_size=image_width,
        use_qformer_text_input=options.text != "none",
    )
