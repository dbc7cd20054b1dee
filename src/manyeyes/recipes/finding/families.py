"""Recipes by the short name of their method: ``comm`` and a size, instead of ``comm/world``.

world   tiny parts that ship: runs anywhere, in minutes, to rehearse; they know the drawn world only
small   the method's encoders with a small language model, for one GPU of 24 GB
paper   as published
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from manyeyes.errors import RecipeError, UsageError, nearest
from manyeyes.recipes.names import SUFFIXES, recipe_names

SIZES = ("world", "small", "paper")
SMALL_GIB = 20.0
"""Memory of a device on which ``small`` fits."""


def families() -> Mapping[str, tuple[str, ...]]:
    """Return method -> the sizes that it has a recipe for."""
    found: dict[str, tuple[str, ...]] = {}
    for name in recipe_names():
        family, _, rest = name.partition("/")
        found[family] = found.get(family, ()) + ((rest,) if rest in SIZES else ())
    return found


def is_family(name: str) -> bool:
    """Whether a word is a short name: neither a file nor a whole recipe's name."""
    return "/" not in name and Path(name).suffix not in SUFFIXES


def check_family(name: str) -> None:
    """Raise ``RecipeError`` for a method that does not exist; names the nearest."""
    known = families()
    if name not in known:
        raise RecipeError(
            f"no recipe or method {name!r}{nearest(name, [*known, *recipe_names()])}; methods: "
            f"{', '.join(known)}; `manyeyes recipes` lists all recipes"
        )


def with_size(name: str, size: str) -> str:
    """Return the recipe of a method at a size; whole names and files are returned as they are.

    Raises:
        UsageError: no such size. RecipeError: no such method, or none of that size.
    """
    if size not in SIZES:
        raise UsageError(f"--size {size!r}{nearest(size, SIZES)}: one of {', '.join(SIZES)}")
    if not is_family(name):
        return name
    check_family(name)
    known = families()
    if size not in known[name]:
        sizes = ", ".join(known[name]) or "none; give a whole name, see `manyeyes recipes`"
        raise RecipeError(f"{name} has no recipe of size {size!r}; sizes: {sizes}")
    return f"{name}/{size}"


def fitting_size() -> str:
    """Return the size for this machine: ``small`` with a large enough GPU, else ``world``."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None or device.type != "cuda":
        return "world"
    memory = torch.cuda.get_device_properties(0).total_memory
    return "small" if memory >= SMALL_GIB * 2**30 else "world"
