"""Where each value of a recipe comes from: its file, one that it extends, --set, or a default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.bridge import parse_bridge
from manyeyes.encoders import parse_encoder
from manyeyes.fusion import parse_fusion
from manyeyes.options import plain
from manyeyes.recipes.load import load_recipe, merge, push_down_training
from manyeyes.recipes.names import find_recipe
from manyeyes.recipes.overrides import apply_overrides
from manyeyes.recipes.yaml_io import read_yaml

SETTING, DEFAULT = "--set", "default"


@dataclass(frozen=True)
class Origin:
    """One value of a resolved recipe: its dotted place, and the file or option that says it."""

    key: str
    value: Any
    source: str


def value_origins(recipe: str | Path, settings: Iterable[str] = ()) -> list[Origin]:
    """Return every value of a recipe, in the order of its blocks, with where it is said.

    Raises:
        RecipeError: what `load_recipe` raises.
    """
    chosen = list(settings)
    checked = load_recipe(recipe, chosen)
    data, sources = _merged(recipe)
    push_down_training(data)
    _follow_training(sources, data)
    before = flat(data)
    apply_overrides(data, chosen)
    for key, value in flat(data).items():
        if key not in before or before[key] != value:
            sources[key] = SETTING
    resolved = checked.model_dump(mode="json")
    resolved["model"] = _with_defaults(resolved["model"])
    return [
        Origin(key, value, _source(key, sources))
        for key, value in flat(resolved).items()
        if not (value in (None, [], {}) and key not in sources)
    ]


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """Return dotted place -> value; items of lists with a ``name`` stand under it."""
    if isinstance(value, Mapping) and value:
        blocks = value.items()
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        blocks = {str(v.get("name", at)): v for at, v in enumerate(value)}.items()
    else:
        return {place: value}
    found: dict[str, Any] = {}
    for key, inside in blocks:
        found |= flat(inside, f"{place}.{key}" if place else str(key))
    return found


def chain_of(recipe: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the files that a recipe is made of, the first ancestor first: name and raw data."""
    found: list[tuple[str, dict[str, Any]]] = []
    step: Any = recipe
    beside: Path | None = None
    while step is not None:
        path = find_recipe(step, beside)
        data = read_yaml(path)
        found.append((str(step), data))
        step, beside = data.pop("extends", None), path.parent
    return found[::-1]


def _merged(recipe: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    data: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, raw in chain_of(recipe):
        before, said = flat(data), flat(raw)
        data = merge(data, raw) if data else raw
        now = flat(data)
        changed = {key for key, value in now.items() if before.get(key, ...) != value}
        sources = {key: sources.get(key, name) for key in now}
        sources |= {key: name for key in now if key in changed or key in said}
    return data, sources


def _follow_training(sources: dict[str, str], data: Mapping[str, Any]) -> None:
    """What the top-level ``training`` says is a stage's own where the stage says nothing."""
    shared = {key: name for key, name in sources.items() if key.startswith("training.")}
    for stage in data.get("stages", ()):
        for key, name in shared.items():
            sources.setdefault(f"stages.{stage.get('name')}.{key}", name)


def _source(key: str, sources: Mapping[str, str]) -> str:
    """The source of a key, or of the block or shorthand that it was written out from."""
    while key:
        if key in sources:
            return sources[key]
        key = key.rpartition(".")[0]
    return DEFAULT


def _with_defaults(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model block with what its parts take where it says nothing."""
    _, fusion = parse_fusion(model.get("fusion") or {"name": "single"})
    _, bridge = parse_bridge(model.get("bridge") or {"name": "placeholder"})
    encoders = [_ordered(e, plain(parse_encoder(e))) for e in model["encoders"]]
    return {
        **model,
        "encoders": encoders,
        "fusion": _ordered(model.get("fusion") or {}, plain(fusion)),
        "bridge": _ordered(model.get("bridge") or {}, plain(bridge)),
    }


def _ordered(said: Mapping[str, Any], every: Mapping[str, Any]) -> dict[str, Any]:
    """What is said first, then the rest."""
    return {**said, **{key: value for key, value in every.items() if key not in said}}
