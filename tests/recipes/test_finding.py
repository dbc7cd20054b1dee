"""Finding one's way among recipes: short names, the table, the keys, and where values come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from manyeyes.errors import RecipeError, UsageError
from manyeyes.fusion import FUSIONS
from manyeyes.recipes import load_recipe, recipe_names
from manyeyes.recipes.finding.families import with_size
from manyeyes.recipes.finding.key_table import chosen_blocks, known_keys, markdown
from manyeyes.recipes.finding.listing import digest, listed_recipes
from manyeyes.recipes.finding.origins import value_origins
from manyeyes.recipes.finding.reference import reference


def test_a_method_and_a_size_name_a_recipe() -> None:
    assert with_size("comm", "small") == "comm/small"
    assert with_size("clip/world-twice", "paper") == "clip/world-twice"
    assert with_size("mine.yaml", "paper") == "mine.yaml"
    with pytest.raises(RecipeError, match=r"no recipe or method 'com' \(did you mean 'comm'"):
        with_size("com", "small")
    with pytest.raises(RecipeError, match="sva has no recipe of size 'paper'; sizes: small, world"):
        with_size("sva", "paper")
    with pytest.raises(UsageError, match="one of world, small, paper"):
        with_size("comm", "large")


def test_the_table_that_ships_is_of_the_recipes_that_ship() -> None:
    rows = listed_recipes()
    assert list(rows) == recipe_names()
    stale = [name for name, row in rows.items() if row.digest != digest(name)]
    assert not stale, "run python -m manyeyes.study.costs.recipe_table"


def test_the_keys_that_ship_are_those_of_the_classes() -> None:
    known, found = known_keys(), reference()
    found["training"] = known["training"]  # as the installed transformers has them
    assert known == found, "run python -m manyeyes.recipes.finding.reference"
    page = Path(__file__).parents[2] / "docs" / "keys.md"
    assert page.read_text(encoding="utf-8") == markdown(known)


def test_every_key_of_ours_has_a_meaning() -> None:
    silent = [
        f"{block}.{name}"
        for block, keys in known_keys().items()
        for name, key in keys.items()
        if not key.meaning and block != "training"
    ]
    assert not silent
    said = {key.meaning for block in known_keys().values() for key in block.values()} - {""}
    assert [text for text in said if not re.match(r"(?:[A-Z]|``).*\.$", text)] == []
    assert {f"fusion.{name}" for name in FUSIONS} <= set(known_keys())


def test_blocks_and_keys_are_found_by_name() -> None:
    assert chosen_blocks("model.fusion.comm")["fusion.comm"]["join"].default == "channel"
    assert set(chosen_blocks("lln_order")) == {"fusion.comm"}
    assert "fusion.single" in chosen_blocks("fusion")
    with pytest.raises(UsageError, match=r"did you mean 'fusion\.comm'"):
        chosen_blocks("fusion.com")


def test_every_value_says_who_said_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: comm/small\nname: mine\ntraining: {learning_rate: 1e-5}\n"
        "model: {fusion: {join: sum}}\n"
    )
    settings = ["stages.instruct.training.max_steps=7"]
    found = {origin.key: origin for origin in value_origins(path, settings)}
    said = {
        "name": ("mine", str(path)),
        "model.fusion.join": ("sum", str(path)),
        "model.fusion.merge": ("lln_layerscale", "comm/paper"),
        "model.fusion.conv_kernel": (3, "default"),
        "model.language.config.model_type": ("qwen2", "comm/small"),
        "stages.multitask.training.learning_rate": (1e-5, str(path)),
        "stages.multitask.training.max_steps": (20000, "comm/small"),
        "stages.instruct.training.max_steps": (7, "--set"),
        "stages.instruct.mixture": ("weighted", "comm/paper"),
        "model.encoders.clip.image_size": (336, "comm/paper"),
        "seed": (0, "default"),
    }
    assert {key: (found[key].value, found[key].source) for key in said} == said


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "extends: comm/world\nseeed: 1\nmodel: {fusion: {jion: sum}}\n"
        "stages:\n  - {name: instruct, mixtur: weighted, global_batch_size: 0,\n"
        "     training: {lerning_rate: 1, max_steps: 0}}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.splitlines()[0].endswith("5 mistakes")
    for said in ("'seeed'", "'jion'", "'mixtur'", "lerning_rate", "at least 1 step"):
        assert said in message
    assert len(message.splitlines()) == 6
