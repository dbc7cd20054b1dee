"""Benchmarks in their published files: what the truth, silence, another order of rows score."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmark_files import FILES
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.tables.comparison import compare_predictions
from manyeyes.images.reading import load_image
from manyeyes.inference.questions import Item

NAMES = sorted(FILES)


class Written:
    """A folder for each benchmark, and its items, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._items: dict[str, list[Item]] = {}

    def folder(self, name: str) -> Path:
        return self.root / name

    def items(self, name: str) -> list[Item]:
        if name not in self._items:
            write, split = FILES[name]
            write(self.folder(name))
            self._items[name] = BENCHMARKS[name].items(self.folder(name), split)
        return self._items[name]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("published"))


def truth(asked: list[Item]) -> dict[str, Prediction]:
    return {item.id: item.references[0] for item in asked}


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_scores_the_maximum(name: str, written: Written) -> None:
    benchmark, asked = BENCHMARKS[name], written.items(name)
    result = benchmark.score(asked, truth(asked))
    assert result.headline.metric == benchmark.metric
    assert result.headline.value == pytest.approx(100.0)
    assert result.parse_failures == 0
    assert result.n == len(result.per_item) > 0
    for item in asked:
        for image in item.images:
            assert load_image(image).size == (8, 6)
        assert len(set(item.images)) == len(item.images)


@pytest.mark.parametrize("name", NAMES)
def test_silence_scores_nothing(name: str, written: Written) -> None:
    asked = written.items(name)
    result = BENCHMARKS[name].score(asked, {item.id: "" for item in asked})
    assert result.headline.value == 0.0
    assert set(result.per_item.values()) == {0.0}
    errors = ("MAE", "RMSE")
    assert all(score.value == 0.0 for score in result.scores if score.metric not in errors)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_changes_nothing(name: str, written: Written) -> None:
    benchmark, asked = BENCHMARKS[name], written.items(name)
    answers = {**truth(asked), **dict.fromkeys([item.id for item in asked][::3], "nothing")}
    forwards = benchmark.score(asked, answers).to_json()
    shuffled = random.Random(1).sample(asked, len(asked))
    backwards = benchmark.score(shuffled, dict(reversed(answers.items()))).to_json()
    assert backwards["metrics"] == pytest.approx(forwards["metrics"])
    assert backwards["by"] == {key: pytest.approx(value) for key, value in forwards["by"].items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_best_constant_answer_is_below_the_truth(name: str, written: Written) -> None:
    benchmark, asked = BENCHMARKS[name], written.items(name)
    constant = benchmark.baseline(asked, written.folder(name), FILES[name][1])
    assert benchmark.score(asked, constant.answers).headline.value < 100.0


def test_answers_that_may_be_long_are_not_cut(written: Written) -> None:
    """A formula or an address has more than the 16 tokens of a short answer."""
    long = {name for name in NAMES if written.items(name)[0].answer == "long"}
    assert long == {"docvqa", "infovqa", "ocrbench"}


@pytest.mark.parametrize("name", [name for name in NAMES if BENCHMARKS[name].unit is not None])
def test_a_limit_keeps_what_is_scored_as_a_whole(name: str, written: Written) -> None:
    benchmark, asked = BENCHMARKS[name], written.items(name)
    key = benchmark.unit or ""
    sizes = {item.meta[key]: 0 for item in asked}
    for item in asked:
        sizes[item.meta[key]] += 1
    kept = benchmark.items(written.folder(name), FILES[name][1], limit=len(asked) // 2)
    assert 0 < len(kept) < len(asked)
    for unit in {item.meta[key] for item in kept}:
        assert sum(item.meta[key] == unit for item in kept) == sizes[unit]


@pytest.mark.parametrize("name", NAMES)
def test_two_sets_of_answers_compare(name: str, written: Written) -> None:
    """The truth against silence: every metric by the difference of its two values."""
    benchmark, asked = BENCHMARKS[name], written.items(name)
    right, silent = truth(asked), {item.id: "" for item in asked}
    values = [benchmark.score(asked, said).to_json()["metrics"] for said in (right, silent)]
    found = compare_predictions(benchmark, asked, right, silent, draws=20)
    compared = {metric.metric: metric.difference for metric in found.metrics}
    assert set(compared) == set(values[0])
    for metric, difference in compared.items():
        assert abs(difference) == pytest.approx(abs(values[1][metric] - values[0][metric])), metric


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in NAMES for variant in BENCHMARKS[name].variants[1:]],
)
def test_the_truth_under_the_other_variants(name: str, variant: str, written: Written) -> None:
    """Where the release is wrong, its answers are, when corrected: two rows of MMVP here."""
    benchmark, asked = BENCHMARKS[name], written.items(name)
    result = benchmark.score(asked, truth(asked), variant=variant)
    assert result.variant == variant
    wrong = 50.0 if (name, variant) == ("mmvp", "corrected") else 0.0
    assert result.headline.value == pytest.approx(100.0 - wrong)
