"""Every benchmark for which the world writes files: the truth scores the maximum, silence nothing.

A benchmark of the table that the world has no files for is named in ``NOT_IN_THE_WORLD``; a new one
must be added there or get an answer in ``scene_truth``.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmark_files import FILES
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import BenchmarkResult, Prediction
from manyeyes.inference.questions import Item
from manyeyes.world.emit import SplitWorld
from manyeyes.world.make import make_world
from manyeyes.world.sample import sample_scene
from scene_truth import ANSWERS, Truth

pytestmark = pytest.mark.long

COUNTS = {"train": 4, "val": 6, "test": 14, "compositional": 6, "corner": 6}
SEED = 3
SPLITS = {
    **dict.fromkeys(("coda",), ("compositional", "corner")),
    **dict.fromkeys(("refcoco", "refcoco+", "reg"), ("testA", "testB", "val")),
}
"""Splits to score; ``test`` for all others."""

NOT_IN_THE_WORLD = {
    "boxes": "rows of one's own: test_own_files",
    "conversations": "rows of one's own: test_own_files",
    "question_answer": "rows of one's own: test_own_files",
    "textcaps": "the world has no text to read",
    "textvqa": "the world has no text to read",
    **dict.fromkeys(FILES, "written by benchmark_files: test_published_layouts"),
}
VARIANTS = {"visual7w": "nearest"}
"""Where the truth is not given in the form of the default variant."""

MAXIMA = {"mme": 800.0}
"""Headlines that do not end at 100; MME has four of its subtasks here, 200 points each."""

FLOORS = {"pope": 50.0}
"""What silence scores: under the official rules an empty answer means yes."""

CAPTIONS = {"caption", "coco-caption", "flickr30k-caption", "nocaps", "reg"}
"""One sentence of several is not the consensus of all, so CIDEr has no fixed maximum."""

STRUCTURED = {"coco-detection", "coda"}
"""Where an empty answer is an empty list, and a text says in words that nothing is there."""


class World:
    """A world on disk, what is true of it, and the items of its benchmarks."""

    def __init__(self, folder: Path, truth: Truth) -> None:
        self.folder, self.truth = folder, truth
        self._items: dict[tuple[str, str], list[Item]] = {}

    def items(self, name: str, split: str) -> list[Item]:
        """The items of a benchmark; VQAv2's and OK-VQA's files are the world's VQA files."""
        if (name, split) not in self._items:
            self._items[name, split] = self._read(name, split)
        return self._items[name, split]

    def answers(self, name: str, split: str) -> dict[str, Prediction]:
        """What is true of every item."""
        return {item.id: ANSWERS[name](self.truth, item) for item in self.items(name, split)}

    def _read(self, name: str, split: str) -> list[Item]:
        if name not in ("vqav2", "okvqa"):
            return BENCHMARKS[name].items(self.folder, split)
        stem = self.folder / f"annotations/vqa_{split}"
        files = [f"{stem}_questions.json", f"{stem}_annotations.json"]
        return BENCHMARKS[name].read_files(files)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with the files of all formats."""
    folder = tmp_path_factory.mktemp("all") / "world"
    make_world(folder, images=COUNTS, seed=SEED, formats=("all",))
    splits = {
        name: SplitWorld(name, SEED, tuple(sample_scene(name, i, SEED) for i in range(count)))
        for name, count in COUNTS.items()
    }
    return World(folder, Truth(splits))


def score(name: str, items: list[Item], answers: dict[str, Prediction]) -> BenchmarkResult:
    return BENCHMARKS[name].score(items, answers, variant=VARIANTS.get(name))


CASES = [(name, split) for name in sorted(ANSWERS) for split in SPLITS.get(name, ("test",))]


def test_every_benchmark_of_the_table_is_here_or_named_as_missing() -> None:
    assert set(ANSWERS) | set(NOT_IN_THE_WORLD) == set(BENCHMARKS)


@pytest.mark.parametrize(("name", "split"), CASES)
def test_the_truth_scores_the_maximum(name: str, split: str, whole: World) -> None:
    items = whole.items(name, split)
    assert len(items) >= 4
    result = score(name, items, whole.answers(name, split))
    metrics = result.to_json()["metrics"]
    if name in CAPTIONS:
        assert [metrics["BLEU-4"], metrics["ROUGE-L"]] == pytest.approx([1.0, 1.0])
        assert metrics["CIDEr"] > 1.5
    else:
        assert result.headline.value == pytest.approx(MAXIMA.get(name, 100.0))
    assert result.parse_failures == 0
    assert result.n == len(result.per_item)


@pytest.mark.parametrize(("name", "split"), CASES)
def test_silence_scores_the_minimum(name: str, split: str, whole: World) -> None:
    items = whole.items(name, split)
    nothing: Prediction = [] if name in STRUCTURED else ""
    result = score(name, items, {item.id: nothing for item in items})
    if name == "visdial":  # the right one of 100 candidates comes last
        assert result.headline.value == pytest.approx(1.0)
    else:
        assert result.headline.value == pytest.approx(FLOORS.get(name, 0.0))


@pytest.mark.parametrize(("name", "split"), CASES)
def test_the_order_of_rows_changes_nothing(name: str, split: str, whole: World) -> None:
    items, answers = whole.items(name, split), whole.answers(name, split)
    nothing: Prediction = [] if name in STRUCTURED else ""
    answers.update(dict.fromkeys(list(answers)[::3], nothing))
    forwards = score(name, items, answers).to_json()
    order = list(answers.items())
    random.Random(0).shuffle(order)
    shuffled = random.Random(1).sample(items, len(items))
    backwards = score(name, shuffled, dict(order)).to_json()
    assert backwards["metrics"] == pytest.approx(forwards["metrics"])
    assert backwards["by"] == {k: pytest.approx(v) for k, v in forwards["by"].items()}
    assert backwards["parse_failures"] == forwards["parse_failures"]
