"""BLIP-2's Q-Former: its three attention masks, its layers under them, and its text side.

The layers are those of ``transformers`` (``Blip2QFormerModel``), which lack what training needs:
masks between queries and text, a language-modelling head, and queries that differ from each other
at the start. Shapes: B samples, Q queries, T text tokens, L = Q + T, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyeyes.errors import DataError
from manyeyes.layers.attention.cross import EPS
from manyeyes.layers.attention.maps import AttentionSite, attention_weights
from manyeyes.layers.normal_linear import STD, NormalLinear

START_TEMPERATURE = 0.07
"""Divides the similarities; learnt, and not clamped (LAVIS, first stage)."""

MaskKind = Literal["unimodal", "bidirectional", "causal"]
"""unimodal: queries and text do not see each other (ITC). bidirectional: all see all (ITM, and the
instruction of InstructBLIP). causal: text sees the queries and its own past (ITG)."""

Between = Callable[[int, Tensor], Tensor]
"""(layer, query states ``[B, Q, D]``) → query states for the next layer."""


def attention_mask(kind: MaskKind, queries: int, text_mask_BT: Tensor) -> Tensor:
    """Return bool ``[B, 1, L, L]``: row position may read column position. Padding is never read.

    Source: BLIP-2 §3.1, figure 2.
    """
    batch, text = text_mask_BT.shape
    device = text_mask_BT.device
    seen = torch.ones(queries + text, queries + text, dtype=torch.bool, device=device)
    if kind != "bidirectional":
        seen[:queries, queries:] = False
    if kind == "unimodal":
        seen[queries:, :queries] = False
    if kind == "causal":
        seen[queries:, queries:] = seen[queries:, queries:].tril()
    real = torch.cat([text_mask_BT.new_ones(batch, queries), text_mask_BT], dim=1).bool()
    return (seen & real[:, None, :])[:, None]


def run_layers(
    qformer: Any,
    embeddings_BLD: Tensor,
    queries: int,
    mask_BLL: Tensor | None,
    image_BNW: Tensor | None,
    between: Between | None = None,
) -> Tensor:
    """Run a ``Blip2QFormerModel``'s layers over queries, then text; return ``[B, L, D]``.

    The model's own forward takes no mask between queries and text. ``mask_BLL``: see
    ``attention_mask``; ``image_BNW`` is read by the queries in every cross-attention layer.
    """
    hidden = qformer.dropout(qformer.layernorm(embeddings_BLD))
    if mask_BLL is not None and qformer.config._attn_implementation == "eager":
        # eager attention adds its mask
        mask_BLL = torch.zeros_like(mask_BLL, dtype=hidden.dtype).masked_fill(
            ~mask_BLL, torch.finfo(hidden.dtype).min
        )
    for index, layer in enumerate(qformer.encoder.layer):
        hidden = layer(hidden, mask_BLL, image_BNW, query_length=queries)
        if between is not None and queries:
            changed = between(index, hidden[:, :queries])
            hidden = torch.cat([changed, hidden[:, queries:]], dim=1)
    return hidden


def image_attentions(qformer: Any, encoders: tuple[str, ...]) -> tuple[AttentionSite, ...]:
    """Return the cross-attentions of a ``Blip2QFormerModel``, which read tokens of ``encoders``."""
    reading = [
        (number, layer.crossattention.attention)
        for number, layer in enumerate(qformer.encoder.layer, 1)
        if layer.has_cross_attention
    ]
    return tuple(
        AttentionSite(f"Q-Former, layer {number}", attn, partial(_image_weights, attn), encoders)
        for number, attn in reading
    )


def _image_weights(
    attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **masks: Any
) -> Tensor:
    """The map ``[B, h, Q, N]``; every image token may be read, whatever the queries' own mask."""

    def split(x_BXD: Tensor) -> Tensor:
        return x_BXD.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    query, key = attention.query(hidden_states), attention.key(encoder_hidden_states)
    return attention_weights(split(query), split(key))


class TextEmbeddings(nn.Module):
    """Word and position embeddings of the Q-Former's text; positions count text only."""

    def __init__(self, vocabulary: int, positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = NormalEmbedding(vocabulary, width)
        self.position_embeddings = NormalEmbedding(positions, width)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Return ``[B, T, D]``.

        Raises:
            DataError: more tokens than positions.
        """
        length, limit = ids_BT.shape[1], self.position_embeddings.num_embeddings
        if length > limit:
            raise DataError(
                f"the Q-Former's text is {length} tokens long; it has {limit} positions"
            )
        words: Tensor = self.word_embeddings(ids_BT)
        return words + self.position_embeddings.weight[:length]


class TextHeads(nn.Module):
    """What the image-text objectives add: contrast, matching and language modelling.

    ``contrast_width``: E. The language-modelling head is Linear, GELU, LayerNorm and a product with
    the word embeddings plus a bias, as in BERT.
    """

    def __init__(self, vocabulary: int, width: int, contrast_width: int) -> None:
        super().__init__()
        self.vision_projection = NormalLinear(width, contrast_width)
        self.text_projection = NormalLinear(width, contrast_width)
        self.itm_head = NormalLinear(width, 2)
        self.temperature = nn.Parameter(torch.tensor(START_TEMPERATURE))
        self.lm_dense = NormalLinear(width, width)
        self.lm_norm = nn.LayerNorm(width, EPS)
        self.lm_bias = nn.Parameter(torch.zeros(vocabulary))

    def contrast_image(self, queries_IQD: Tensor) -> Tensor:
        """Return unit vectors ``[I, Q, E]`` in float32."""
        return _unit_vectors(self.vision_projection, queries_IQD)

    def contrast_text(self, first_BD: Tensor) -> Tensor:
        """Return unit vectors ``[B, E]`` of the texts' first states, in float32."""
        return _unit_vectors(self.text_projection, first_BD)

    def match(self, queries_BQD: Tensor) -> Tensor:
        """Return logits ``[B, 2]`` (other, same): the mean over queries of each query's."""
        logits: Tensor = self.itm_head(queries_BQD)
        return logits.mean(dim=1)

    def words(self, text_BTD: Tensor, word_embeddings_VD: Tensor) -> Tensor:
        """Return vocabulary logits ``[B, T, V]`` of text states."""
        hidden = self.lm_norm(F.gelu(self.lm_dense(text_BTD)))
        return F.linear(hidden, word_embeddings_VD, self.lm_bias)


def _unit_vectors(layer: nn.Linear, states: Tensor) -> Tensor:
    """Project and normalise in float32 (ours): the temperature magnifies rounding 14 times."""
    with torch.autocast(states.device.type, enabled=False):
        bias = None if layer.bias is None else layer.bias.float()
        return F.normalize(F.linear(states.float(), layer.weight.float(), bias), dim=-1)


class NormalEmbedding(nn.Embedding):
    """An embedding table that starts at N(0, 0.02)."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=STD)
