"""Visual tokens that the first layers of a language model add to its hidden states.

    h_{s+1} = Layer_s(h_s) + x_s      at the places of an image's tokens, s = 0 ... S - 1
    h_{s+1} = Layer_s(h_s)            elsewhere

x_s is a second, third, ... row of visual tokens of the same image, so that S more rows are read
without one more position. They are added while a prompt is read: what a key-value cache holds has
them already. Source: DeepStack (arXiv 2406.04334), in the form of Qwen3-VL.

Shapes: B samples, R rows of the language model's batch (a whole multiple of B: beams, several
answers), T positions of the prompts, J images in reading order, S layers, K visual tokens per
image, H language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig

from manyeyes.errors import PartError, nearest
from manyeyes.layers.adapters.side_inputs import Inside

FAMILIES = (
    "cohere",
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "llama",
    "ministral",
    "mistral",
    "olmo2",
    "opt",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
)
"""Model types whose layers are called with the model's keywords and its cache."""

STACKED = "stacked_tokens"
"""Keyword of the language model's ``forward`` that carries ``StackedTokens``."""


@dataclass(frozen=True)
class StackedTokens:
    """What the first layers add for a batch of prompts.

    ``tokens`` ``[J, S, K, H]``; ``places`` ``[B, T]``: true where a visual token stands, J · K
    times in all.
    """

    tokens: Tensor
    places: Tensor

    @property
    def depth(self) -> int:
        """Number of layers that add something."""
        return self.tokens.shape[1]

    def added(self, layer: int, states_RtH: Tensor, first: int) -> Tensor:
        """Return the hidden states after ``layer`` with its tokens added.

        ``first``: position of the prompt at which the states begin; those before it were read
        earlier, and what comes after the prompt is text.

        Raises:
            PartError: the rows are no whole multiple of the samples.
        """
        copies, left = divmod(len(states_RtH), len(self.places))
        if left:
            raise PartError(
                f"visual tokens of {len(self.places)} samples for a batch of {len(states_RtH)} rows"
            )
        length = states_RtH.shape[1]
        if first >= self.places.shape[1]:
            return states_RtH
        whole_BTH = states_RtH.new_zeros(*self.places.shape, states_RtH.shape[-1])
        tokens_JKH = self.tokens[:, layer].to(whole_BTH)
        whole_BTH = whole_BTH.masked_scatter(self.places[..., None], tokens_JKH)
        part_BtH = whole_BTH[:, first : first + length]
        part_BtH = functional.pad(part_BtH, (0, 0, 0, length - part_BtH.shape[1]))
        return states_RtH + part_BtH.repeat_interleave(copies, dim=0)


_STACKED: Inside[StackedTokens] = Inside(STACKED)

stacking = _STACKED.given
"""Let every layer that runs inside a block of code read ``StackedTokens`` (or None)."""


def check_stackable(language: PreTrainedConfig, depth: int) -> None:
    """Check that tokens can be added after the first ``depth`` layers of a language model.

    Raises:
        PartError: an encoder-decoder, an unknown family, or a model with too few layers.
    """
    family = language.model_type
    if language.is_encoder_decoder:
        raise PartError(
            "the fusion gives tokens that the first layers of a language model add, where image "
            f"and answer are one sequence; {family!r} is an encoder-decoder, whose answer passes "
            "other layers than the image: choose a decoder-only language model"
        )
    if family not in FAMILIES:
        raise PartError(
            f"visual tokens are added inside the layers of {', '.join(FAMILIES)}; the language "
            f"model is a {family!r}{nearest(family, FAMILIES)}"
        )
    layers = int(language.num_hidden_layers)
    if depth >= layers:
        raise PartError(
            f"the fusion gives tokens for the first {depth} layers, but the language model has "
            f"{layers}, and nothing reads what the last one adds: give the encoders at most "
            f"{layers} levels"
        )


def stack_on(model: Any) -> None:
    """Let the layers of ``model`` take ``StackedTokens`` out of their keywords, and add them."""
    core = model.base_model
    for index, layer in enumerate(getattr(core, "decoder", core).layers):
        layer.register_forward_pre_hook(_Entering(index), with_kwargs=True)


class _Entering:
    """What happens before a layer runs: it reads the sum that the one before it leaves.

    The hook runs with the layer, again too where that is checkpointed. The layer's own part of the
    cache, which it has not written yet, says where its input begins.
    """

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rest = dict(kwargs)
        stacked = _STACKED.read(rest.pop(STACKED, None))
        if stacked is None or not 1 <= self.index <= stacked.depth:
            return args, rest
        states, *others = args
        cache = rest.get("past_key_values")
        first = 0 if cache is None else int(cache.get_seq_length(self.index))
        return (stacked.added(self.index - 1, states, first), *others), rest
