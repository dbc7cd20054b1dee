"""Which recipes there are, and where a recipe's file lies; nothing is imported for it."""

from __future__ import annotations

from pathlib import Path

from manyeyes.errors import RecipeError, nearest

PACKAGED = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")


def recipe_names() -> list[str]:
    """Return the names of all packaged recipes, such as ``comm/world``."""
    files = PACKAGED.glob("*/*.yaml")
    return sorted(path.relative_to(PACKAGED).with_suffix("").as_posix() for path in files)


def find_recipe(recipe: str | Path, beside: Path | None = None) -> Path:
    """Return the YAML file of a packaged name or a path (relative to ``beside`` when given).

    Raises:
        RecipeError: neither a file nor a packaged name; names the nearest one.
    """
    path = Path(recipe)
    if "\0" in str(recipe):
        raise RecipeError(f"no recipe {str(recipe)!r}")
    if path.suffix in SUFFIXES:
        found = (beside / path) if beside is not None and not path.is_absolute() else path
        if not found.is_file():
            raise RecipeError(f"no recipe file {str(found)!r}")
        return found
    packaged = PACKAGED / f"{path.as_posix()}.yaml"
    names = recipe_names()
    if path.as_posix() not in names:
        raise RecipeError(
            f"no recipe {str(recipe)!r}{nearest(str(recipe), names)}; packaged: {', '.join(names)}"
        )
    return packaged
