"""The table of all packaged recipes, made once and shipped: listing them must not build them.

python -m manyeyes.study.costs.recipe_table      writes recipes/table.json again
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from manyeyes.errors import CheckpointError
from manyeyes.files import write_text
from manyeyes.recipes import Recipe, load_recipe, recipe_names
from manyeyes.recipes.finding.listing import TABLE_FILE, digest, listed_recipes
from manyeyes.study.costs.recipe import Inspection, inspect_recipe


def table() -> dict[str, Any]:
    """Return recipe -> its row; those are built, on the meta device, whose files have changed."""
    known = listed_recipes() if TABLE_FILE.is_file() else {}
    kept = {name: asdict(row) for name, row in known.items() if row.parameters is not None}
    return {
        name: kept[name] if kept.get(name, {}).get("digest") == digest(name) else row(name)
        for name in recipe_names()
    }


def row(name: str) -> dict[str, Any]:
    """Return what the table says of one recipe."""
    recipe = load_recipe(name)
    language = recipe.model["language"]
    return {
        "description": recipe.description,
        "encoders": [encoder["name"] for encoder in recipe.model["encoders"]],
        "fusion": recipe.model.get("fusion", {}).get("name", "single"),
        "language": language.get("checkpoint", ""),
        **_counts(recipe),
        "digest": digest(name),
    }


def _counts(recipe: Recipe) -> dict[str, Any]:
    """The numbers of a row; nothing for a recipe over a part that does not ship."""
    try:
        found = inspect_recipe(recipe)
    except CheckpointError:
        return dict.fromkeys(("parameters", "trainable", "visual_tokens", "memory_gib"))
    return {
        "parameters": sum(part.total for part in found.parts.values()),
        "trainable": max(found.trainable_by_stage.values()),
        "visual_tokens": found.visual_tokens,
        "memory_gib": round(_most_memory(found) / 2**30, 1),
    }


def _most_memory(found: Inspection) -> int:
    return max(stage.memory[found.dtype].total for stage in found.stages)


if __name__ == "__main__":
    write_text(TABLE_FILE, json.dumps(table(), indent=1, ensure_ascii=False) + "\n")
