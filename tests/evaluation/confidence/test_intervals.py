"""Golden vector of the statistics module, and the properties its formulas promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence import intervals
from manyeyes.evaluation.confidence.families import (
    Effect,
    alone_only,
    alone_sentence,
    claimed_sign,
    holm,
    judge_family,
)

A = [int(digit) for digit in "110100111011"]
B = [int(digit) for digit in "100100011101"]
CLUSTERS = list("111222333444")


def test_golden_means_and_standard_errors() -> None:
    plain_a, plain_b = intervals.estimate_mean(A), intervals.estimate_mean(B)
    assert plain_a.mean == pytest.approx(0.666667, abs=1e-6)
    assert plain_b.mean == pytest.approx(0.5)
    assert plain_a.se == pytest.approx(0.142133811, abs=1e-9)
    assert plain_b.se == pytest.approx(0.150755672, abs=1e-9)
    half_width = 1.96 * plain_a.se
    assert plain_a.ci95 == pytest.approx((plain_a.mean - half_width, plain_a.mean + half_width))


def test_golden_clustered_standard_errors() -> None:
    assert intervals.estimate_mean(A, CLUSTERS).se == pytest.approx(0.124789385, abs=1e-9)
    assert intervals.estimate_mean(B, CLUSTERS).se == pytest.approx(0.094012679, abs=1e-9)


def test_golden_paired_difference() -> None:
    plain = intervals.paired_difference(A, B)
    assert plain.estimate.mean == pytest.approx(0.1666667, abs=1e-6)
    assert plain.estimate.se == pytest.approx(0.166666667, abs=1e-9)
    assert plain.p == pytest.approx(0.338800696, abs=1e-9)
    clustered = intervals.paired_difference(A, B, CLUSTERS)
    assert clustered.estimate.se == pytest.approx(0.096225045, abs=1e-9)


def test_golden_mcnemar() -> None:
    result = intervals.mcnemar(A, B)
    assert (result.only_a, result.only_b) == (3, 1)
    assert result.exact_p == pytest.approx(0.625)
    assert result.mid_p == pytest.approx(0.375)


def test_mcnemar_without_discordant_pairs_or_with_equal_ones() -> None:
    assert intervals.mcnemar([1, 0], [1, 0]).exact_p == 1.0
    assert intervals.mcnemar([1, 0], [0, 1]).mid_p == 1.0
    with pytest.raises(UsageError, match="0 or 1"):
        intervals.mcnemar([0.5], [1])


def test_binary_standard_error_is_nearly_the_binomial_one() -> None:
    scores = [1] * 700 + [0] * 300
    assert intervals.estimate_mean(scores).se == pytest.approx(math.sqrt(0.21 / 1000), rel=1e-3)


def test_singleton_clusters_equal_no_clusters_and_repeats_widen() -> None:
    alone = intervals.estimate_mean(A, [str(i) for i in range(12)])
    assert alone.se == pytest.approx(intervals.estimate_mean(A).se)
    repeated = intervals.estimate_mean(np.repeat(A, 4), np.repeat(np.arange(12), 4).astype(str))
    assert repeated.se > intervals.estimate_mean(np.repeat(A, 4)).se


def test_one_cluster_leaves_no_interval() -> None:
    estimate = intervals.estimate_mean(A, ["same"] * 12)
    assert estimate.ci95 is None and math.isnan(estimate.se)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0, 100.0])
def test_equal_scores_have_no_interval_of_width_zero(score: float) -> None:
    scores, clusters = np.full(60, score), [str(i // 3) for i in range(60)]
    estimate = intervals.estimate_mean(scores, clusters)
    assert (estimate.mean, estimate.se, estimate.ci95) == (pytest.approx(score), 0.0, None)

    def mean(weights: np.ndarray) -> float:
        return float(weights @ scores / weights.sum())

    assert intervals.cluster_bootstrap(mean, clusters, draws=50) is None


def test_a_share_of_0_or_1_has_the_exact_interval() -> None:
    # Clopper and Pearson for 0 of 10: the "rule of three" with both tails
    assert intervals.unanimous_interval(0.0, 10) == pytest.approx((0.0, 0.3084971), abs=1e-7)
    assert intervals.unanimous_interval(1.0, 10) == pytest.approx((0.6915029, 1.0), abs=1e-7)
    assert (1 - intervals.unseen_share(19)) ** 19 == pytest.approx(0.025)
    assert intervals.unanimous_interval(0.5, 10) is None
    assert intervals.unanimous_interval(0.0, 1) is None


def test_few_differing_clusters_cannot_be_sure() -> None:
    # all 4 differences of 100 items point one way: chance alone does so in 2 of 16 cases
    better = np.zeros(100)
    better[:4] = 1.0
    found = intervals.paired_difference(better, np.zeros(100))
    assert found.p == 2 / 16 == intervals.mcnemar(better, np.zeros(100)).exact_p
    assert intervals.paired_difference(better, np.zeros(100), ["a"] * 4 + list("bc") * 48).p == 1.0


def test_order_of_items_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(12)
    shuffled = intervals.estimate_mean(np.array(A)[order], [CLUSTERS[i] for i in order])
    assert shuffled.se == pytest.approx(intervals.estimate_mean(A, CLUSTERS).se)


def test_bootstrap_of_a_mean_agrees_with_the_formula() -> None:
    scores = np.random.default_rng(1).random(400)
    clusters = [str(i // 2) for i in range(400)]

    def mean(weights: np.ndarray) -> float:
        return float(weights @ scores / weights.sum())

    interval = intervals.cluster_bootstrap(mean, clusters, draws=2000, seed=3)
    assert interval is not None
    low, high = interval
    estimate = intervals.estimate_mean(scores, clusters)
    assert (high - low) == pytest.approx(2 * 1.96 * estimate.se, rel=0.1)
    assert intervals.cluster_bootstrap(mean, clusters, draws=50, seed=3) == (
        intervals.cluster_bootstrap(mean, clusters, draws=50, seed=3)
    )


def test_paired_bootstrap_sees_a_clear_difference_and_no_difference() -> None:
    clusters = [str(i) for i in range(60)]
    better, worse = np.ones(60), np.zeros(60)

    def share_of(scores: np.ndarray) -> intervals.Statistic:
        return lambda weights: float(weights @ scores / weights.sum())

    clear = intervals.paired_bootstrap(share_of(better), share_of(worse), clusters, draws=200)
    assert clear.difference == 1.0 and clear.p == 2.0**-59 and clear.ci95 is None
    same = intervals.paired_bootstrap(share_of(better), share_of(better), clusters, draws=200)
    assert same.p == 1.0 and same.ci95 is None


def test_holm_adjusts_step_down_and_keeps_names() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert list(adjusted) == ["a", "b", "c"]


def test_a_family_is_judged_together_and_what_was_not_tested_stays_out() -> None:
    found = judge_family(
        {
            "clear": Effect(2.0, (1.0, 3.0), 0.01),
            "close": Effect(-2.0, (-3.0, -0.1), 0.03),
            "lost": Effect(1.0, None, None),
            "nan": Effect(1.0, None, math.nan),
        }
    )
    assert (found["clear"].p, found["clear"].sign) == (0.02, 1)
    assert (found["close"].p, found["close"].sign) == (0.03, -1)
    assert found["lost"].sign == found["nan"].sign == 0
    assert math.isnan(found["lost"].p) and math.isnan(found["nan"].p)


def test_a_difference_is_claimed_by_p_and_interval_together() -> None:
    assert claimed_sign(2.0, (0.1, 3.9), 0.04) == 1
    assert claimed_sign(2.0, (0.1, 3.9), 0.05) == 0
    assert claimed_sign(2.0, (-0.1, 4.1), 0.04) == 0
    assert claimed_sign(-2.0, None, 0.04) == -1


def test_why_an_interval_leaves_0_out_where_nothing_is_claimed() -> None:
    # p 0.04 alone, twice: 0.08 together, though both intervals leave 0 out
    effects = {name: Effect(2.0, (0.1, 3.9), 0.04) for name in "ab"}
    judged = judge_family(effects)
    assert [alone_only(effects[name].ci95, one.sign) for name, one in judged.items()] == [True] * 2
    assert not alone_only((0.1, 3.9), 1) and not alone_only((-0.1, 3.9), 0)
    assert not alone_only(None, 0)
    assert alone_sentence(0, 2, "x") == ""
    assert alone_sentence(2, 2, "it is open") == (
        "2 intervals leave 0 out where it is open: an interval is of its comparison alone, the "
        "verdict holds for all 2 together."
    )
    assert alone_sentence(1, 9, "it is open").startswith("1 interval leaves 0 out where it is open")


def test_power_and_minimum_detectable_difference_are_inverse() -> None:
    sd = intervals.difference_sd(0.5, 0.5, 0.5)
    assert sd == pytest.approx(0.5)
    delta = intervals.minimum_detectable_difference(sd, 1000)
    assert delta == pytest.approx((1.96 + 0.8416) * 0.5 / math.sqrt(1000), rel=1e-4)
    assert intervals.required_items(sd, delta * 1.0001) == 1000


@pytest.mark.parametrize("scores", [[], [float("nan")], [[1.0]]])
def test_bad_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(UsageError):
        intervals.estimate_mean(scores)


def test_wrong_number_of_clusters_is_refused() -> None:
    with pytest.raises(UsageError, match="2 cluster labels for 3 scores"):
        intervals.estimate_mean([1, 0, 1], ["a", "b"])


def test_pairs_must_match_and_degenerate_differences_have_no_test() -> None:
    for compare in (intervals.paired_difference, intervals.mcnemar):
        with pytest.raises(UsageError, match="differ in number: 2 and 1"):
            compare([1, 0], [1])
    assert math.isnan(intervals.paired_difference([1], [0]).p)
    assert intervals.paired_difference([1, 1], [0, 0]).p == 0.5, "two coins may agree"
    assert intervals.paired_difference([1, 1], [1, 1]).p == 1.0


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(UsageError, match="difference of 0"):
        intervals.required_items(0.5, 0.0)
    with pytest.raises(UsageError, match="at least 1"):
        intervals.minimum_detectable_difference(0.5, 0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        intervals.minimum_detectable_difference(0.5, 10, power=1.0)
    with pytest.raises(UsageError, match="at least one item"):
        intervals.cluster_bootstrap(lambda weights: 0.0, [])


def test_the_interval_of_a_share_stays_between_nothing_and_all() -> None:
    nearly = intervals.estimate_mean([1.0] * 19 + [0.0])
    assert nearly.ci95 is not None and nearly.ci95[1] > 1.0
    assert intervals.share_interval(nearly) == (nearly.ci95[0], 1.0)
    hardly = intervals.estimate_mean([0.0] * 19 + [1.0])
    low, high = intervals.share_interval(hardly) or (1.0, 1.0)
    assert low == 0.0 and high == pytest.approx(1.0 - nearly.ci95[0])
    assert intervals.share_interval(intervals.estimate_mean([1.0] * 10)) == pytest.approx(
        (0.6915029, 1.0), abs=1e-7
    )
