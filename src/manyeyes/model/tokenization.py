"""The tokenizer of a language model, and the tokens that stand for images in it."""

from __future__ import annotations

from typing import cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from manyeyes.bridge import ImageTokenIds
from manyeyes.checkpoints import hub
from manyeyes.checkpoints.trust import trusts_remote_code
from manyeyes.conversation.tags import SLOT
from manyeyes.errors import PartError
from manyeyes.records import IMAGE_PLACEHOLDER

IMAGE_TOKENS = (IMAGE_PLACEHOLDER, "<im_start>", "<im_end>")
"""What stands for an image, and the markers before and after it."""


def add_image_tokens(tokenizer: PreTrainedTokenizerBase, *, soft: bool = False) -> None:
    """Add the image tokens to a tokenizer, and padding if it has none; ``soft``: also the slot.

    Raises:
        PartError: it has no end token to pad with either.
    """
    tokenizer.add_special_tokens(
        {"additional_special_tokens": _image_tokens(soft)}, replace_extra_special_tokens=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise PartError(
            "the tokenizer has neither a padding token nor an end token; its "
            "tokenizer_config.json is missing or damaged"
        )


def image_token_ids(tokenizer: PreTrainedTokenizerBase, *, soft: bool = False) -> ImageTokenIds:
    """Return the ids of the image tokens in a tokenizer that has them; ``soft``: also the slot."""
    tokens = _image_tokens(soft)
    return ImageTokenIds(*(cast(int, tokenizer.convert_tokens_to_ids(token)) for token in tokens))


def _image_tokens(soft: bool) -> list[str]:
    return [*IMAGE_TOKENS, *([SLOT] if soft else [])]


def load_tokenizer(checkpoint: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a language-model checkpoint.

    Raises:
        CheckpointError: none there, damaged, or it asks to run code of its own.
    """
    with hub.reading(checkpoint):
        return AutoTokenizer.from_pretrained(
            hub.resolve(checkpoint), trust_remote_code=trusts_remote_code()
        )
