"""Architectures of language models by name, so that recipes over one model cannot differ.

language: {checkpoint: Qwen/Qwen2.5-0.5B-Instruct, config: qwen2.5-0.5b}
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from manyeyes.errors import RecipeError, nearest
from manyeyes.recipes.yaml_io import read_yaml

_FILE = Path(__file__).with_name("architectures.yaml")


def write_out_architectures(data: dict[str, Any], where: str) -> None:
    """Put the fields of a named architecture in the place of its name, in raw recipe data.

    It is looked for in the ``model`` block of the recipe ``where`` and of each of its stages.

    Raises:
        RecipeError: no such architecture; names the nearest.
    """
    stages = data.get("stages")
    for block in (data, *(stages if isinstance(stages, list) else ())):
        model = block.get("model") if isinstance(block, dict) else None
        language = model.get("language") if isinstance(model, dict) else None
        if isinstance(language, dict) and isinstance(language.get("config"), str):
            language["config"] = _architecture(language["config"], where)


def _architecture(name: str, where: str) -> dict[str, Any]:
    known = _known()
    if name not in known:
        raise RecipeError(
            f"{where}: model.language.config: no architecture {name!r}{nearest(name, known)}; give "
            f"its fields with model_type, or one of: {', '.join(known)}"
        )
    return copy.deepcopy(known[name])


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    return dict(read_yaml(_FILE))
