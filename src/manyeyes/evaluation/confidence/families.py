"""Which differences may be claimed: one rule for every comparison, study, claim and ablation.

Differences that are judged together are a family. One of them is claimed where its p, adjusted for
the family (Holm 1979), is below 0.05 and its 95 % interval, where there is one, leaves 0 out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
Interval = tuple[float, float]

ALPHA = 0.05
"""Largest adjusted p at which a difference is claimed."""


@dataclass(frozen=True)
class Effect:
    """A measured difference with the p of "there is none"; None or NaN: it could not be tested."""

    difference: float
    ci95: Interval | None
    p: float | None


@dataclass(frozen=True)
class Judged:
    """``p`` adjusted for the family, NaN where there is none; ``sign``: see `claimed_sign`."""

    p: float
    sign: int


def judge_family(found: Mapping[K, Effect]) -> dict[K, Judged]:
    """Judge every difference of a family; those without p take no part in the adjustment."""
    adjusted = holm({key: one.p for key, one in found.items() if one.p is not None})
    return {
        key: Judged(p := adjusted.get(key, math.nan), claimed_sign(one.difference, one.ci95, p))
        for key, one in found.items()
    }


def claimed_sign(difference: float, ci95: Interval | None, p: float) -> int:
    """Return 1 or -1 where a difference with this adjusted ``p`` may be claimed, else 0."""
    covers = ci95 is not None and ci95[0] <= 0.0 <= ci95[1]
    if covers or not p < ALPHA:
        return 0
    return 1 if difference > 0 else -1


def alone_only(ci95: Interval | None, sign: int) -> bool:
    """Return whether an interval leaves 0 out although nothing is claimed (``sign`` 0)."""
    return sign == 0 and ci95 is not None and not ci95[0] <= 0.0 <= ci95[1]


def alone_sentence(count: int, family: int, unclaimed: str) -> str:
    """Return why ``count`` intervals say more than the verdicts of their family; "" for none.

    ``unclaimed``: what is said of a difference that is not claimed.
    """
    if not count:
        return ""
    many = f"{count} intervals leave" if count > 1 else "1 interval leaves"
    return (
        f"{many} 0 out where {unclaimed}: an interval is of its comparison alone, the verdict "
        f"holds for all {family} together."
    )


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Holm's adjusted p values of a family of tests; a NaN is no test and stays out.

    With p_(1) <= ... <= p_(m): adjusted p_(i) = max_{j<=i} min(1, (m - j + 1) · p_(j)).
    """
    tested = {key: p for key, p in p_values.items() if not math.isnan(p)}
    adjusted: dict[K, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(tested, key=lambda key: tested[key])):
        largest = max(largest, min(1.0, (len(tested) - rank) * tested[key]))
        adjusted[key] = largest
    return {key: adjusted[key] for key in tested}
