"""Levels as arms of a study with a language model, and the map of what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_runs import invoke, the_object
from manyeyes.errors import UsageError
from manyeyes.recipes import load_recipe
from manyeyes.study.probing.level_sweep import level_arms
from manyeyes.world.make import make_world
from study_arms import write_recipe

NAMES = ("clip", "dinov2")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> str:
    return write_recipe(tmp_path_factory.mktemp("recipes"), parts, "clip+dinov2")


def hub_config(recipe: str, name: str) -> Any:
    """The vision configuration of an encoder's checkpoint."""
    checkpoint = {e["name"]: e["checkpoint"] for e in load_recipe(recipe).model["encoders"]}[name]
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    return config.get("vision_config", config)


def test_every_level_of_every_encoder_is_an_arm_with_one_linear_projection(recipe: str) -> None:
    arms = level_arms(recipe)
    deepest = {name: int(hub_config(recipe, name)["num_hidden_layers"]) for name in NAMES}
    assert [arm.name for arm in arms] == [
        f"{name}-{level}" for name in NAMES for level in range(1, deepest[name] + 1)
    ]
    for arm in arms:
        model = arm.load(seed=0).model
        name, _, level = arm.name.partition("-")
        assert [(e["name"], e["levels"]) for e in model["encoders"]] == [(name, [int(level)])]
        assert model["fusion"] == {"name": "single", "projector": "linear"}
    assert [arm.name for arm in level_arms(recipe, [2])] == ["clip-2", "dinov2-2"]


def test_levels_that_no_encoder_has_are_refused(recipe: str) -> None:
    with pytest.raises(UsageError, match="no encoder has level 99"):
        level_arms(recipe, [1, 99])


def test_a_sweep_leaves_a_map_and_a_study(
    recipe: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    make_world(folder / "world", images={"train": 8, "test": 6})
    command = ["probe", recipe, "--with-llm", "--data", folder / "world", "--out", folder / "out"]
    command += ["--level", 1, "--level", 2, "-b", "pope", "--budget", "steps=2", "--limit", 4]
    found = the_object(invoke(*command, "--json"))
    assert list(found["arms"]) == ["clip-1", "clip-2", "dinov2-1", "dinov2-2"]
    table = (folder / "out" / "levels.md").read_text().replace("*", "")
    for arm, facts in found["arms"].items():
        assert f"| {arm} | {facts['scores']['pope']['mean']:.1f} |" in table
    assert (folder / "out" / "levels.html").is_file()
    assert (folder / "out" / "report.html").is_file()
    again = invoke(*command)
    assert "0 trials run, 4 kept" in again.stderr


def test_options_of_the_other_kind_are_refused(recipe: str, tmp_path: Path) -> None:
    refused = invoke("probe", recipe, "--data", tmp_path, "--out", tmp_path, "--level", 1)
    assert refused.exit_code == 2 and "--level goes with --with-llm" in refused.stderr
    words = ("probe", recipe, "--with-llm", "--data", tmp_path, "--out", tmp_path)
    refused = invoke(*words, "--held-out", tmp_path)
    assert refused.exit_code == 2 and "--held-out goes without --with-llm" in refused.stderr
    refused = invoke("probe", "a", "b", "--with-llm", "--data", tmp_path, "--out", tmp_path)
    assert refused.exit_code == 2 and "takes one recipe, got a, b" in refused.stderr
