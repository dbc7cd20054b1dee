"""Which arms a study has: from words of the command line or from a YAML file.

comm/world                                        a recipe; the arm is called like it
sum=comm/world:model.fusion.join=sum              a name, a recipe, and changes to it
comm/world:dtype=bfloat16,training.weight_decay=0.1   changes are separated by commas

comm: comm/world                                  the same in a file for --arms
sum: {recipe: comm/world, set: ["model.fusion.join=sum"]}

openai:http://localhost:8000/v1#demo/model        a model behind an API, called demo/model: an arm
theirs=openai:http://localhost:8000/v1#demo/model that is not trained, only asked
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyeyes.errors import RecipeError, UsageError
from manyeyes.evaluation.asking.served import is_served, parse_address
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.recipes.scratch import from_scratch
from manyeyes.recipes.yaml_io import read_yaml
from manyeyes.study.trials.trial import arm_folder
from manyeyes.training.own.rows import OwnTraining

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")


@dataclass(frozen=True)
class Contestant:
    """One arm before it is run: its ``name``, a ``recipe`` (name or path) and ``settings``.

    ``recipe`` may be ``openai:URL#MODEL``: then it is only asked.
    ``images`` False: it is asked without the image.
    ``own``: rows to train on in place of the recipe's data.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    images: bool = True
    own: OwnTraining | None = None

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return arm_folder(self.name)

    @property
    def served(self) -> bool:
        """Whether it is a model behind an API, which is not trained."""
        return is_served(self.recipe)

    @property
    def text(self) -> str:
        """The recipe with its changes, as `parse_arm` reads it."""
        return self.recipe + (f":{','.join(self.settings)}" if self.settings else "")

    def from_scratch(self) -> Contestant:
        """Return the arm without the starts that ship with the world."""
        return replace(self, settings=(*self.settings, *from_scratch(self.recipe, self.settings)))

    def load(self, seed: int) -> Recipe:
        """Return the recipe of one seed: initialisation and data order of every stage follow it.

        Raises:
            RecipeError: no such recipe, or a setting that does not fit it; names the arm.
        """
        try:
            recipe = load_recipe(self.recipe, self.settings)
        except RecipeError as error:
            raise RecipeError(f"arm {self.name!r}: {error}") from error
        if any(setting.partition("=")[0].split(".")[-1] == "seed" for setting in self.settings):
            raise RecipeError(f"arm {self.name!r}: the study gives every arm its seeds")
        stages = [stage.model_copy(update={"seed": None}) for stage in recipe.stages]
        recipe = recipe.model_copy(update={"seed": seed, "stages": stages})
        if self.own is None:
            return recipe
        counted = any("max_steps" in setting for setting in self.settings)
        return self.own.of(recipe, keep_steps=counted)


def parse_arm(word: str) -> Contestant:
    """Return the arm of ``[NAME=]RECIPE[:KEY=VALUE,...]`` or ``[NAME=]openai:URL#MODEL``.

    Raises:
        UsageError: an empty recipe, or a name that cannot be one.
    """
    called, sign, model = word.partition("=")
    if is_served(word):
        return _checked(Contestant(parse_address(word).model, word))
    if sign and is_served(model):
        return _checked(Contestant(called, model))
    head, _, rest = word.partition(":")
    name, sign, recipe = head.partition("=")
    if not sign:
        name, recipe = _default_name(head), head
    if not recipe:
        raise UsageError(f"an arm is [NAME=]RECIPE[:KEY=VALUE,...], got {word!r}")
    return _checked(Contestant(name, recipe, tuple(_split(rest)) if rest else ()))


def read_arms(path: Path) -> list[Contestant]:
    """Return the arms of a YAML file, in its order; recipe paths are relative to the file.

    Raises:
        RecipeError: not a mapping of names to recipes.
    """
    arms = []
    for name, value in read_yaml(path).items():
        block: Any = {"recipe": value} if isinstance(value, str) else value
        if not (isinstance(block, dict) and isinstance(block.get("recipe"), str)):
            raise RecipeError(f"{path}: {name}: expected a recipe or {{recipe: ..., set: [...]}}")
        unknown = set(block) - {"recipe", "set"}
        changes = block.get("set", [])
        if unknown or not isinstance(changes, list):
            raise RecipeError(f"{path}: {name}: knows only `recipe` and the list `set`")
        recipe = block["recipe"]
        if recipe.endswith((".yaml", ".yml")):
            recipe = str(path.parent / recipe)
        arms.append(_checked(Contestant(str(name), recipe, tuple(map(str, changes)))))
    return arms


def check_arms(arms: Sequence[Contestant]) -> None:
    """Check that there are at least two arms, each with a name of its own.

    Raises:
        UsageError: otherwise.
    """
    if len(arms) < 2:
        raise UsageError("a study compares at least two arms; name two recipes")
    seen: dict[str, Contestant] = {}
    for arm in arms:
        if arm.folder in seen:
            raise UsageError(
                f"two arms are called {arm.name!r}; give one a name of its own: again={arm.recipe}"
            )
        seen[arm.folder] = arm


def _default_name(recipe: str) -> str:
    return Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe


def _checked(arm: Contestant) -> Contestant:
    if not _NAME.fullmatch(arm.name):
        hint = f": give it another, NAME={arm.recipe}" if arm.served else ""
        raise UsageError(
            f"{arm.name!r} cannot name an arm: letters, digits and . _ / + - only{hint}"
        )
    if arm.served:
        parse_address(arm.recipe)
        if arm.settings:
            raise UsageError(f"arm {arm.name!r} is only asked: nothing of it can be set")
    return arm


def _split(text: str) -> Iterable[str]:
    """Split at commas that no bracket holds."""
    depth, start = 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]
