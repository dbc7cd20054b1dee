"""What ``generation_config.json`` may hold, checked when it is read.

``transformers`` looks at most of these values when it writes the first token, and then names no
file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from manyeyes.errors import CheckpointError

GENERATION_FILE = "generation_config.json"


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _is_factor(value: Any) -> bool:
    return value == 1 or (isinstance(value, float) and value > 0)


_KINDS: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    (
        "a token's number, or a list of them",
        lambda value: _is_whole(value) or (value != [] and _are_ids(value)),
        ("bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_eos_token_id"),
    ),
    ("a token's number", _is_whole, ("forced_bos_token_id",)),
    ("a token's number, or -1 for none", lambda value: _is_whole(value, -1), ("pad_token_id",)),
    ("a list of tokens' numbers", _are_ids, ("suppress_tokens", "begin_suppress_tokens")),
    (
        "a list of lists of tokens' numbers",
        lambda value: isinstance(value, list) and all(one and _are_ids(one) for one in value),
        ("bad_words_ids",),
    ),
    (
        "a decimal number above 0",
        _is_factor,
        ("repetition_penalty", "encoder_repetition_penalty", "temperature"),
    ),
    (
        "a whole number",
        _is_whole,
        ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens"),
    ),
    (
        "a whole number above 0",
        lambda value: _is_whole(value, 1),
        ("num_beams", "num_return_sequences", "max_length", "max_new_tokens"),
    ),
)
"""What is expected, how to tell, and of which keys."""

_SAMPLED = ("temperature",)
"""Keys that only sampling reads; published files hold others there while they do not sample."""


def check_generation(found: Mapping[str, Any], file: Path) -> None:
    """Check the values that every way of writing reads; null counts as absent.

    Raises:
        CheckpointError: one cannot be used; names file, key and what was expected.
    """
    for expected, fits, keys in _KINDS:
        for key in keys:
            value = found.get(key)
            unused = key in _SAMPLED and not found.get("do_sample")
            if value is not None and not unused and not fits(value):
                raise CheckpointError(f"{file}: {key}: expected {expected}, got {value!r}")
