"""Every encoder and every set of encoders ranked by how like the text's space it is.

    score(S)    CKA of the set with the text, redundancy punished: ``probes.similarity.set_score``
    interval    over half-samples: half of the pictures, drawn without replacement, scored anew
    tied        the best set's lead over this one, on the same draws, may be 0

A half-sample spreads as much as the whole sample does (the factor n/m for m = n/2 pictures is met
by 1 - m/n for drawing without replacement). The usual bootstrap would draw a picture twice, and two
copies of a picture agree in every space. Intervals are of one figure each, not of all at once.

GW is measured on blocks of pictures, each picture in one block at most; its interval is Student's t
over the blocks. GW grows with the size of a block, so it compares within one run alone. Ours.

Shapes: n pictures, m encoders; the text's space comes last, as number m.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from manyeyes.errors import UsageError
from manyeyes.probes.similarity import FloatArray, gram, set_score, similarities
from manyeyes.probes.transport import distances, gromov_wasserstein, joined_distances

DRAWS = 400
"""Half-samples."""
BLOCK, MOST_BLOCKS = 32, 12
"""Pictures of a block of GW, and blocks."""
MOST_SETS = 5000

Interval = tuple[float, float]
Members = tuple[int, ...]


@dataclass(frozen=True)
class SetScore:
    """The score of a set, and how far ``behind`` the best it is, with 95 % intervals."""

    members: Members
    score: float
    ci95: Interval | None
    behind: float
    behind_ci95: Interval | None

    @property
    def tied(self) -> bool:
        """Whether the best may be no better than this one."""
        return self.behind_ci95 is None or self.behind_ci95[0] <= 0.0


@dataclass(frozen=True)
class Distortion:
    """Mean GW over ``blocks`` of ``size`` pictures; ``converged``: of every search."""

    value: float
    ci95: Interval | None
    blocks: int
    size: int
    converged: bool


def every_set(count: int, most: int) -> list[Members]:
    """Return all sets of 1 to ``most`` out of ``count`` encoders, the small ones first.

    Raises:
        UsageError: too many sets to score.
    """
    sizes = range(1, min(most, count) + 1)
    if sum(math.comb(count, size) for size in sizes) > MOST_SETS:
        raise UsageError(f"{count} encoders in sets of up to {most} are too many: lower --most")
    return [found for size in sizes for found in itertools.combinations(range(count), size)]


def rank_sets(
    features: Sequence[FloatArray],
    text: FloatArray,
    *,
    most: int = 2,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[FloatArray, list[SetScore]]:
    """Return the CKA of all spaces ``[m + 1, m + 1]`` and all sets, best first.

    Args:
        features: of each encoder, ``[n, D]``. text: of the same pictures' texts, ``[n, H]``.

    Raises:
        UsageError: too many sets. ValueError: features that do not vary, or hold no numbers.
    """
    sets, target = every_set(len(features), most), len(features)
    products = [gram(space) for space in (*features, text)]
    whole = similarities(products)
    values = np.array([set_score(whole, members, target) for members in sets])
    drawn = np.array([_scored(half, sets) for half in _halves(products, draws, seed)])
    best = int(values.argmax())
    found = []
    for number, members in enumerate(sets):
        lead = drawn[:, best] - drawn[:, number] if len(drawn) else drawn
        behind = float(values[best] - values[number])
        found.append(
            SetScore(
                members,
                float(values[number]),
                middle(drawn[:, number] if len(drawn) else drawn),
                behind,
                None if number == best else middle(lead),
            )
        )
    return whole, sorted(found, key=lambda one: -one.score)


def _scored(similarity: FloatArray, sets: Sequence[Members]) -> list[float]:
    target = len(similarity) - 1
    return [set_score(similarity, members, target) for members in sets]


def _halves(products: Sequence[FloatArray], draws: int, seed: int) -> Iterator[FloatArray]:
    """CKA of all spaces on half-samples; those on which a space is flat are passed over."""
    n = len(products[0])
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        half = np.ix_(*[rng.permutation(n)[: n // 2]] * 2)
        try:
            yield similarities([one[half] for one in products])
        except ValueError:
            continue


def middle(values: FloatArray) -> Interval | None:
    """Return the middle 95 % of draws; None without any."""
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def picture_blocks(n: int, seed: int = 0) -> list[NDArray[np.intp]]:
    """Return numbers of pictures in blocks: of ``BLOCK`` each, or two of half of the pictures."""
    count = min(MOST_BLOCKS, max(2, n // BLOCK))
    size = min(BLOCK, n // count)
    order = np.random.default_rng(seed).permutation(n)
    return [order[start * size : (start + 1) * size] for start in range(count)]


def distort_sets(
    features: Sequence[FloatArray], text: FloatArray, sets: Sequence[Members], *, seed: int = 0
) -> Mapping[Members, Distortion]:
    """Return the GW between each set's space and the text's; see ``rank_sets`` for the arguments.

    Raises:
        ValueError: a block on which a space does not vary.
    """
    found: dict[Members, list[float]] = {members: [] for members in sets}
    sure = dict.fromkeys(sets, True)
    blocks = picture_blocks(len(text), seed)
    for block in blocks:
        of_text = distances(text[block])
        apart = [distances(space[block]) for space in features]
        for members in sets:
            joined = joined_distances([apart[member] for member in members])
            matching = gromov_wasserstein(joined, of_text, seed=seed)
            found[members].append(matching.value)
            sure[members] = sure[members] and matching.converged
    size = len(blocks[0])
    return {
        members: Distortion(*_mean(values), len(blocks), size, sure[members])
        for members, values in found.items()
    }


def _mean(values: Sequence[float]) -> tuple[float, Interval]:
    """The mean of independent values, and Student's interval."""
    array, n = np.array(values), len(values)
    half = float(stdtrit(n - 1, 0.975)) * float(array.std(ddof=1)) / math.sqrt(n)
    mean = float(array.mean())
    return mean, (mean - half, mean + half)
