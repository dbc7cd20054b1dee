"""Conditional utilization rate and information gap: by hand, by slow bootstrap, by planting."""

from __future__ import annotations

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.study.ablation.utility import HARMFUL, OPEN, REDUNDANT, USEFUL, adjusted, utilities

IMAGES = [str(number // 3) for number in range(600)]


def test_rates_and_gap_against_hand_counts() -> None:
    whole = [1, 1, 1, 0, 1]
    masked = {"clip": [1, 0, 1, 0, 0], "mae": [1, 1, 1, 1, 1], "clip + mae": [0, 0, 0, 0, 0]}
    found = utilities(whole, masked, list("abcde"), compared=["clip", "mae"], draws=50)
    assert found.score == 0.8
    rates = {name: part.cur for name, part in found.parts.items()}
    assert rates == pytest.approx({"clip": 0.5, "mae": -0.25, "clip + mae": 1.0})
    assert found.gap == pytest.approx(0.75)
    assert found.parts["clip"].drop == pytest.approx(0.4)
    assert found.parts["mae"].masked_score == 1.0


def test_intervals_are_those_of_drawing_whole_images() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 2, 30).astype(float)
    part = np.where(rng.random(30) < 0.7, whole, 0.0)
    images = [str(number // 5) for number in range(30)]
    found = utilities(whole, {"e": part}, images, draws=400, seed=7).parts["e"]
    slow, generator = [], np.random.default_rng(7)
    for _ in range(400):
        times = generator.multinomial(6, np.full(6, 1 / 6))
        a = sum(times[n // 5] * whole[n] for n in range(30))
        b = sum(times[n // 5] * part[n] for n in range(30))
        slow.append((a - b) / a)
    assert found.cur_ci95 == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))


def planted(drop: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the whole model and of one whose accuracy is lower by ``drop``."""
    rng = np.random.default_rng(seed)
    whole = (rng.random(600) < 0.7).astype(float)
    part = whole.copy()
    changed = rng.permutation(np.flatnonzero(whole == (1.0 if drop > 0 else 0.0)))
    part[changed[: round(abs(drop) * 600)]] = 0.0 if drop > 0 else 1.0
    return whole, part


@pytest.mark.parametrize(
    ("drop", "verdict"),
    [(0.15, USEFUL), (-0.15, HARMFUL), (0.0, REDUNDANT), (0.002, REDUNDANT)],
)
def test_planted_parts_are_judged(drop: float, verdict: str) -> None:
    whole, part = planted(drop, seed=1)
    found = adjusted({"all": utilities(whole, {"e": part}, IMAGES, draws=500)})
    assert found["all"].parts["e"].verdict == verdict


def test_noise_both_ways_is_left_open() -> None:
    whole, part = planted(0.1, seed=1)
    gained = np.flatnonzero(whole == 0.0)[:55]
    part[gained] = 1.0
    found = adjusted({"all": utilities(whole, {"e": part}, IMAGES, draws=500)})
    assert found["all"].parts["e"].verdict == OPEN


def test_nothing_is_claimed_of_a_part_that_changes_answers_at_random() -> None:
    rng = np.random.default_rng(3)
    verdicts = []
    for _ in range(40):
        whole, part = (rng.random((2, 600)) < 0.6).astype(float)
        found = adjusted({"all": utilities(whole, {"e": part}, IMAGES, draws=200)})
        verdicts.append(found["all"].parts["e"].verdict)
    assert sum(verdict in (USEFUL, HARMFUL) for verdict in verdicts) <= 6


def test_many_rows_are_one_family() -> None:
    whole, part = planted(0.012, seed=1)
    one = utilities(whole, {"e": part}, IMAGES, draws=100)
    alone = adjusted({"all": one})["all"].parts["e"].p
    family = adjusted({f"group {n}": one for n in range(10)})["group 0"].parts["e"].p
    assert alone is not None and family is not None
    assert family == pytest.approx(min(1.0, 10 * alone))


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("right", [1, 2, 3])
def test_too_few_right_answers_decide_nothing(right: int, lost: int) -> None:
    whole = [1.0] * right + [0.0] * (19 - right)
    part = [1.0] * (right - lost) + [0.0] * (19 - right + lost)
    images = [str(number) for number in range(19)]
    entry = utilities(whole, {"e": part, "f": whole}, images, compared=["e", "f"])
    for found in adjusted({"all": entry}, margin=0.5)["all"].parts.values():
        assert (found.verdict, found.cur_ci95) == (OPEN, None)
    assert entry.gap_ci95 is None
    assert entry.parts["e"].cur == pytest.approx(lost / right)


@pytest.mark.parametrize(
    ("items", "right", "verdict"), [(19, 8, OPEN), (400, 100, OPEN), (400, 360, REDUNDANT)]
)
def test_an_unchanged_score_is_as_sure_as_its_answers_are_many(
    items: int, right: int, verdict: str
) -> None:
    whole = np.arange(items) < right
    images = [str(number) for number in range(items)]
    entry = adjusted({"all": utilities(whole, {"e": whole, "f": whole}, images, compared="ef")})
    entry = entry["all"]
    found = entry.parts["e"]
    bound = (1 - 0.025 ** (1 / items)) * items / right
    assert (found.cur, found.cur_ci95) == (0.0, pytest.approx((-bound, bound)))
    assert (found.drop, found.drop_ci95, found.p) == (0.0, None, 1.0)
    assert entry.gap_ci95 == pytest.approx((0.0, 2 * bound))
    assert found.verdict == verdict


def test_every_answer_lost_is_no_certainty_either() -> None:
    whole = np.arange(40) < 12
    images = [str(number) for number in range(40)]
    found = adjusted({"all": utilities(whole, {"e": np.zeros(40)}, images)})["all"].parts["e"]
    bound = (1 - 0.025 ** (1 / 40)) / 0.3
    assert found.cur_ci95 == pytest.approx((1 - bound, 1 + bound))
    assert found.verdict == USEFUL


def test_what_cannot_be_measured_is_left_open() -> None:
    nothing = utilities([0, 0], {"e": [0, 1]}, ["a", "b"], compared=["e"])
    assert nothing.parts["e"].cur is None and nothing.parts["e"].cur_ci95 is None
    assert nothing.gap is None, "one encoder has no gap"
    lone = adjusted({"all": utilities([1, 1], {"e": [1, 0]}, ["a", "a"])})["all"].parts["e"]
    assert lone.p is None and lone.verdict == OPEN
    with pytest.raises(UsageError, match="e: 1 scores for 2 items"):
        utilities([1, 0], {"e": [1]}, ["a", "b"])
