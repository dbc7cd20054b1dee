"""What a language model makes of texts: one vector of each, at chosen levels.

Level 0 is the mean of the token embeddings, the space that visual tokens enter. Level i is the mean
of the hidden states after block i (the last one has the final norm, as ``transformers`` gives it);
of encoder-decoder models the encoder's. Above level 0 the first position is left out, where many
models park attention in a vector a hundred times as long as any other. The choice is ours.

Shapes: n texts, B of a batch, T tokens, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyeyes.checkpoints import hub
from manyeyes.errors import PartError
from manyeyes.language import auto_class, position_limit
from manyeyes.model.tokenization import load_tokenizer

MOST_TOKENS = 256
"""Tokens of a text that are read."""
BATCH = 16


@dataclass(frozen=True)
class TextReader:
    """A language model that is known, but not loaded: its checkpoint, levels and tokenizer."""

    checkpoint: str
    levels: tuple[int, ...]
    config: Any
    tokenizer: Any

    @torch.no_grad()
    def read(self, texts: Sequence[str], device: torch.device) -> dict[int, NDArray[np.float64]]:
        """Return level -> one vector per text, ``[n, H]``."""
        model: Any = hub.load_pretrained(auto_class(self.config), self.checkpoint, self.config)
        model.to(device=device, dtype=torch.float32).eval()
        found: dict[int, list[Tensor]] = {level: [] for level in self.levels}
        for start in range(0, len(texts), BATCH):
            ids, mask = self._tokens(texts[start : start + BATCH], device)
            for level, states in self._states(model, ids, mask).items():
                found[level].append(mean_states(states, mask, skip_first=level > 0).cpu())
        return {level: torch.cat(parts).double().numpy() for level, parts in found.items()}

    def _tokens(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        limit = position_limit(self.config)
        encoded = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=min(MOST_TOKENS, limit or MOST_TOKENS),
            padding_side="right",
            return_tensors="pt",
        )
        return encoded["input_ids"].to(device), encoded["attention_mask"].to(device)

    def _states(self, model: Any, ids: Tensor, mask: Tensor) -> dict[int, Tensor]:
        if self.levels == (0,):
            return {0: model.get_input_embeddings()(ids)}
        body = model.get_encoder() if self.config.is_encoder_decoder else model.base_model
        extra = {} if self.config.is_encoder_decoder else {"use_cache": False}
        states = body(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, **extra
        ).hidden_states
        return {
            level: states[level] if level else model.get_input_embeddings()(ids)
            for level in self.levels
        }


def mean_states(states: Tensor, mask: Tensor, *, skip_first: bool) -> Tensor:
    """Return means ``[B, H]`` over the real tokens of ``[B, T, H]``, ``mask`` ``[B, T]``.

    ``skip_first``: without the first position, where a text has others.
    """
    weights = mask.clone()
    if skip_first:
        weights[:, 0] = torch.where(mask.sum(dim=1) > 1, 0, weights[:, 0])
    weights = weights[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def text_reader(checkpoint: str, levels: Sequence[int] = (0,)) -> TextReader:
    """Return the reader of a language model's ``levels``; negative ones count from the end.

    Raises:
        CheckpointError: no such language model or tokenizer. PartError: no such level.
    """
    config: Any = hub.load_config(checkpoint)
    blocks = int(config.get_text_config().num_hidden_layers)
    tokenizer: Any = load_tokenizer(checkpoint)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    chosen = dict.fromkeys(_level(level, blocks, checkpoint) for level in levels or (0,))
    return TextReader(checkpoint, tuple(chosen), config, tokenizer)


def _level(level: int, blocks: int, checkpoint: str) -> int:
    index = level + blocks + 1 if level < 0 else level
    if not 0 <= index <= blocks:
        raise PartError(
            f"language model {checkpoint!r} has {blocks} blocks, so --text-level {level} does not "
            f"exist (0 = the embeddings, {blocks} = the last)"
        )
    return index
