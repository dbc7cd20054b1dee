"""Multiple choice by letter and by likelihood: what is asked, what is read, what is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import UsageError
from manyeyes.evaluation.asking import choice_modes
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.tables.table import format_table
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.inference.ranking import Likelihood
from manyeyes.world.make import make_world
from oracles import Oracle

Build = Callable[..., tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]]

COLOURS = ("red", "dark red", "a blue one")
ITEM = Item("1", "1.png", "Which colour?", ("red",), "1", candidates=COLOURS)
LETTERED = (
    "Which colour?\nA. red\nB. dark red\nC. a blue one\n"
    "Answer with the option's letter from the given choices directly."
)


class Ranking(Oracle):
    """Finds the true answer likely with the image; without it, the first candidate."""

    def rank(self, items: Sequence[Item], *, with_images: bool) -> list[list[Likelihood]]:
        self.asked += [(item.id, with_images) for item in items]
        return [
            [
                Likelihood(-1.0 - 2.0 * (text not in (item.references if with_images else "")), 2)
                for text in item.candidates
            ]
            for item in items
        ]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        *(("B", 1), ("b", 1), ("B.", 1), ("(B)", 1), (" B. dark red\nmore", 1), ("(C) a", 2)),
        *(("The answer is B", 1), ("Answer: C.", 2), ("red", 0), ("Dark red.", 1)),
        *(("A", 0), ("A blue one", 2), ("A dog", None), ("D", None), ("", None), ("red one", None)),
    ],
)
def test_letters_are_read(raw: str, place: int | None) -> None:
    assert choice_modes.read_letter(raw, COLOURS) == place


def test_candidates_are_listed_once() -> None:
    item = choice_modes.lettered(ITEM)
    assert item.prompt == LETTERED
    assert choice_modes.lettered(item) is item
    with pytest.raises(UsageError, match="27 candidates"):
        choice_modes.lettered(replace(ITEM, candidates=("x",) * 27))


def test_predictions_are_the_text_or_what_the_benchmark_makes_of_losses() -> None:
    benchmark = get_benchmark("vsr")
    raw = json.dumps({"log_p": [-3.0, -4.0, -4.5], "tokens": [1, 2, 3]})

    def predicted(mode: choice_modes.ChoiceMode, raw: str = raw, **changes: Any) -> Any:
        return choice_modes.prediction(replace(benchmark, **changes), ITEM, raw, mode)

    assert predicted("loglik") == "red"
    assert predicted("loglik_norm") == "a blue one"
    assert predicted("letter", "B") == "dark red"
    assert predicted("letter", " none of them\n") == "none of them"
    assert predicted("generate", " red\nB") == "red"
    own = {"from_losses": lambda item, losses: {"losses": losses}}
    assert predicted("loglik", **own) == {"losses": [3.0, 4.0, 4.5]}
    assert predicted("loglik_norm", **own) == {"losses": [3.0, 2.0, 1.5]}
    assert predicted("letter", "C", **own) == {"losses": [1.0, 1.0, 0.0]}


def test_ranked_answers_are_scored_recorded_and_shared(world: Path, tmp_path: Path) -> None:
    oracle = Ranking()
    results = evaluate(oracle, ["vsr"], world, "val", tmp_path, choice="loglik")
    entry = results["benchmarks"]["vsr"]
    assert (entry["choice"], entry["model"]["metrics"]["accuracy"]) == ("loglik", 100.0)
    assert entry["text_only"]["metrics"]["accuracy"] < 100.0
    row = rows(tmp_path / "predictions-vsr.jsonl")[0]
    assert row["prediction"] == row["references"][0]
    assert set(json.loads(row["raw"])) == {"log_p", "tokens"}
    asked = len(oracle.asked)
    again = evaluate(oracle, ["vsr"], world, "val", tmp_path, choice="loglik_norm")
    assert again["benchmarks"]["vsr"]["choice"] == "loglik_norm"
    assert len(oracle.asked) == asked
    free = evaluate(oracle, ["vsr"], world, "val", tmp_path)
    assert free["benchmarks"]["vsr"]["choice"] == "generate"
    assert len(oracle.asked) == 2 * asked
    console = Console(width=160)
    with console.capture() as capture:
        console.print(format_table(results))
    assert "choice loglik" in capture.get()


def test_letters_are_asked_and_scored(world: Path, tmp_path: Path) -> None:
    class Letters(Oracle):
        def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
            letters = "AB" if with_images else "XX"
            return [f"{letters[i.candidates.index(i.references[0])]}." for i in items]

    results = evaluate(Letters(), ["vsr"], world, "val", tmp_path, choice="letter")
    entry = results["benchmarks"]["vsr"]
    assert entry["model"]["metrics"]["accuracy"] == 100.0
    assert entry["text_only"]["parse_failures"] == entry["n"]
    row = rows(tmp_path / "predictions-vsr.jsonl")[0]
    assert "\nA. true\nB. false\nAnswer with the option's letter" in row["prompt"]


def test_a_ranking_prompt_replaces_the_one_that_lists_options() -> None:
    listing = replace(
        get_benchmark("vsr"), prompt="{caption}\n{options}", ranking_prompt="{caption}"
    )
    assert listing.checked_prompt("{caption}?") == "{caption}?"
    with pytest.raises(UsageError, match=r"must hold \{caption\}, got"):
        listing.checked_prompt("{options}")
    with pytest.raises(UsageError, match=r"must hold \{caption\}, \{options\}"):
        replace(listing, ranking_prompt=None).checked_prompt("{caption}")


def test_modes_that_do_not_fit_are_refused_before_anything_is_asked(
    world: Path, tmp_path: Path
) -> None:
    oracle = Oracle()
    with pytest.raises(UsageError, match="did you mean 'loglik'"):
        evaluate(oracle, ["vsr"], world, "val", tmp_path, choice="loglike")
    with pytest.raises(UsageError, match="'vqa' has questions without candidates"):
        evaluate(Ranking(), ["vsr", "vqa"], world, "val", tmp_path, choice="loglik")
    with pytest.raises(UsageError, match="a predictor that gives likelihoods"):
        evaluate(oracle, ["vsr"], world, "val", tmp_path, choice="loglik")
    assert oracle.asked == []


RANKED = {
    **dict.fromkeys(("aokvqa", "pope", "seed-bench", "vsr"), "test"),
    **dict.fromkeys(("identification", "mmbench", "mme", "visdial"), "test"),
    "iconqa": "choose_txt_test",
}
"""Benchmarks with candidates, and a split of the world's files for each."""


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with the files of all formats."""
    folder = tmp_path_factory.mktemp("choices") / "world"
    make_world(folder, images={"test": 5}, seed=3, formats=("all",))
    return folder


class TrueRanking(Ranking):
    """Finds the right candidate likely, wherever the benchmark says which it is."""

    def rank(self, items: Sequence[Item], *, with_images: bool) -> list[list[Likelihood]]:
        return [
            [Likelihood(-float(place != right(item)), 1) for place in range(len(item.candidates))]
            for item in items
        ]


def right(item: Item) -> int:
    known = item.meta.get("right", item.groups.get("answer", item.references[0]))
    if isinstance(known, int):
        return known
    texts = [text.lower() for text in item.candidates]
    return texts.index(known.lower()) if known.lower() in texts else "ABCDEFGH".index(known)


@pytest.mark.parametrize("name", sorted(RANKED))
def test_the_right_candidate_scores_the_maximum_and_can_be_scored_again(
    formats: Path, tmp_path: Path, name: str
) -> None:
    options: dict[str, Any] = {"text_only": False, "choice": "loglik_norm"}
    results = evaluate(TrueRanking(), [name], formats, RANKED[name], tmp_path, **options)
    entry = results["benchmarks"][name]
    found = entry["model"]["metrics"]
    best = {"mme": 800.0}.get(name, 100.0)
    headline = "multiple_choice" if name == "aokvqa" else entry["metric"]
    assert found[headline] == pytest.approx(best)
    if get_benchmark(name).ranking_prompt is not None:
        assert "\nA. " not in rows(tmp_path / f"predictions-{name}.jsonl")[0]["prompt"]
    again = get_benchmark(name).load(tmp_path / f"predictions-{name}.jsonl")
    items = get_benchmark(name).items(formats, RANKED[name])
    scores = get_benchmark(name).score(items, again).scores
    assert {score.metric: score.value for score in scores} == found


@pytest.mark.parametrize("language", ["llama", "t5"])
def test_a_model_ranks_the_worlds_statements(
    build: Build, parts: Path, world: Path, tmp_path: Path, language: str
) -> None:
    """Batch sizes and order change nothing; each image is encoded once, whatever is asked of it."""
    model, processor = build(language={"checkpoint": str(parts / language)})
    items = get_benchmark("vsr").items(world, "val")[:12]
    encoded: list[int] = []
    model.encoders["clip"].register_forward_pre_hook(lambda _, args: encoded.append(len(args[0])))
    large = ModelPredictor(model, processor).rank(items, with_images=True)
    assert sum(encoded) == len({item.image for item in items})
    small = ModelPredictor(model, processor, batch_size=3, image_batch=2)
    pairs = list(zip(large, small.rank(items[::-1], with_images=True)[::-1], strict=True))
    for one, other in pairs:
        torch.testing.assert_close(
            torch.tensor([x.total for x in one]), torch.tensor([x.total for x in other])
        )
    results = evaluate(small, ["vsr"], world, "val", tmp_path, limit=6, choice="loglik_norm")
    assert results["benchmarks"]["vsr"]["model"]["parse_failures"] == 0
