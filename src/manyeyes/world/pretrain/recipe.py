"""What a part that can be trained is made of: a row of the tables of ``*_parts``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.world.pretrain.cards import Table
from manyeyes.world.pretrain.loop import PartObjective


@dataclass(frozen=True)
class PartRecipe:
    """How a part is made, for how long, how it is measured, and what its card says."""

    objective: Callable[[int, Path], PartObjective]
    """Makes the objective from a seed and the folder of the run, where it may keep files."""

    measure: Callable[[Any, Path], Mapping[str, Table]]
    """Measures the trained objective, or the folder that it was exported to."""

    summary: str

    minutes: float | None = None
    """Default budget on one CPU thread."""

    steps: int | None = None
    """Default budget of parts that must all learn equally long."""

    data: str = "world scenes of split train, rendered on the fly"
