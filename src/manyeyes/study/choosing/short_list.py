"""From the ranking to the comparison: which sets are worth training, as arms of ``compare``.

A recipe that was named and has exactly these encoders is the arm. Otherwise the arm is the recipe
of one encoder (``clip``) or of several joined by channels (``concat``), of the same size, with the
encoders in it and without the starts that ship for others.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.errors import RecipeError
from manyeyes.recipes import load_recipe
from manyeyes.recipes.finding.families import SIZES
from manyeyes.recipes.scratch import from_scratch
from manyeyes.recipes.yaml_io import dump_yaml
from manyeyes.study.choosing.candidates import Candidate, Candidates
from manyeyes.study.choosing.record import ChosenArm, RankedSet
from manyeyes.study.probing.features import NOT_PROBED

MOST_ARMS = 4
ALONE, JOINED = "clip", "concat"
"""Methods whose recipe of a size takes one encoder, or several."""
ARMS_FILE = "arms.yaml"


@dataclass(frozen=True)
class Setting:
    """What the arms share. ``language``: the one that was asked for; None = the recipes' own.

    ``data``: words of the command that say what is trained on.
    """

    size: str
    language: str | None = None
    data: tuple[str, ...] = ()


def short_list(sets: Sequence[RankedSet]) -> list[RankedSet]:
    """Return the sets to train, best first: the best, those tied with it, the best single one.

    At most ``MOST_ARMS``, at least two where there are two.
    """
    single = next(one for one in sets if len(one.encoders) == 1)
    tied = [one for one in sets if one.tied]
    chosen = tied[:MOST_ARMS]
    if single not in chosen:
        chosen = [*chosen[: MOST_ARMS - 1], single]
    rest = [one for one in sets if one not in chosen]
    return [*chosen, *rest[: max(0, 2 - len(chosen))]]


def size_of(candidates: Candidates) -> str | None:
    """Return the size that the named recipes are of (``world``), None where none says one."""
    words = [source.name.rpartition("/")[2].partition("-")[0] for source in candidates.sources]
    return next((word for word in words if word in SIZES), None)


def arms_of(
    chosen: Sequence[RankedSet], candidates: Candidates, setting: Setting
) -> tuple[list[ChosenArm], list[str]]:
    """Return an arm for each set, and why sets have none."""
    by_name = {one.name: one for one in candidates.every}
    arms, why = [], []
    for one in chosen:
        members = [by_name[name] for name in one.encoders]
        try:
            arm = _arm(one, members, candidates, setting)
            load_recipe(arm.recipe, arm.settings)
        except RecipeError as error:
            why.append(f"{one.name}: no arm can be written ({error})")
        else:
            arms.append(arm)
    return arms, why


def _arm(
    one: RankedSet, members: Sequence[Candidate], candidates: Candidates, setting: Setting
) -> ChosenArm:
    recipe = _own_recipe(members, candidates)
    if recipe is None:
        recipe = f"{ALONE if len(members) == 1 else JOINED}/{setting.size}"
        settings = [f"model.encoders={json.dumps(_entries(members))}"]
        settings.append(f"model.geometry={members[0].geometry}")
    elif _language(recipe, setting) is None:
        return ChosenArm(recipe, one.encoders, recipe)
    else:
        settings = []
    language = _language(recipe, setting)
    settings += [] if language is None else [f"model.language.checkpoint={language}"]
    settings += from_scratch(recipe, settings)
    return ChosenArm(_arm_name(members), one.encoders, recipe, tuple(settings))


def _own_recipe(members: Sequence[Candidate], candidates: Candidates) -> str | None:
    """The recipe that was named and has these encoders and no other."""
    for source in candidates.sources:
        own = [one for one in candidates.every if one.source == source.name]
        whole = len(own) == len(source.entries) and not any(source.trained)
        if source.geometry is not None and whole and own == list(members):
            return source.name
    return None


def _language(recipe: str, setting: Setting) -> str | None:
    """The language model to set in a recipe; None = it has the right one."""
    own = load_recipe(recipe).model["language"].get("checkpoint")
    return None if setting.language in (None, own) else setting.language


def _entries(members: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Encoders of one recipe: their one level, own names, and the smallest of their grids."""
    smallest = min((one.grid for one in members), key=math.prod)
    found = []
    for one in members:
        entry = {key: value for key, value in one.entry.items() if key not in NOT_PROBED}
        entry |= {"name": _word(one.name), "levels": [one.level]}
        if one.grid != smallest:
            entry |= {"resample": list(smallest), "resample_mode": "area"}
        found.append(entry)
    return found


def _word(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


def _arm_name(members: Sequence[Candidate]) -> str:
    return "+".join(_word(one.name) for one in members)


def arms_text(arms: Sequence[ChosenArm]) -> str:
    """Return the file for ``compare --arms``: the arms that are no recipe as it is; "" for none."""
    blocks: Mapping[str, Any] = {
        arm.name: {"recipe": arm.recipe, "set": list(arm.settings)} for arm in arms if arm.settings
    }
    return dump_yaml(dict(blocks)) if blocks else ""


def next_command(arms: Sequence[ChosenArm], setting: Setting, folder: Path) -> str:
    """Return the command that trains and compares the arms; "" where there are not two."""
    if len(arms) < 2:
        return ""
    words = ["manyeyes", "compare", *(arm.recipe for arm in arms if not arm.settings)]
    if any(arm.settings for arm in arms):
        words += ["--arms", str(folder / ARMS_FILE)]
    return shlex.join([*words, *setting.data, "--out", "study"])
