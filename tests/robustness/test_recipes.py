"""Damaged recipes: each is a named error or a recipe that can be checked, never a traceback."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from attacks import mutated, run, within
from manyeyes.errors import ManyEyesError, RecipeError
from manyeyes.recipes import dump_recipe, load_recipe, recipe_names
from manyeyes.recipes.load import read_recipe
from manyeyes.recipes.names import find_recipe
from manyeyes.recipes.yaml_io import parse_yaml

TEXTS = {
    "deep": "a: " + "[" * 5000 + "]" * 5000,
    "deep blocks": "".join(" " * level + "a:\n" for level in range(2000)),
    "a day of month 13": "seed: 2026-13-45",
    "a number of letters": 'seed: !!int "x"',
    "a float of letters": 'seed: !!float "x"',
    "5000 digits": "seed: " + "9" * 5000,
    "binary": "seed: !!binary x",
    "an unknown tag": "seed: !!python/object:os.system x",
    "a list as key": "? [1, 2]\n: 3",
    "itself": "a: &a [*a]",
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "a key twice": "a: 1\nb: 2\na: 3",
    "a timestamp": "seed: 2026-01-01T99:00:00Z",
    "no end": "a: 'x",
    "nul": "a: \x00",
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_yaml_that_no_recipe_holds_is_an_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(TEXTS[name])
    end = run("check", path, seconds=20.0)
    assert end.report["error"]["type"] == "RecipeError"
    assert str(path) in end.error


def test_repeated_keys_are_found_in_linear_time() -> None:
    """20,000 keys took minutes where each was compared with all before it."""
    text = "".join(f"key{number}: {number}\n" for number in range(20_000))
    begin = time.process_time()
    assert len(parse_yaml(text, "x")) == 20_000
    with pytest.raises(RecipeError, match=r"line 20001: key 'key7' is written twice"):
        parse_yaml(text + "key7: 1\n", "x")
    assert time.process_time() - begin < 60


def sweep(name: str, seed: int, times: int, folder: Path) -> int:
    """Load ``times`` mutations of a packaged recipe; return how many were refused."""
    random_ = random.Random(f"{name} {seed}")
    whole = read_recipe(find_recipe(name))
    refused = 0
    for _ in range(times):
        changed, what = mutated(whole, random_)
        path = folder / "r.yaml"
        path.write_text(yaml.safe_dump(changed, sort_keys=False), "utf-8", "surrogatepass")
        try:
            with within(20.0):
                loaded = load_recipe(path)
        except ManyEyesError:
            refused += 1
            continue
        except Exception as error:
            raise AssertionError(f"{name}: {what}") from error
        again: dict[str, Any] = yaml.safe_load(dump_recipe(loaded))
        assert again == loaded.model_dump(mode="json"), f"{name}: {what}"
    return refused


@pytest.mark.parametrize("name", ["comm/world", "lion/world", "mr-mllm/world"])
def test_a_mutated_recipe_is_refused_or_loads(name: str, tmp_path: Path) -> None:
    assert sweep(name, 0, 25, tmp_path) > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_many_mutated_recipes_are_refused_or_load(name: str, tmp_path: Path) -> None:
    assert sweep(name, 1, 60, tmp_path) > 10
