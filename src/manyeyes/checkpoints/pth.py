"""Foreign ``.pth`` files, read without running what a pickle may contain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from manyeyes.errors import CheckpointError


def read_pth(file: Path) -> dict[str, Any]:
    """Return the dictionary a ``.pth`` file holds: tensors, containers, texts and numbers only.

    Raises:
        CheckpointError: missing, damaged, no dictionary, or more than plain data.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: is no checkpoint of plain tensors ({reason})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: holds a {type(found).__name__}, expected a dictionary")
    return found
