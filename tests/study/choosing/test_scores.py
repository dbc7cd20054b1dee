"""Ranking of sets: complements before copies, ties that are said, intervals of the right width."""

from __future__ import annotations

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.probes.similarity import FloatArray, cka
from manyeyes.study.choosing import scores
from manyeyes.study.choosing.scores import distort_sets, every_set, picture_blocks, rank_sets


def spaces(n: int, seed: int = 0) -> tuple[list[FloatArray], FloatArray]:
    """A sees one half of what texts tell, its copy the same, B the other half, N nothing."""
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(n, 6))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    a = text[:, :3] + 0.2 * rng.normal(size=(n, 3))
    b = text[:, 3:] + 0.3 * rng.normal(size=(n, 3))
    return [a, a @ turn, b, rng.normal(size=(n, 5))], text


def test_two_that_see_different_things_lead_and_a_copy_adds_nothing() -> None:
    features, text = spaces(120)
    _, found = rank_sets(features, text, draws=100)
    by_set = {one.members: one for one in found}
    assert found[0].members in {(0, 2), (1, 2)} and found[0].behind == 0.0
    assert by_set[0, 1].score == pytest.approx(by_set[(0,)].score)
    assert by_set[(0,)].score == pytest.approx(cka(features[0], text))
    assert by_set[(3,)].behind_ci95 is not None and not by_set[(3,)].tied
    assert not by_set[(0,)].tied, "a single one is surely behind the pair"
    other = (0, 2) if found[0].members == (1, 2) else (1, 2)
    assert by_set[other].tied, "with the copy in A's place the pair is as good"
    assert by_set[(0,)].score > by_set[0, 3].score


def test_an_interval_is_as_wide_as_other_pictures_would_spread() -> None:
    drawn = []
    for seed in range(40):
        features, text = spaces(60, seed=100 + seed)
        drawn.append(cka(features[0], text))
    widths = []
    for seed in range(4):
        features, text = spaces(60, seed=seed)
        _, found = rank_sets(features[:1], text, most=1, draws=200)
        assert found[0].ci95 is not None
        widths.append(found[0].ci95[1] - found[0].ci95[0])
    assert np.mean(widths) == pytest.approx(3.92 * np.std(drawn, ddof=1), rel=0.35)


def test_the_same_seed_draws_the_same() -> None:
    features, text = spaces(40)
    assert rank_sets(features, text, draws=20)[1] == rank_sets(features, text, draws=20)[1]
    assert rank_sets(features, text, draws=20, seed=1)[1] != rank_sets(features, text, draws=20)[1]


def test_all_sets_up_to_a_size() -> None:
    assert every_set(3, 2) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(every_set(2, 5)) == 3
    with pytest.raises(UsageError, match="too many: lower --most"):
        every_set(40, 10)


def test_blocks_share_no_picture() -> None:
    for n, count, size in ((24, 2, 12), (63, 2, 31), (200, 6, 32), (1000, 12, 32)):
        blocks = picture_blocks(n)
        assert (len(blocks), {len(block) for block in blocks}) == (count, {size})
        every = np.concatenate(blocks)
        assert len(set(every.tolist())) == len(every)


def test_gw_is_zero_for_the_text_itself_and_larger_for_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "BLOCK", 12)
    features, text = spaces(36)
    found = distort_sets([*features, 2.0 * text], text, [(4,), (0,), (3,), (0, 2)])
    assert found[(4,)].value == pytest.approx(0.0, abs=1e-12)
    assert (found[(0,)].blocks, found[(0,)].size) == (3, 12)
    assert found[0, 2].value < found[(0,)].value
    low, high = found[(3,)].ci95 or (0.0, 0.0)
    assert low < found[(3,)].value < high and found[(3,)].converged
