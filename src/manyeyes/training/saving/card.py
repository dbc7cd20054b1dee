"""What a run knows for the card of its model: recipe and data, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from manyeyes.checkpoints.card import shown, table
from manyeyes.errors import ManyEyesError
from manyeyes.recipes import Recipe, dump_recipe, load_recipe
from manyeyes.training.saving.resume_state import read_object
from manyeyes.training.saving.run_folder import RECIPE_FILE, RESULTS_FILE

_STAGES = ("stage", "trained", "objectives", "steps", "samples", "last loss")
_DATA = ("stage", "file", "format", "samples", "left out", "sha256")


def sections_of_run(run: Path) -> list[str]:
    """Return the sections of a run's folder; none where it is no finished run."""
    if not ((run / RECIPE_FILE).is_file() and (run / RESULTS_FILE).is_file()):
        return []
    try:
        recipe, results = load_recipe(run / RECIPE_FILE), read_object(run / RESULTS_FILE)
        return training_sections(recipe, results["stages"])
    except (ManyEyesError, LookupError, TypeError):  # a folder of something else
        return []


def training_sections(recipe: Recipe, stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sections on recipe and data; ``stages``: their entries in ``results.json``.

    Of files on this machine the names are told, and not where they lie.
    """
    rows = [
        (
            entry["stage"],
            ", ".join(recipe.stage(entry["stage"]).train),
            ", ".join(recipe.stage(entry["stage"]).objectives),
            f"{entry['steps']:,}",
            f"{entry['samples']:,}",
            "-" if entry.get("loss") is None else f"{entry['loss']:.3f}",
        )
        for entry in stages
    ]
    files = [
        (
            entry["stage"],
            f"`{shown(one['path'])}`",
            one["format"],
            f"{one['samples']:,}",
            f"{one['skipped'] + one['excluded']:,}",
            f"`{one['sha256'][:12]}…`",
        )
        for entry in stages
        for one in entry["data"]
    ]
    said = f"`{recipe.name}`, seed {recipe.seed}. {recipe.description}".strip()
    text = yaml.safe_dump(_without_places(yaml.safe_load(dump_recipe(recipe))), sort_keys=False)
    whole = f"<details><summary>The whole recipe</summary>\n\n```yaml\n{text}```\n\n</details>"
    return [
        f"## Recipe\n\n{said}\n\n{table(_STAGES, rows)}\n\n{whole}",
        f"## Data\n\n{table(_DATA, files)}",
    ]


def _without_places(value: Any) -> Any:
    """Return ``value`` with the names of files in place of their absolute paths."""
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
