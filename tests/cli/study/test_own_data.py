"""Own rows on the command line: one command from a file and pictures to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli_runs import invoke, the_object
from manyeyes.data.files import read_samples
from manyeyes.recipes import DataSource, load_recipe
from manyeyes.training.arguments import global_batch
from manyeyes.training.own.rows import OwnTraining
from study_arms import write_recipe


def talk(image: Any, question: str, answer: str, **more: Any) -> dict[str, Any]:
    lead = "" if image is None else "<image>\n" * (len(image) if isinstance(image, list) else 1)
    said = [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": said, **more}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Eight pictures of several modes, and rows with a box, two images and none."""
    (tmp_path / "pictures").mkdir()
    rows = []
    for number, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1", "LA", "RGB")):
        name = f"{number}.{'jpg' if mode == 'CMYK' else 'png'}"
        shade = (30 * number, 255 - 30 * number, 90)
        picture = Image.new("RGB", (20 + 3 * number, 16), shade).convert(mode)
        picture.save(tmp_path / "pictures" / name)
        rows.append(talk(name, "Is it red?", ("yes", "no")[number % 2], id=f"q{number}"))
        rows.append(talk(name, "Where?", "<boxes>", id=f"b{number}", boxes=[[[1, 2, 9, 12]]]))
    rows.append(talk(["0.png", "1.png"], "Same?", "no", id="pair"))
    rows.append(talk(None, "2 + 2?", "4", id="text"))
    (tmp_path / "my.json").write_text(json.dumps(rows))
    return tmp_path


def test_one_command_leads_to_a_report(mine: Path, parts: Path) -> None:
    arms = [write_recipe(mine, parts, name) for name in ("clip", "clip+dinov2")]
    out = mine / "study"
    words = ["--train", mine / "my.json", "--images", mine / "pictures", "--hold-out", "0.4"]
    result = invoke("compare", *arms, *words, "--seeds", 1, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    found = the_object(result)
    assert set(found["study"]["benchmarks"]) == {"question_answer", "boxes"}
    assert found["study"]["seen"]["trained"] == 0
    assert set(found["blind"]) == set(found["study"]["benchmarks"].values())
    assert "None of the" in found["headline"] and "Blind-solvable" in found["headline"]
    assert "trial 2 of 2 is done" in result.stderr
    assert (out / "report.html").is_file() and (out / "own-data" / "test.jsonl").is_file()
    again = invoke("compare", *arms, *words, "--seeds", 1, "--out", out)
    assert "0 trials run, 2 kept" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "."], "--images is about your own files"),
        (["--test", "my.json"], "--test needs --train"),
        (["--train", "my.json", "--data", "."], "not both"),
        (["--train", "absent.json"], "no such file"),
    ],
)
def test_options_that_do_not_fit(
    words: list[str], said: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    result = invoke("compare", "clip", "comm", "--size", "world", *words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr


def test_stages_make_their_own_steps_but_ten_passes_at_most() -> None:
    recipe = load_recipe("comm/world")
    source = DataSource(path="/my.json")
    few = OwnTraining((source,), 40).of(recipe)
    assert [stage.training["max_steps"] for stage in few.stages] == [50, 50]  # 40 · 10 / 8
    many = OwnTraining((source,), 4000).of(recipe)
    assert [stage.training["max_steps"] for stage in many.stages] == [120, 60]
    assert all(stage.data == [source] for stage in many.stages)
    epochs = OwnTraining((source,), 4000).of(load_recipe("clip/small"))
    batches = [global_batch(stage) for stage in epochs.stages]
    steps = [stage.training["max_steps"] for stage in epochs.stages]
    assert steps == [-(-40000 // batch) for batch in batches]
    kept = OwnTraining((source,), 40).of(recipe, keep_steps=True)
    assert [stage.training["max_steps"] for stage in kept.stages] == [120, 60]


def test_evaluate_knows_which_pictures_a_model_was_trained_on(mine: Path, parts: Path) -> None:
    """The split is that of the model's own run, or it is said that nobody knows."""
    recipe = write_recipe(mine, parts, "clip")
    rows = json.loads((mine / "my.json").read_text())
    for row in rows:
        if "boxes" in row:
            row["conversations"][1]["value"] = "[0.05,0.12,0.45,0.75]"
            del row["boxes"]
    (mine / "my.json").write_text(json.dumps(rows))
    words = ["--train", mine / "my.json", "--images", mine / "pictures", "--hold-out", "0.4"]
    trained = invoke("train", recipe, *words, "--text-boxes", "lion", "--out", mine / "run")
    assert trained.exit_code == 0, trained.stderr
    model = mine / "run" / "model"
    asked = ["evaluate", model, "--limit", 4, "--no-text-only", "--out", mine / "answers"]
    same = invoke(*asked, *words)
    assert "None of the" in same.stdout and "boxes in the texts are read as lion" in same.stderr
    other = invoke(*asked[:-1], mine / "other", *words, "--split-seed", 1)
    assert "is not known: its run was not told of this split" in " ".join(other.stdout.split())
    assert "None of the" not in other.stdout


def test_a_new_recipe_holds_rows_out_and_measures_their_loss(
    mine: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = write_recipe(mine, parts, "clip")
    rows = json.loads((mine / "my.json").read_text())
    rows[1] = talk("0.png", "Where?", "[0.05,0.12,0.45,0.75]", id="b0")
    (mine / "my.json").write_text(json.dumps(rows))
    monkeypatch.chdir(mine)
    words = ["new", "mine", "--from", parent, "--train", "my.json", "--images", "pictures"]
    made = invoke(*words, "--hold-out", "0.4")
    assert made.exit_code == 0, made.stderr
    assert "1 answers are boxes in numbers" in made.stderr and "--text-boxes" in made.stderr
    assert "--data mine/own-data -b " in made.stdout
    recipe = load_recipe("mine.yaml")
    train, _ = read_samples("mine/own-data/train.jsonl")
    test, _ = read_samples("mine/own-data/test.jsonl")
    assert len(train) + len(test) == len(rows) == 18
    assert not {i for s in train for i in s.images} & {i for s in test for i in s.images}
    said = f"{len(train)} rows to train on, {len(test)} held out."
    assert recipe.description == f"{Path(parent).stem} on own data: {said}"
    for stage in recipe.stages:
        assert [source.path for source in stage.data] == [str(mine / "mine/own-data/train.jsonl")]
        assert stage.eval is not None
        assert [s.path for s in stage.eval.data] == [str(mine / "mine/own-data/test.jsonl")]
    trained = invoke("train", "mine.yaml", "--out", "run", "--set", "training.max_steps=2")
    assert trained.exit_code == 0, trained.stderr
    stage = recipe.stages[-1].name
    assert "eval_loss" in (mine / "run" / stage / "log.jsonl").read_text()
    again = invoke(*words)
    assert again.exit_code == 2 and "exists: choose another name" in again.stderr


def test_a_new_recipe_without_rows_says_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("new", "mine", "--from", "comm/world").exit_code == 0
    recipe = load_recipe("mine.yaml")
    assert recipe.description == "Begun from comm/world."
    assert all(stage.eval is None for stage in recipe.stages)


def test_a_recipe_whose_files_lie_elsewhere_makes_no_world(mine: Path, parts: Path) -> None:
    recipe = write_recipe(mine, parts, "clip")
    where = f"stages.0.data=[{{path: {mine / 'my.json'}, image_root: {mine / 'pictures'}}}]"
    world = ["--set", "world={images: 4000, seed: 0}", "--set", where]
    trained = invoke("train", recipe, *world, "--out", mine / "run")
    assert trained.exit_code == 0, trained.stderr
    assert not (mine / "run" / "world").exists()
