"""Which levels of an encoder a recipe names."""

from __future__ import annotations

from typing import Any

from manyeyes.errors import PartError, RecipeError


def parse_levels(levels: Any, num_blocks: int, name: str) -> tuple[int, ...]:
    """Return hidden-state indices from ``"all"``, ``"13-24"``, an int, or a list of these.

    Raises:
        PartError: a level outside 0..num_blocks.
    """
    if levels == "all":
        return tuple(range(1, num_blocks + 1))
    items = levels if isinstance(levels, list | tuple) else [levels]
    found: list[int] = []
    for item in items:
        first, _, last = str(item).partition("-") if not _is_int(item) else (str(item), "", "")
        try:
            found.extend(range(int(first), int(last or first) + 1))
        except ValueError:
            raise RecipeError(
                f"encoders.{name}.levels: {item!r} is not a level, a range 'a-b' or 'all'"
            ) from None
    return tuple(_check_level(level, num_blocks, name) for level in found)


def _is_int(item: object) -> bool:
    return isinstance(item, int) or str(item).lstrip("-").isdigit()


def _check_level(level: int, num_blocks: int, name: str) -> int:
    index = level + num_blocks + 1 if level < 0 else level
    if not 0 <= index <= num_blocks:
        raise PartError(
            f"encoder {name!r} has {num_blocks} blocks, so level {level} does not exist "
            f"(levels 0..{num_blocks}; paper layer i is level i)"
        )
    return index
