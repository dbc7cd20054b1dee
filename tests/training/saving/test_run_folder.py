"""A run replaces and removes nothing that is not its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cli_runs import invoke
from manyeyes.errors import RecipeError, UsageError
from manyeyes.files import MARK
from manyeyes.recipes import Recipe, dump_recipe
from manyeyes.training import train
from manyeyes.training.saving.resume_state import DATA_STATE_FILE
from manyeyes.training.saving.run_folder import check_run_folder, write_recipe

MakeRecipe = Callable[..., Recipe]


def put(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "model/thesis.tex",
        "align/notes.txt",
        "instruct/checkpoint-7/trainer_state.json",
        "results.json",
        "recipe.yaml",
        "model",
    ],
)
def test_what_is_not_ours_is_refused_before_anything_runs(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    mine = put(out / name)
    for resume in (False, True):
        with pytest.raises(UsageError, match=rf"{name.split('/')[0]} .*(replaced|would be)"):
            train(make_recipe(), out, data_dir=data, resume=resume)
    left = [path for path in out.rglob("*") if path.is_file()]
    assert left == [mine] and mine.read_text() == "mine"


def test_the_command_refuses_before_it_makes_data(tmp_path: Path) -> None:
    put(tmp_path / "out" / "model" / "thesis.tex")
    result = invoke("train", "comm/world", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "model would be replaced" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_a_recipe_of_the_users_own_is_not_overwritten(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe()
    own = (tmp_path / "recipe.yaml").read_text()
    with pytest.raises(UsageError, match=r"recipe\.yaml is there, and no run"):
        check_run_folder(recipe, tmp_path, resume=False)
    assert (tmp_path / "recipe.yaml").read_text() == own
    put(tmp_path / "earlier" / "recipe.yaml", dump_recipe(recipe))  # nothing of it would be lost
    check_run_folder(recipe, tmp_path / "earlier", resume=False)
    run = put(tmp_path / "before" / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json")))
    with pytest.raises(UsageError, match=r"recipe\.yaml is there, and no run"):
        check_run_folder(recipe, run.parent, resume=True)
    put(
        run.parent / "align" / "checkpoint-2" / DATA_STATE_FILE, "{}"
    )  # the run of an early version
    check_run_folder(recipe, run.parent, resume=True)
    run.write_text("# my own remarks\n" + run.read_text())
    with pytest.raises(UsageError, match=r"recipe\.yaml is there, and no run"):
        check_run_folder(recipe, run.parent, resume=True)
    write_recipe(recipe, tmp_path / "run")
    check_run_folder(recipe, tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["features", "evaluation", "model", "world"])
def test_stages_are_not_called_as_other_folders_of_a_run(
    make_recipe: MakeRecipe, name: str
) -> None:
    with pytest.raises(RecipeError, match=f"a stage cannot be called '{name}'"):
        make_recipe(f"stages.align.name={name}")


@pytest.mark.long
def test_files_beside_ours_stay_when_the_model_is_made_again(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train(make_recipe(), out, data_dir=data, stage="align")
    assert "config.json" in json.loads((out / "model" / MARK).read_text())["files"]
    put(out / "model" / "thesis.tex")
    before = (out / "model" / "model.safetensors").read_bytes()
    train(make_recipe(), out, data_dir=data, resume=True)
    assert (out / "model" / "thesis.tex").read_text() == "mine"
    assert (out / "model" / "model.safetensors").read_bytes() != before
    assert not [path for path in out.rglob("*") if "unfinished" in path.name]
