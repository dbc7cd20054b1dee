"""What a choice found, as ``choose.json`` holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from manyeyes.probes.similarity import set_score
from manyeyes.study.choosing.scores import Distortion, Interval
from manyeyes.study.probing.probe import Figure

TEXT = "text"
"""The last row and column of ``Choice.similarity``: the language model's space."""


@dataclass(frozen=True)
class ChosenEncoder:
    """One candidate. ``language``: text level -> CKA with it. ``operations``: of one picture."""

    name: str
    source: str
    family: str
    checkpoint: str
    level: int
    geometry: str
    grid: tuple[int, int]
    language: Mapping[int, float]
    parameters: int
    operations: float
    probes: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class RankedSet:
    """One encoder or several; see ``scores.SetScore``. ``distortion``: GW, where it was measured.

    ``patches``: of all encoders together; a fusion decides how many tokens become of them.
    """

    encoders: tuple[str, ...]
    score: float
    ci95: Interval | None
    behind: float
    behind_ci95: Interval | None
    tied: bool
    parameters: int
    operations: float
    patches: int
    distortion: Distortion | None = None

    @property
    def name(self) -> str:
        return " + ".join(self.encoders)


@dataclass(frozen=True)
class ChosenArm:
    """An arm of the comparison that a choice ends with: a set, its recipe, and changes to it."""

    name: str
    encoders: tuple[str, ...]
    recipe: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """``sets``: best first. ``similarity``: CKA of every two encoders, the text's space last.

    ``text_levels``: of the language model; sets are ranked by the first. ``blind``: task -> the
    best constant answer. ``facts``: pictures, files, seed.
    """

    encoders: tuple[ChosenEncoder, ...]
    sets: tuple[RankedSet, ...]
    similarity: tuple[tuple[float, ...], ...]
    language: str
    text_levels: tuple[int, ...]
    arms: tuple[ChosenArm, ...]
    command: str
    notes: tuple[str, ...]
    blind: Mapping[str, Figure] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> RankedSet:
        return self.sets[0]

    @property
    def best_single(self) -> RankedSet:
        return next(one for one in self.sets if len(one.encoders) == 1)

    @property
    def tied(self) -> list[RankedSet]:
        """The sets that may be as good as the best one, without it."""
        return [one for one in self.sets[1:] if one.tied]

    def score_of(self, names: Sequence[str]) -> float:
        """Return the score of any set of these encoders, ranked or not."""
        every = [one.name for one in self.encoders]
        members = [every.index(name) for name in names]
        return float(set_score(np.array(self.similarity), members, len(every)))
