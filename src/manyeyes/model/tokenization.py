"""The tokenizer of a language model, and the tokens that stand for images in it."""

from __future__ import annotations

from typing import cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from manyeyes.bridge import ImageTokenIds
from manyeyes.checkpoints import hub
from manyeyes.checkpoints.trust import trusts_remote_code
from manyeyes.conversation.tags import SLOT
from manyeyes.records import IMAGE_PLACEHOLDER

IMAGE_TOKENS = (IMAGE_PLACEHOLDER, "<im_start>", "<im_end>")
"""What stands for an image, and the markers before and after it."""


def image_token_ids(tokenizer: PreTrainedTokenizerBase, *, soft: bool = False) -> ImageTokenIds:
    """Return the ids of the image tokens in a tokenizer that has them; ``soft``: also the slot."""
    tokens = [*IMAGE_TOKENS, *([SLOT] if soft else [])]
    return ImageTokenIds(*(cast(int, tokenizer.convert_tokens_to_ids(token)) for token in tokens))


def load_tokenizer(checkpoint: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a language-model checkpoint.

    Raises:
        CheckpointError: none there, damaged, or it asks to run code of its own.
    """
    with hub.reading(checkpoint):
        return AutoTokenizer.from_pretrained(
            hub.resolve(checkpoint), trust_remote_code=trusts_remote_code()
        )
