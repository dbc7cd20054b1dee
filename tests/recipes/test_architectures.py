"""Declared architectures: complete enough to generate, the same in all recipes, found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from manyeyes.errors import RecipeError
from manyeyes.language import parse_language, read_config
from manyeyes.recipes import Recipe, load_recipe, recipe_names

REAL = [name for name in recipe_names() if "/world" not in name and "-world" not in name]
"""Packaged recipes of real size."""


def declared(recipe: Recipe) -> dict[str, Any]:
    return dict(recipe.model["language"]["config"])


@pytest.mark.parametrize("name", REAL)
def test_a_real_size_recipe_declares_what_generation_needs(name: str) -> None:
    fields = declared(load_recipe(name))
    needed = {"model_type", "vocab_size", "eos_token_id", "pad_token_id"}
    known = AutoConfig.for_model(fields["model_type"])
    needed |= {"decoder_start_token_id"} if known.is_encoder_decoder else {"bos_token_id"}
    if not known.is_encoder_decoder:
        needed |= {"max_position_embeddings"}
    if hasattr(known, "rope_parameters"):
        needed |= {"rope_parameters"}
    assert needed <= {key for key, value in fields.items() if value is not None}


def test_recipes_over_one_checkpoint_declare_one_architecture() -> None:
    found: dict[str, dict[str, Any]] = {}
    for name in REAL:
        recipe = load_recipe(name)
        checkpoint = recipe.model["language"]["checkpoint"]
        assert found.setdefault(checkpoint, declared(recipe)) == declared(recipe), name
    assert len(found) == 10


def test_lion_on_a_decoder_rotates_and_stops_as_qwen_does() -> None:
    language = load_recipe("lion/small-decoder").model["language"]
    config = read_config(parse_language(language))
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 1_000_000.0}
    ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    assert ids == (151_643, 151_645, 151_643)


def test_an_architecture_can_be_named_changed_and_set(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "extends: clip/small\nname: own\nmodel: {language: {config: {num_hidden_layers: 2}}}\n"
    )
    fields = declared(load_recipe(path))
    assert (fields["num_hidden_layers"], fields["hidden_size"]) == (2, 896)
    given = ["model.language.checkpoint=x", "model.language.config=vicuna-13b-v1.1"]
    assert declared(load_recipe(path, given))["hidden_size"] == 5120
    with pytest.raises(RecipeError, match=r"no architecture 'llama-7' \(did you mean 'llama-7b'"):
        load_recipe(path, ["model.language.config=llama-7"])
