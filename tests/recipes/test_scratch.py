"""Recipes without the starts that ship: nothing else of them changes."""

from __future__ import annotations

import pytest

from manyeyes.recipes import load_recipe, recipe_names
from manyeyes.recipes.scratch import STARTS, from_scratch
from manyeyes.study.trials.contestants import parse_arm

WORLD = [name for name in recipe_names() if "/world" in name]


@pytest.mark.parametrize("name", WORLD)
def test_no_stage_takes_a_start_and_nothing_else_changes(name: str) -> None:
    before, after = load_recipe(name), load_recipe(name, from_scratch(name))
    for old, new in zip(before.stages, after.stages, strict=True):
        kept = [s for s in old.start if not (s.checkpoint or "").startswith(STARTS)]
        emptied = bool(old.start) and not kept and new is not after.stages[0]
        assert old.model_copy(update={"start": kept, "fresh": old.fresh or emptied}) == new


def test_a_later_stage_that_began_with_a_start_begins_anew() -> None:
    assert load_recipe("lion/world").stage("region").start
    stage = load_recipe("lion/world", from_scratch("lion/world")).stage("region")
    assert stage.fresh and not stage.start


def test_an_arm_keeps_its_own_settings() -> None:
    arm = parse_arm("sum=comm/world:stages.instruct.training.max_steps=5").from_scratch()
    assert arm.settings == ("stages.instruct.training.max_steps=5", "stages.multitask.start=[]")
    assert parse_arm("comm/small").from_scratch() == parse_arm("comm/small")
