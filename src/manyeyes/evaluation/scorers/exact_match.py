"""Exact match: the answer is the reference, or it is not.

official   equal strings after stripping surrounding white space (GQA's rule)
relaxed    besides, letter case and one final period do not count (ours)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from manyeyes.errors import UsageError, nearest


def exact_match(prediction: str, reference: str, variant: str = "official") -> float:
    """1.0 if the prediction equals the reference under the variant's rule, else 0.0."""
    if variant not in EXACT_VARIANTS:
        known = ", ".join(EXACT_VARIANTS)
        hint = nearest(variant, EXACT_VARIANTS)
        raise UsageError(f"unknown exact-match variant {variant!r}{hint}; known: {known}")
    normalise = EXACT_VARIANTS[variant]
    return float(normalise(prediction) == normalise(reference))


def _relaxed(text: str) -> str:
    return text.strip().lower().removesuffix(".").rstrip()


EXACT_VARIANTS: Mapping[str, Callable[[str], str]] = {"official": str.strip, "relaxed": _relaxed}
"""Normalisers by name; the first is the default."""
