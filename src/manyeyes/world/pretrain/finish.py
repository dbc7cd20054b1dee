"""The end of every run: a trained part becomes a folder, measured and with its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from manyeyes.checkpoints.light import is_weights
from manyeyes.files import written_folder
from manyeyes.model.precision import CPU, computed_in
from manyeyes.world.pretrain.cards import (
    Card,
    Table,
    stored_parameters,
    weight_files,
    write_card,
)
from manyeyes.world.pretrain.loop import PartObjective, RunState

RENDERED = "world scenes of split train, rendered on the fly"
"""What parts that read pictures are trained on."""


def finish_part(
    part: str,
    objective: PartObjective,
    state: RunState,
    folder: Path,
    threads: int,
    *,
    summary: str,
    measure: Callable[[Path], Mapping[str, Table]],
    data: str = RENDERED,
    seen: Mapping[str, Any],
    last: Mapping[str, float] | None = None,
    parameters: int | None = None,
) -> Card:
    """Export a trained objective to ``folder``, measure the files written, write the card.

    ``seen``: what was read in all, for the card; ``last``: figures of the last step; ``parameters``
    None: as many as the files hold.
    """
    with written_folder(folder, ours=is_weights) as aside:
        objective.export(aside)
        card = Card(
            part=part,
            summary=summary,
            parameters=stored_parameters(aside) if parameters is None else parameters,
            training={
                "data": data,
                "seed": objective.seed,
                "steps": state.step,
                **seen,
                "learning rate": objective.learning_rate,
                "seconds": round(state.seconds, 1),
                "threads": threads,
                "precision": f"{computed_in(CPU)}, weights saved in bf16",
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                **{f"final {name}": value for name, value in (last or {}).items()},
            },
            files=weight_files(aside),
            figures=measure(aside),
        )
        write_card(card, aside)
    return card
