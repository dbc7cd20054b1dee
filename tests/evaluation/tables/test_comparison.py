"""Two sets of predictions compared: golden figures, corpus metrics, and what must not change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.confidence import intervals
from manyeyes.evaluation.confidence.families import holm
from manyeyes.evaluation.tables.comparison import Comparison, compare_predictions
from manyeyes.evaluation.tables.paired_grades import BOOTSTRAP, T_TEST
from manyeyes.evaluation.tables.table import format_comparison
from manyeyes.inference.questions import Item
from manyeyes.records import Score

A, B, CLUSTERS = "110100111011", "100100011101", "111222333444"
CAPTIONS = {
    "1": ("A red cube is left of a blue sphere.", "A red cube beside a blue sphere"),
    "2": ("Two green cylinders stand on a grey floor.", "two green cylinders"),
    "3": ("A small yellow ball behind a large cube.", "a yellow ball behind a cube"),
    "4": ("A purple cone on the floor.", "one purple cone"),
}


def questions(number: int = 12, clusters: Sequence[str] = CLUSTERS) -> list[Item]:
    """Yes/no questions of which every right answer is "yes"."""
    return [
        Item(str(i), f"{clusters[i]}.png", "Is it?", ("yes",), clusters[i], groups={"set": "all"})
        for i in range(number)
    ]


def answers(digits: str, truth: str = "yes") -> dict[str, str]:
    """Right answers where the digit is 1."""
    wrong = "no" if truth == "yes" else "yes"
    return {str(i): truth if digit == "1" else wrong for i, digit in enumerate(digits)}


def captions() -> list[Item]:
    return [
        Item(key, f"{key}.png", "Describe.", texts, key, answer="caption")
        for key, texts in CAPTIONS.items()
    ]


def show(comparison: Comparison) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(format_comparison(comparison))
    return capture.get()


def test_golden_vector_of_a_mean_metric() -> None:
    found = compare_predictions(get_benchmark("exact"), questions(), answers(A), answers(B))
    headline = found.headline
    assert (found.benchmark, headline.metric, headline.test) == ("exact", "accuracy", T_TEST)
    assert (headline.n, headline.clusters) == (12, 4)
    assert headline.a == pytest.approx(66.6667, abs=1e-4)
    assert headline.b == pytest.approx(50.0)
    assert headline.difference == pytest.approx(16.6667, abs=1e-4)
    assert headline.se == pytest.approx(9.6225045, abs=1e-6)
    assert headline.ci95 == pytest.approx(
        (16.6666667 - 1.96 * 9.6225045, 16.6666667 + 1.96 * 9.6225045), abs=1e-5
    )
    assert headline.mcnemar == intervals.McNemar(3, 1, pytest.approx(0.625), pytest.approx(0.375))
    assert headline.detectable == pytest.approx(2.8016 * 9.6225045, rel=1e-4)
    assert headline.items_required == intervals.required_items(9.6225045 * 12**0.5, 16.6666667)
    assert headline.correlation == pytest.approx(
        np.corrcoef(list(map(int, A)), list(map(int, B)))[0, 1]
    )


def test_one_item_per_image_gives_the_unclustered_p_and_no_caveat() -> None:
    items = questions(clusters=[str(i) for i in range(12)])
    found = compare_predictions(get_benchmark("exact"), items, answers(A), answers(B))
    assert found.headline.se == pytest.approx(16.6666667, abs=1e-6)
    assert found.headline.p == pytest.approx(0.338800696, abs=1e-9)
    assert not any("McNemar" in note for note in found.notes)


def test_shared_images_bring_mcnemars_caveat() -> None:
    found = compare_predictions(get_benchmark("exact"), questions(), answers(A), answers(B))
    assert any("McNemar" in note for note in found.notes)
    assert any("only 4 clusters" in note for note in found.notes)
    assert found.to_json()["metrics"]["accuracy"]["mcnemar"]["ignores_clusters"] is True


def test_corpus_metrics_equal_a_bootstrap_that_grades_anew() -> None:
    """Weights stand for repeated items: F1 on the drawn items themselves is the oracle."""
    items = questions()
    first, second = answers(A), answers(B)
    labelled = [
        replace(item, references=("yes" if i % 2 else "no",)) for i, item in enumerate(items)
    ]
    found = compare_predictions(
        get_benchmark("pope"), labelled, first, second, metrics=["f1"], draws=300, seed=7
    )
    (metric,) = found.metrics
    assert metric.test == BOOTSTRAP and metric.mcnemar is None

    def f1(given: dict[str, str], weights: np.ndarray) -> float:
        both = yes = truly = 0
        for item, weight in zip(labelled, weights.astype(int), strict=True):
            for _ in range(weight):
                said, true = given[item.id] == "yes", item.references[0] == "yes"
                both, yes, truly = both + (said and true), yes + said, truly + true
        return 100 * 2 * both / (yes + truly) if yes + truly else 0.0

    expected = intervals.paired_bootstrap(
        lambda w: f1(first, w), lambda w: f1(second, w), list(CLUSTERS), draws=300, seed=7
    )
    assert metric.difference == pytest.approx(expected.difference)
    assert metric.ci95 == pytest.approx(expected.ci95)
    assert (metric.p, metric.se) == (pytest.approx(expected.p), pytest.approx(expected.se))


def test_captions_are_compared_by_cider_with_its_corpus() -> None:
    good = {key: texts[0] for key, texts in CAPTIONS.items()}
    poor = {**good, "1": "a dog", "2": "a dog"}
    benchmark, items = get_benchmark("caption"), captions()
    found = compare_predictions(benchmark, items, good, poor, draws=200)
    names = [metric.metric for metric in found.metrics]
    assert names == ["CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    scores = {score.metric: score.value for score in benchmark.score(items, good).scores}
    assert {m.metric: m.a for m in found.metrics} == pytest.approx(scores)
    assert found.headline.test == BOOTSTRAP and found.metrics[-1].test == T_TEST
    assert found.headline.difference > 0


def test_a_mean_over_other_items_for_each_model_is_bootstrapped() -> None:
    """A metric that counts only some answers, such as consistency over the right ones."""
    benchmark = get_benchmark("exact")

    def grade(answered: Answers) -> Grade:
        given = zip(answered.items, answered.texts, strict=True)
        kept = [(item, text) for item, text in given if text != "none"]
        values = [float(text == "yes") for _, text in kept]
        return Grade((mean_score("share", values, [item for item, _ in kept]),), values)

    partial = replace(benchmark, grade=grade)
    first = {**answers("1" * 12), "0": "none", "4": "none"}
    found = compare_predictions(partial, questions(), first, answers("1" * 6 + "0" * 6), draws=100)
    assert found.headline.test == BOOTSTRAP
    assert (found.headline.a, found.headline.b) == (100.0, 50.0)


def test_a_metric_that_is_no_function_of_items_is_named_not_compared() -> None:
    benchmark = get_benchmark("exact")

    def grade(answered: Answers) -> Grade:
        own = benchmark.grade(answered)
        return replace(own, scores=(*own.scores, Score("", "speed", 3.0, 12)))

    odd = replace(benchmark, grade=grade)
    found = compare_predictions(odd, questions(), answers(A), answers(B))
    assert [metric.metric for metric in found.metrics] == ["accuracy"]
    assert any(note.endswith("speed") for note in found.notes)
    with pytest.raises(UsageError, match="'speed' to compare"):
        compare_predictions(odd, questions(), answers(A), answers(B), metrics=["speed"])


def test_several_metrics_are_one_family_after_holm() -> None:
    found = compare_predictions(
        get_benchmark("pope"), questions(), answers(A), answers(B), draws=200
    )
    p = {metric.metric: metric.p for metric in found.metrics}
    assert found.family == tuple(p) and len(p) == 5
    assert {m.metric: m.p_holm for m in found.metrics} == holm(p)
    alone = compare_predictions(
        get_benchmark("pope"), questions(), answers(A), answers(B), metrics=["accuracy"], draws=200
    )
    assert alone.family == ("accuracy",) and alone.headline.p_holm == alone.headline.p


def test_equal_predictions_do_not_differ() -> None:
    found = compare_predictions(
        get_benchmark("pope"), questions(), answers(A), answers(A), draws=50
    )
    for metric in found.metrics:
        assert (metric.difference, metric.p) == (0.0, 1.0)
        assert metric.items_required is None
    json.dumps(found.to_json(), allow_nan=False)


def test_swapping_and_shuffling_change_signs_and_nothing() -> None:
    benchmark, items = get_benchmark("exact"), questions()
    there = compare_predictions(benchmark, items, answers(A), answers(B)).headline
    back = compare_predictions(benchmark, items[::-1], answers(B), answers(A)).headline
    assert back.difference == pytest.approx(-there.difference)
    assert (back.p, back.se) == (pytest.approx(there.p), pytest.approx(there.se))
    assert there.mcnemar is not None and back.mcnemar is not None
    assert back.mcnemar.only_a == there.mcnemar.only_b


def test_one_image_leaves_nothing_to_test() -> None:
    items = questions(clusters="1" * 12)
    found = compare_predictions(get_benchmark("pope"), items, answers(A), answers(B))
    assert found.family == ()
    assert all(metric.p is None and metric.ci95 is None for metric in found.metrics)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert '"p": null' in text and "none" in show(found)


def test_missing_and_unknown_predictions_are_refused() -> None:
    benchmark, short = get_benchmark("exact"), answers(A[:-1])
    with pytest.raises(DataError, match="no prediction for 1 ids"):
        compare_predictions(benchmark, questions(), answers(A), short)
    found = compare_predictions(benchmark, questions(), answers(A), short, allow_missing=True)
    assert found.headline.difference == pytest.approx(100 / 12)
    with pytest.raises(DataError, match="unknown ids"):
        compare_predictions(benchmark, questions(), {**answers(A), "99": "yes"}, answers(B))
    with pytest.raises(UsageError, match=r"variant 'strickt'.*strict"):
        compare_predictions(get_benchmark("pope"), questions(), {}, {}, variant="strickt")
    with pytest.raises(UsageError, match="did you mean 'f1'"):
        compare_predictions(
            get_benchmark("pope"), questions(), answers(A), answers(B), metrics=["f2"]
        )


def test_the_table_holds_every_metric_and_its_figures() -> None:
    text = show(compare_predictions(get_benchmark("exact"), questions(), answers(A), answers(B)))
    for figure in ("accuracy", "66.7", "50.0", "+16.7 [-2.2, 35.5]", "0.375", "27.0", "Holm"):
        assert figure in text, figure


def test_box_answers_are_read_in_the_given_style(tmp_path: Path) -> None:
    item: dict[str, Any] = {"answer": "boxes", "target": (0.0, 0.0, 50.0, 50.0), "size": (100, 100)}
    items = [Item(str(i), f"{i}.png", "Where?", (), str(i), **item) for i in range(3)]
    right, wrong = "[000,000,500,500]", "[500,500,999,999]"
    found = compare_predictions(
        get_benchmark("rec"),
        items,
        {str(i): right for i in range(3)},
        {"0": right, "1": wrong, "2": wrong},
        box_style="int1000",
    )
    assert [m.metric for m in found.metrics] == ["accuracy", "mean_iou"]
    assert found.headline.difference == pytest.approx(200 / 3)
