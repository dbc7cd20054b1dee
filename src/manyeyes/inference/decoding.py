"""How answers are decoded: greedily, or as a project's released code does it, by name.

greedy          ours: the likeliest token each time, a length limit for each kind of answer
lion-official   5 beams, repetition penalty 1.5, at most 256 new tokens (LION §7). The penalty
                also counts digits and "0." as repeated, which can bend coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manyeyes.errors import UsageError, nearest


@dataclass(frozen=True)
class Decoding:
    """``arguments`` of ``generate``; ``max_new_tokens``: one limit for all answers, or None."""

    arguments: Mapping[str, Any]
    max_new_tokens: int | None = None


GREEDY = Decoding({"do_sample": False, "num_beams": 1})

PRESETS: Mapping[str, Decoding] = {
    "greedy": GREEDY,
    "lion-official": Decoding(
        {
            "do_sample": False,
            "num_beams": 5,
            "min_length": 1,
            "repetition_penalty": 1.5,
            "length_penalty": 1.0,
        },
        max_new_tokens=256,
    ),
}
"""By the name that ``--preset`` takes."""


def decoding_preset(name: str) -> Decoding:
    """Return the decoding called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise UsageError(f"unknown preset {name!r}{nearest(name, PRESETS)}; presets: {known}")
    return PRESETS[name]
