"""Seeds and items crossed: by hand, in simulated studies, and at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence.crossed import (
    CrossedDifference,
    Spread,
    crossed_difference,
    seed_noise,
)
from manyeyes.evaluation.confidence.families import holm
from manyeyes.evaluation.confidence.intervals import paired_difference

IMAGES, EACH = 100, 4
CLUSTERS = [str(image) for image in range(IMAGES) for _ in range(EACH)]


def study(
    rng: np.random.Generator, *, seeds: int, effect: float, seed_sd: float
) -> CrossedDifference:
    """Two arms whose answers follow from item difficulty, seed and chance; clustered by image."""
    difficulty = rng.normal(0, 1, (1, IMAGES, 1)) + rng.normal(0, 1, (1, IMAGES, EACH))

    def arm(gain: float) -> np.ndarray:
        of_seed = rng.normal(0, seed_sd, (seeds, 1, 1))
        chance = rng.normal(0, 0.7, (seeds, IMAGES, EACH))
        return (difficulty + gain + of_seed + chance > 0).astype(float).reshape(seeds, -1)

    return crossed_difference(arm(effect), arm(0.0), CLUSTERS)


@pytest.mark.parametrize("seed_sd", [0.0, 0.06, 0.2])
@pytest.mark.parametrize("seeds", [3, 5])
def test_identical_arms_are_rarely_separable(seeds: int, seed_sd: float) -> None:
    rng = np.random.default_rng(1)
    found = [study(rng, seeds=seeds, effect=0.0, seed_sd=seed_sd).p for _ in range(300)]
    # 5 in 100 and two standard errors of 300 simulated studies
    assert np.mean(np.array(found) < 0.05) <= 0.05 + 0.025


@pytest.mark.parametrize(("effect", "seed_sd"), [(0.15, 0.0), (0.2, 0.06), (0.3, 0.06)])
def test_a_planted_difference_is_found_with_the_predicted_power(
    effect: float, seed_sd: float
) -> None:
    rng = np.random.default_rng(2)
    found = [study(rng, seeds=5, effect=effect, seed_sd=seed_sd) for _ in range(200)]
    true = float(np.mean([one.difference for one in found]))
    observed = np.mean([one.p < 0.05 for one in found])
    predicted = np.mean([one.spread.power(true) for one in found if one.spread])
    assert 0.25 < observed
    assert observed == pytest.approx(predicted, abs=0.12)


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    found = [study(rng, seeds=4, effect=0.2, seed_sd=0.1) for _ in range(200)]
    true = float(np.mean([one.difference for one in found]))
    covered = [one.ci95[0] <= true <= one.ci95[1] for one in found if one.ci95]
    assert np.mean(covered) >= 0.93


def test_one_seed_is_the_clustered_paired_test() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random(40), rng.random(40)
    images = [str(i // 2) for i in range(40)]
    found, known = crossed_difference([a], [b], images), paired_difference(a, b, images)
    assert found.p == pytest.approx(known.p)
    assert found.se == pytest.approx(known.estimate.se)
    assert found.df == 19
    assert found.spread is not None
    assert found.spread.seeds_required(0.1) is None


def test_parts_by_hand() -> None:
    # d = seed effect + item effect, nothing left: V_E = 0
    seed, item = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0, 2.0, 4.0, 6.0]])
    found = crossed_difference(seed + item, np.zeros((3, 4)), list("abcd"))
    assert found.difference == pytest.approx(4.0)
    assert found.spread is not None
    assert found.spread.seeds == pytest.approx(1.0 / 3)
    assert found.spread.items == pytest.approx((20.0 / 3) / 4)
    assert found.spread.both == pytest.approx(0.0)
    of_seeds, of_items = 1.0 / 3, 5.0 / 3
    df = 2.0**2 / ((2 * of_seeds) ** 2 / 2 + of_items**2 / 3)
    assert found.df == pytest.approx(df)


def test_the_same_arm_twice_is_no_difference() -> None:
    scores = np.random.default_rng(5).random((3, 6))
    found = crossed_difference(scores, scores, list("aabbcc"))
    assert (found.difference, found.p, found.ci95) == (0.0, 1.0, None)


def test_what_more_seeds_and_items_bring() -> None:
    spread = Spread(seeds=3e-4, items=1e-4, both=1e-4, number=3, clusters=100)
    needed = spread.seeds_required(0.04)
    assert needed is not None
    assert spread.with_seeds(needed).power(0.04) >= 0.8 > spread.with_seeds(needed - 1).power(0.04)
    # more questions cannot cure what the seeds differ by
    assert spread.times_required(0.04) is None
    items = Spread(seeds=0.0, items=4e-4, both=0.0, number=3, clusters=100)
    times = items.times_required(0.04)
    assert times is not None
    assert items.with_items(times).power(0.04) >= 0.8
    assert items.power(items.detectable()) == pytest.approx(0.8, abs=1e-6)
    assert items.power(100.0) == 1.0
    assert items.power(0.0) == pytest.approx(0.05)


def test_more_arms_tell_more_of_the_noise_of_seeds() -> None:
    rng = np.random.default_rng(6)
    tables = [rng.normal(0, 1, (3, 1)) + rng.normal(0, 0.1, (3, 200)) for _ in range(9)]
    two = seed_noise(tables[:2])
    assert two is not None
    own = (tables[0].mean(axis=1) - tables[1].mean(axis=1)).var(ddof=1) / 3
    assert (two.variance, two.pooled) == (pytest.approx(own), 1)
    all_arms = seed_noise(tables)
    assert all_arms is not None
    assert all_arms.pooled == 8
    many = seed_noise([rng.normal(0, 1, (30, 1)) for _ in range(40)])
    assert many is not None
    assert many.variance == pytest.approx(2 / 30, rel=0.1)
    labels = [str(i) for i in range(200)]
    pairs = list(itertools.combinations(tables, 2))
    own = [crossed_difference(a, b, labels) for a, b in pairs]
    found = [crossed_difference(a, b, labels, all_arms) for a, b in pairs]
    # the larger noise counts: of all arms for quiet pairs, a noisy pair's own
    assert all(one.se >= alone.se for one, alone in zip(found, own, strict=True))
    quiet, noisy = (f(range(len(own)), key=lambda i: own[i].se) for f in (min, max))
    assert found[quiet].df > own[quiet].df
    assert found[noisy] == own[noisy]
    assert seed_noise(tables[:1]) is None
    assert seed_noise([table[:1] for table in tables]) is None


@pytest.mark.parametrize("seed_sd", [0.0, 0.06, 0.2])
def test_many_identical_arms_are_rarely_separable(seed_sd: float) -> None:
    """100 studies of four equal arms, all six pairs adjusted together."""
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(100):
        difficulty = rng.normal(0, 1, (1, IMAGES, 1)) + rng.normal(0, 1, (1, IMAGES, EACH))
        tables = []
        for _ in range(4):
            of_seed = rng.normal(0, seed_sd, (3, 1, 1))
            chance = rng.normal(0, 0.7, (3, IMAGES, EACH))
            tables.append((difficulty + of_seed + chance > 0).astype(float).reshape(3, -1))
        noise = seed_noise(tables)
        pairs = itertools.combinations(tables, 2)
        p = {str(i): crossed_difference(a, b, CLUSTERS, noise).p for i, (a, b) in enumerate(pairs)}
        wrong += min(holm(p).values()) < 0.05
    assert wrong <= 9  # 5 expected at most, and two standard errors


@pytest.mark.parametrize(("seeds", "share"), [(3, 0.07), (5, 0.05)])
def test_noisy_arms_do_not_hide_among_quiet_ones(seeds: int, share: float) -> None:
    """Two equal arms that seeds move, beside four that they do not; `docs/comparing.md` has more.

    With the noise of all six arms in place of their own, every fourth study would claim one.
    """
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(300):
        difficulty = rng.normal(0, 1, (1, IMAGES, 1)) + rng.normal(0, 1, (1, IMAGES, EACH))
        tables = []
        for seed_sd in (0.3, 0.3, 0.0, 0.0, 0.0, 0.0):
            of_seed = rng.normal(0, seed_sd, (seeds, 1, 1))
            chance = rng.normal(0, 0.7, (seeds, IMAGES, EACH))
            tables.append((difficulty + of_seed + chance > 0).astype(float).reshape(seeds, -1))
        noise = seed_noise(tables)
        wrong += crossed_difference(tables[0], tables[1], CLUSTERS, noise).p < 0.05
    assert wrong <= 300 * (share + 0.025)


def test_few_differing_pictures_cannot_be_sure() -> None:
    better = np.zeros((3, 400))
    better[:, :5] = 1.0
    found = crossed_difference(better, np.zeros((3, 400)), [str(n) for n in range(400)])
    assert found.p == 2**-4


def test_what_never_varies_is_the_sign_test() -> None:
    found = crossed_difference([[1.0] * 6], [[0.0] * 6], list("aabbcc"))
    assert (found.difference, found.p, found.ci95) == (1.0, 0.25, None)


def test_one_image_leaves_nothing_to_measure() -> None:
    found = crossed_difference([[1.0, 0.0]], [[0.0, 0.0]], ["a", "a"])
    assert found.difference == 0.5
    assert math.isnan(found.p)
    assert found.ci95 is None


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="two tables of seeds x items"):
        crossed_difference([[1.0]], [[1.0], [2.0]], ["a"])
    with pytest.raises(UsageError, match="not finite"):
        crossed_difference([[math.nan]], [[1.0]], ["a"])
    with pytest.raises(UsageError, match="cluster labels"):
        crossed_difference([[1.0, 2.0]], [[1.0, 2.0]], ["a"])
