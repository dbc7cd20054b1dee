"""How much a language model reads: the positions that its configuration declares."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig

from manyeyes.errors import UsageError


def position_limit(config: PreTrainedConfig) -> int | None:
    """Return the number of positions of a language model; None = there is no such limit (T5's and
    ALiBi's are relative). The prompt and the answer of a decoder-only model share it.
    """
    limit = getattr(config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def too_long(length: int, limit: int | None, *, answered: bool = False) -> str | None:
    """Return what is wrong with a text of ``length`` tokens, visual ones included; None = nothing.

    ``answered``: at least one token must still be written after it.
    """
    if limit is None or length + answered <= limit:
        return None
    return f"{length} tokens with those of its images, but the language model reads {limit}"


def check_prompts(
    config: PreTrainedConfig, input_ids_BT: Tensor, attention_mask_BT: Tensor | None
) -> None:
    """Raise ``UsageError`` if a prompt is longer than the language model reads."""
    limit, answered = position_limit(config), not config.is_encoder_decoder
    width = input_ids_BT.shape[1]
    if too_long(width, limit, answered=answered) is None:
        return
    every = [width] * len(input_ids_BT)
    lengths = every if attention_mask_BT is None else attention_mask_BT.sum(dim=1).tolist()
    for row, length in enumerate(lengths):
        problem = too_long(int(length), limit, answered=answered)
        if problem is not None:
            raise UsageError(f"prompt {row} has {problem}: shorten it")
