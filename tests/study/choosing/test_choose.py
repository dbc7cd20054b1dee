"""A choice from pictures to the next comparison, and a finished study's word on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioned import save_captioned
from manyeyes.errors import DataError
from manyeyes.recipes import load_recipe
from manyeyes.recipes.yaml_io import read_yaml
from manyeyes.study.choosing.candidates import Candidates, find_candidates
from manyeyes.study.choosing.choose import Asked, choose
from manyeyes.study.choosing.judging import judge_choice, write_judgement
from manyeyes.study.choosing.notes import headline
from manyeyes.study.choosing.pairs import read_pairs
from manyeyes.study.choosing.record import Choice, ChosenEncoder, RankedSet
from manyeyes.study.choosing.short_list import Setting, arms_of, next_command, short_list
from manyeyes.study.choosing.texts import text_reader
from manyeyes.study.choosing.written import read_choice, write_choice
from manyeyes.study.comparison.summary import summarize
from manyeyes.study.trials.contestants import read_arms
from study_arms import write_recipe
from study_trials import write_study


@pytest.fixture(scope="module")
def asked(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("choosing")
    recipe = write_recipe(folder, parts, "clip+dinov2")
    data = save_captioned(folder / "pictures", 28)
    candidates = find_candidates([recipe, f"clip={parts / 'clip'}"])
    reader = text_reader(str(parts / "llama"), [0, 1])
    return Asked(
        candidates, read_pairs([data], count=26), reader, Setting("world", str(parts / "llama"))
    )


def test_a_choice_is_written_and_read_back(asked: Asked, tmp_path: Path) -> None:
    found = write_choice(choose(asked), asked.setting, tmp_path)
    assert len(found.encoders) == 3 and len(found.sets) == 6
    assert [one.score for one in found.sets] == sorted((s.score for s in found.sets), reverse=True)
    table = np.array(found.similarity)
    assert table.shape == (4, 4) and np.allclose(np.diag(table), 1.0)
    for one in found.encoders:
        single = next(s for s in found.sets if s.encoders == (one.name,))
        assert one.language[0] == pytest.approx(single.score)
        assert single.distortion is not None and single.patches == 16
    for one in found.sets:
        assert found.score_of(one.encoders) == pytest.approx(one.score)
        assert one.operations == pytest.approx(sum(_operations(found, one.encoders)))
    assert read_choice(tmp_path) == found
    text = (tmp_path / "table.md").read_text()
    assert headline(found) in text and "CKA, text level 1" in text
    page = (tmp_path / "report.html").read_text()
    assert found.best.name in page and "http" not in page.partition("<body>")[2]


def _operations(choice: Choice, names: Sequence[str]) -> list[float]:
    return [one.operations for one in choice.encoders if one.name in names]


def test_operations_are_those_of_the_costs(asked: Asked) -> None:
    """2 per parameter and token, and 4 L T^2 D for attention: 3 blocks of width 16, 17 tokens."""
    found = choose(asked)
    clip = next(one for one in found.encoders if one.family == "clip")
    assert clip.operations == 2.0 * clip.parameters * 17 + 4.0 * 3 * 17**2 * 16


def test_the_arms_of_the_short_list_load(asked: Asked, tmp_path: Path) -> None:
    found = write_choice(choose(asked), asked.setting, tmp_path)
    assert 2 <= len(found.arms) <= 4 and found.command.startswith("manyeyes compare")
    arms = {arm.name: arm for arm in read_arms(tmp_path / "arms.yaml")}
    assert len(arms) + sum(not arm.settings for arm in found.arms) == len(found.arms)
    for chosen in found.arms:
        if chosen.settings:
            model = arms[chosen.name].load(seed=0).model
            assert len(model["encoders"]) == len(chosen.encoders)
            assert all(len(entry["levels"]) == 1 for entry in model["encoders"])


def ranked(encoders: Sequence[str], score: float, tied: bool = False) -> RankedSet:
    return RankedSet(tuple(encoders), score, None, 0.0, None, tied, 1, 1.0, 1)


def world_candidates(*sources: str) -> Candidates:
    return find_candidates(sources)


def test_a_recipe_that_was_named_is_its_own_arm() -> None:
    candidates = world_candidates("clip/world", "dinov2/world", "mae=world:mae")
    sets = [ranked(names, 1.0, tied=True) for names in (("clip",), ("mae",), ("clip", "dinov2"))]
    arms, why = arms_of(sets, candidates, Setting("world"))
    assert not why and [arm.recipe for arm in arms] == ["clip/world", "clip/world", "concat/world"]
    assert arms[0].settings == ()
    mae, pair = (load_recipe(arm.recipe, arm.settings) for arm in arms[1:])
    assert mae.model["encoders"][0]["checkpoint"] == "world:mae" and not mae.stages[0].start
    assert [e["name"] for e in pair.model["encoders"]] == ["clip", "dinov2"]
    setting = Setting("world", data=("--data", "my data"))
    assert next_command(arms, setting, Path("out")) == (
        "manyeyes compare clip/world --arms out/arms.yaml --data 'my data' --out study"
    )
    assert next_command(arms[:1], setting, Path("out")) == ""


def test_another_language_model_is_set_in_the_arms() -> None:
    candidates = world_candidates("clip/world", "dinov2/world")
    (arm,), _ = arms_of([ranked(["clip"], 1.0)], candidates, Setting("world", "other/model"))
    model = load_recipe(arm.recipe, arm.settings).model
    assert model["language"]["checkpoint"] == "other/model"
    (same,), _ = arms_of([ranked(["clip"], 1.0)], candidates, Setting("world", "world:language"))
    assert same.settings == ()


def test_a_set_without_a_recipe_of_its_size_is_told() -> None:
    candidates = world_candidates("clip/world", "dinov2/world")
    arms, why = arms_of([ranked(["clip", "dinov2"], 1.0)], candidates, Setting("huge"))
    assert not arms and "clip + dinov2: no arm can be written" in why[0]


def test_the_short_list_holds_ties_and_the_best_single_encoder() -> None:
    names = [("a", "b"), ("a", "c"), ("a",), ("b",), ("c",)]
    sets = [ranked(one, 1.0 - 0.1 * i, tied=i < 2) for i, one in enumerate(names)]
    assert [one.encoders for one in short_list(sets)] == [("a", "b"), ("a", "c"), ("a",)]
    alone = [ranked(one, 1.0, tied=i == 0) for i, one in enumerate(names[2:])]
    assert [one.encoders for one in short_list(alone)] == [("a",), ("b",)]
    many = [ranked((str(i), "x"), 1.0, tied=True) for i in range(9)] + [ranked(("0",), 0.1)]
    assert len(short_list(many)) == 4 and short_list(many)[-1].encoders == ("0",)


LIKE_TEXT = {"clip": 0.3, "dinov2": 0.5, "mae": 0.1}


def choice(like: Mapping[str, float] = LIKE_TEXT, among: float = 0.2) -> Choice:
    """A choice among world encoders, which had scored so."""
    n = len(like)
    table = np.full((n + 1, n + 1), among)
    table[n, :n] = table[:n, n] = list(like.values())
    np.fill_diagonal(table, 1.0)
    encoders = tuple(
        ChosenEncoder(name, f"{name}/world", name, f"world:{name}", 5, "pad", (8, 8), {}, 1, 1.0)
        for name in like
    )
    sets = tuple(ranked([name], score) for name, score in like.items())
    rows = tuple(tuple(map(float, row)) for row in table)
    facts: dict[str, Any] = {"pictures": 30}
    return Choice(encoders, sets, rows, "world:language", (0,), (), "", (), facts=facts)


def test_a_study_of_three_sets_is_too_small_to_judge(tmp_path: Path) -> None:
    write_study(tmp_path, good={"clip": 0.4, "dinov2": 0.6, "comm": 0.9})
    found = judge_choice(choice(), summarize(tmp_path))
    assert [one.encoders for one in found.sets] == [("clip",), ("dinov2",), ("clip", "dinov2")]
    first, *others = found.sentences()
    assert others == [] and "3 sets are too few for a rank correlation; 4 are needed" in first
    assert "Trained order: clip + dinov2 > dinov2 > clip." in first


def test_a_study_says_how_well_it_was_predicted(tmp_path: Path) -> None:
    """Predicted: clip + dinov2 (0.516), dinov2, clip, clip + mae (0.258); trained the same way."""
    good = {"xformer": 0.2, "clip": 0.4, "dinov2": 0.7, "comm": 0.9, "concat": 0.9, "nothing": 0.5}
    write_study(tmp_path, good=good)
    found = judge_choice(choice(), summarize(tmp_path))
    pair = next(one for one in found.sets if one.encoders == ("clip", "dinov2"))
    assert pair.arms == ("comm", "concat"), "arms of one set are one point"
    assert pair.predicted["score"] == pytest.approx(0.8 / np.sqrt(2.4))
    overall = found.predictions[0].found
    assert (overall.n, overall.rho) == (4, pytest.approx(1.0))
    assert overall.p == pytest.approx(2 / 24)
    assert "recipe cannot be read here" in found.left_out["nothing"]
    assert any("rank correlation 1.00 over 4 sets (chance alone" in s for s in found.sentences())
    write_judgement(found, choice(), tmp_path)
    assert "exact p = 0.083" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "judged.json").read_text())["sets"][0]["arms"] == ["xformer"]


def test_a_study_of_other_encoders_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, good={"clip": 0.4, "dinov2": 0.6})
    with pytest.raises(DataError, match=r"trained 1 of .* 'dinov2' is none of this choice"):
        judge_choice(choice({"clip": 0.3, "mae": 0.2}), summarize(tmp_path))


def test_yaml_of_the_arms_is_plain(asked: Asked, tmp_path: Path) -> None:
    write_choice(choose(asked), asked.setting, tmp_path)
    blocks = read_yaml(tmp_path / "arms.yaml")
    assert all(set(block) == {"recipe", "set"} for block in blocks.values())
