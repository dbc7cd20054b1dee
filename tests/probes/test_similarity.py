"""CKA without bias: values worked by hand, a slow reference, what must not change it, and sets."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from manyeyes.probes.similarity import cka, gram, set_score, similarities, u_centred

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 5))


def slow_hsic(one: np.ndarray, other: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, sum by sum, over pictures that are all different."""
    n = len(one)
    total = 0.0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += one[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_values_worked_by_hand() -> None:
    """Four pictures on a line: K_12 = -1 and nothing else, so A_12 = A_34 = -1/3, the rest 1/6."""
    x = np.array([[1.0], [-1.0], [0.0], [0.0]])
    expected = np.full((4, 4), 1 / 6)
    expected[[0, 1, 2, 3], [1, 0, 3, 2]] = -1 / 3
    np.fill_diagonal(expected, 0)
    assert np.allclose(u_centred(gram(x)), expected)
    crossed = np.array([[1.0], [0.0], [-1.0], [0.0]])
    assert cka(x, crossed) == pytest.approx(-0.5)
    assert cka(x, x[[2, 3, 0, 1]]) == pytest.approx(1.0)


def test_it_is_the_estimate_of_the_paper() -> None:
    one, other = gram(X[:7]), gram(RANDOM.normal(size=(7, 3)))
    slow = slow_hsic(one, other) / math.sqrt(slow_hsic(one, one) * slow_hsic(other, other))
    assert similarities([one, other])[0, 1] == pytest.approx(slow, abs=1e-12)


def test_rotation_scale_and_place_change_nothing() -> None:
    turn = np.linalg.qr(RANDOM.normal(size=(5, 5)))[0]
    other = RANDOM.normal(size=(12, 4))
    assert cka(X, X) == pytest.approx(1.0)
    assert cka(X, 3.0 * X @ turn + 7.0) == pytest.approx(1.0)
    assert cka(100.0 * X @ turn - 2.0, other) == pytest.approx(cka(X, other))


def test_what_has_nothing_in_common_scores_zero_however_wide() -> None:
    """Over all orders of the pictures the mean is 0 exactly; plain CKA's would be far above."""
    five = X[:5]
    for width in (1, 50):
        other = RANDOM.normal(size=(5, width))
        every = [cka(five, other[list(order)]) for order in itertools.permutations(range(5))]
        assert np.mean(every) == pytest.approx(0.0, abs=1e-12)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="do not vary"):
        cka(X, np.ones((12, 3)))
    with pytest.raises(ValueError, match="at least 4 pictures, got 3"):
        cka(X[:3], X[:3])
    with pytest.raises(ValueError, match="finite numbers"):
        gram(np.array([[1.0], [np.nan]]))


def of_sets(with_text: tuple[float, ...], among: float) -> np.ndarray:
    """Similarities of encoders that are all alike by ``among``, the text last."""
    n = len(with_text)
    table = np.full((n + 1, n + 1), among)
    np.fill_diagonal(table, 1.0)
    table[n, :n] = table[:n, n] = with_text
    return table


def test_a_set_is_rewarded_for_likeness_and_punished_for_redundancy() -> None:
    assert set_score(of_sets((0.4, 0.2), 0.3), [0], 2) == pytest.approx(0.4)
    copies = of_sets((0.4, 0.4), 1.0)
    assert set_score(copies, [0, 1], 2) == pytest.approx(0.4)
    apart = of_sets((0.4, 0.4), 0.0)
    assert set_score(apart, [0, 1], 2) == pytest.approx(0.4 * math.sqrt(2))
    # (0.5 + 0.3) / sqrt(2 + 2 * 0.28) = 0.8 / 1.6
    assert set_score(of_sets((0.5, 0.3), 0.28), [0, 1], 2) == pytest.approx(0.5)
    useless = of_sets((0.4, 0.0), 0.0)
    assert set_score(useless, [0, 1], 2) < 0.4


def test_a_set_scores_as_its_features_side_by_side() -> None:
    spaces = [X, RANDOM.normal(size=(12, 3)), RANDOM.normal(size=(12, 8)) + X[:, :1]]
    text = X[:, :2] + RANDOM.normal(size=(12, 2))
    grams = [gram(space) for space in spaces]
    table = similarities([*grams, gram(text)])
    scaled = [
        (space - space.mean(axis=0)) / math.sqrt(np.linalg.norm(u_centred(own)))
        for space, own in zip(spaces, grams, strict=True)
    ]
    assert set_score(table, [0, 1, 2], 3) == pytest.approx(cka(np.hstack(scaled), text))
