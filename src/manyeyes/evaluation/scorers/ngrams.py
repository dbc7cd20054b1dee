"""Counting word sequences; shared by the caption metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Ngram = tuple[str, ...]


def ngram_counts(tokens: Sequence[str], longest: int = 4) -> Counter[Ngram]:
    """How often each sequence of 1..``longest`` tokens occurs."""
    words = tuple(tokens)
    return Counter(
        words[start : start + size]
        for size in range(1, longest + 1)
        for start in range(len(words) - size + 1)
    )
