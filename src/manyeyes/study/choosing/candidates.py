"""The encoders to choose among: from what the command names to checked candidates, unbuilt.

Of each one level is read: the deepest that its recipe reads, or the one that is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manyeyes.encoders import ENCODERS, GridEncoder, GridShape, parse_encoder
from manyeyes.encoders.levels import parse_levels
from manyeyes.errors import UsageError
from manyeyes.study.probing.features import Source, read_source

DEFAULT_GEOMETRY = "pad"


@dataclass(frozen=True)
class Candidate:
    """One encoder at one ``level``; ``source`` is what named it, ``entry`` its lines of a recipe.

    ``alone``: the source names this encoder and no other, so it is a recipe of this one.
    ``trained``: the encoder of a trained model; None = it has the weights of its checkpoint.
    """

    name: str
    source: str
    level: int
    geometry: str
    grid: tuple[int, int]
    entry: Mapping[str, Any]
    trained: GridEncoder | None = field(default=None, compare=False, repr=False)

    @property
    def family(self) -> str:
        return str(self.entry["family"])

    @property
    def checkpoint(self) -> str:
        return str(self.entry.get("checkpoint", ""))


@dataclass(frozen=True)
class Candidates:
    """All of them; ``sources`` in order; ``language``: of the first source that says one.

    ``left_out``: encoders of recipes that give objects, a sentence each.
    """

    every: tuple[Candidate, ...]
    sources: tuple[Source, ...]
    language: str | None
    left_out: tuple[str, ...] = ()


def find_candidates(names: Sequence[str], *, level: int | None = None) -> Candidates:
    """Return the encoders that ``names`` name: recipes, model folders, or FAMILY=CHECKPOINT.

    Raises:
        UsageError: fewer than two, one of them twice, or one that gives objects, not patches.
        RecipeError, PartError, CheckpointError: no such encoder, checkpoint or level.
    """
    sources = tuple(read_source(name) for name in names)
    found: list[Candidate] = []
    left_out: list[str] = []
    for source in sources:
        some, others = _of_source(source, level)
        found += some
        left_out += others
    _check_different(found)
    if len(found) < 2:
        raise UsageError(
            f"a choice needs at least two encoders; {', '.join(names)} give {len(found)}"
        )
    language = next((source.language for source in sources if source.language), None)
    return Candidates(_well_named(found), sources, language, tuple(left_out))


def _of_source(source: Source, level: int | None) -> tuple[list[Candidate], list[str]]:
    found: list[Candidate] = []
    objects: list[str] = []
    for entry, trained in zip(source.entries, source.trained, strict=True):
        candidate = _candidate(source, entry, trained, level)
        if candidate is None:
            objects.append(f"{entry['name']} of {source.name} gives objects, not patches: left out")
        else:
            found.append(candidate)
    if not found:
        names = ", ".join(f"{e['name']!r} (family {e['family']})" for e in source.entries)
        raise UsageError(
            f"{source.name}: {names or 'nothing'} gives objects, not patches, and cannot be chosen "
            "by its features"
        )
    return found, objects


def _candidate(
    source: Source, entry: Mapping[str, Any], trained: Any, level: int | None
) -> Candidate | None:
    """The encoder of a recipe's entry; None where it gives objects."""
    spec = parse_encoder(entry)
    family = ENCODERS[spec.family]
    if not issubclass(family, GridEncoder):
        return None
    config = family.read_config(spec)
    shape: GridShape = family.shape(spec, config)
    blocks = family.num_blocks(config)
    chosen = max(parse_levels(spec.levels if level is None else [level], blocks, spec.name))
    geometry = source.geometry or DEFAULT_GEOMETRY
    return Candidate(spec.name, source.name, chosen, geometry, shape.grid, entry, trained)


def _check_different(found: Sequence[Candidate]) -> None:
    seen: dict[Any, Candidate] = {}
    for one in found:
        key = _identity(one)
        if key in seen:
            raise UsageError(
                f"{seen[key].name!r} of {seen[key].source} and {one.name!r} of {one.source} are "
                f"one encoder twice ({one.checkpoint or one.family}, level {one.level}): leave one "
                "out"
            )
        seen[key] = one


def _identity(one: Candidate) -> Any:
    """What decides a candidate's features."""
    keys = ("image_size", "tiles", "normalization", "bgr", "resample")
    said = tuple(repr(one.entry.get(key)) for key in keys)
    weights = one.source if one.trained is not None else one.checkpoint
    return one.family, weights, one.level, one.geometry, said


def _well_named(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The same with a name of its own for each: where two are called alike, with the source's."""
    times = Counter(one.name for one in found)
    named = [
        one if times[one.name] == 1 else replace(one, name=f"{one.name} ({_short(one.source)})")
        for one in found
    ]
    again = Counter(one.name for one in named)
    return tuple(
        one if again[one.name] == 1 else replace(one, name=f"{one.name} level {one.level}")
        for one in named
    )


def _short(source: str) -> str:
    """A recipe's own name; of a file or folder its last part, of FAMILY=CHECKPOINT likewise."""
    place = source.partition("=")[2] or source
    return Path(place).stem if Path(place).is_absolute() or "=" in source else place
