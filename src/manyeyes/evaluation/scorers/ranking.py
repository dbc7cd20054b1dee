"""Rankings of candidate answers, as in the Visual Dialog challenge.

Source: batra-mlp-lab/visdial-challenge-starter-pytorch, visdialch/metrics.py. Ranks count from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def ndcg(ranks: Sequence[int], relevance: Sequence[float]) -> float:
    """Normalised discounted cumulative gain (0..1) of a ranking of candidates.

    The discounted relevance of the k best ranked, over that of the k most relevant, where k is the
    number of candidates with any relevance. Without relevant candidates, or a ranking, it is 0.
    """
    relevant = sum(value != 0 for value in relevance)
    ranked = sorted(range(len(ranks)), key=lambda place: ranks[place])
    best = _gain(sorted(relevance, reverse=True)[:relevant])
    return _gain([relevance[place] for place in ranked[:relevant]]) / best if best else 0.0


def ranks_of_losses(losses: Sequence[float]) -> list[int]:
    """The rank of each candidate, the smallest loss first; equal losses in their order."""
    order = sorted(range(len(losses)), key=lambda place: losses[place])
    ranks = [0] * len(losses)
    for rank, place in enumerate(order, start=1):
        ranks[place] = rank
    return ranks


def _gain(relevance: Sequence[float]) -> float:
    return sum(value / math.log2(place + 2) for place, value in enumerate(relevance))
