"""The state that a run goes on from, looked at before anything is done with it.

What is missing or damaged is an error that names the file; nothing is guessed. Source: ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from transformers import TrainerState

from manyeyes.errors import CheckpointError
from manyeyes.training.saving.folders import STATE_FILE, step_of

DATA_STATE_FILE = "data_state.json"
ADVICE = "remove this checkpoint to continue from an earlier one"


def read_object(path: Path, advice: str = ADVICE) -> dict[str, Any]:
    """Read a JSON object that a run left.

    Raises:
        CheckpointError: missing or damaged; ends with ``advice``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error}); {advice}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: damaged (not a JSON object); {advice}")
    return found


def check_trainer_state(checkpoint: Path) -> None:
    """Check ``trainer_state.json``, which ``transformers`` reads without looking.

    Raises:
        CheckpointError: missing, damaged, or of another step than the folder.
    """
    path = checkpoint / STATE_FILE
    found = read_object(path)
    fresh = vars(TrainerState())
    wrong = [key for key, value in found.items() if not _fits(value, fresh.get(key, ...))]
    wrong += [] if all(isinstance(e, dict) for e in found.get("log_history") or ()) else ["log"]
    if wrong:
        raise CheckpointError(f"{path}: damaged ({wrong[0]!r} is not what it was); {ADVICE}")
    step = found.get("global_step")
    if step != step_of(checkpoint):
        raise CheckpointError(
            f"{path}: damaged (it says step {step!r} in {checkpoint.name}); {ADVICE}"
        )


def _fits(value: Any, usual: Any) -> bool:
    """Tell whether a field holds a value of its kind; ``...`` stands for a field nobody knows."""
    if usual is ...:
        return False
    if value is None or usual is None:
        return True
    if isinstance(usual, bool):
        return isinstance(value, bool)
    return isinstance(value, Real if isinstance(usual, Real) else type(usual))


def read_data_state(checkpoint: Path) -> Mapping[str, Any]:
    """Read how far the data had come.

    Raises:
        CheckpointError: missing or damaged.
    """
    path = checkpoint / DATA_STATE_FILE
    found = read_object(path)
    for key in ("epoch", "position", "samples_seen", "world_size"):
        value = found.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise CheckpointError(f"{path}: damaged ({key} is {value!r}); {ADVICE}")
    return found
