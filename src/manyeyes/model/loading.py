"""A trained model and its processor from a folder or hub id, with errors that say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from manyeyes.checkpoints.model_files import read_object
from manyeyes.errors import CheckpointError, UsageError, nearest
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor

DTYPES: dict[str, Any] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Names of ``dtype``; auto = as stored."""


def load_model(
    checkpoint: str, *, dtype: str = "auto", device: str = "auto"
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    """Load a model for answering, in ``eval()``, and its processor.

    Args:
        checkpoint: folder (``runs/comm/model``) or hub id.
        dtype: a key of ``DTYPES``. device: ``auto`` (an accelerator if there is one) or its name.

    Raises:
        CheckpointError: not there, not a manyeyes model, damaged, or its frozen parts are missing
            or not those it was trained with.
        UsageError: an unknown dtype or device.
    """
    stored = parse_dtype(dtype)
    place = choose_device(device)
    if _is_local(checkpoint):
        check_folder(Path(checkpoint))
    model: Any = ManyEyesForConditionalGeneration.from_pretrained(checkpoint, dtype=stored)
    processor = ManyEyesProcessor.from_pretrained(checkpoint)
    return model.to(place).eval(), processor


def load_autocast(
    checkpoint: str, *, dtype: str = "auto", device: str = "auto"
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor, torch.dtype | None]:
    """Load as ``load_model`` does, but keep weights as stored where ``dtype`` is a half precision.

    Returns:
        The model, its processor, and the half precision to autocast to; None where weights decide.
    """
    half = parse_dtype(dtype)
    stored = "float32" if dtype == "float32" else "auto"
    model, processor = load_model(checkpoint, dtype=stored, device=device)
    return model, processor, half if half in (torch.bfloat16, torch.float16) else None


def parse_dtype(name: str) -> Any:
    """Return the torch dtype of a name, or ``"auto"``; raise ``UsageError`` if it is unknown."""
    if name not in DTYPES:
        known = ", ".join(DTYPES)
        raise UsageError(f"unknown dtype {name!r}{nearest(name, DTYPES)}; known: {known}")
    return DTYPES[name]


def check_folder(folder: Path) -> None:
    """Check that ``folder`` holds a manyeyes model.

    Raises:
        CheckpointError: missing, without configuration, or of another kind of model.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no such model folder: {folder}")
    path = folder / "config.json"
    if not path.is_file():
        inside = sorted(str(found.parent) for found in folder.glob("*/config.json"))
        hint = f"; did you mean {inside[0]}?" if inside else ""
        raise CheckpointError(f"{folder} holds no model: config.json is missing{hint}")
    kind = read_object(path).get("model_type")
    if kind != ManyEyesConfig.model_type:
        raise CheckpointError(
            f"{folder} holds a model of type {kind!r}, not {ManyEyesConfig.model_type!r}"
        )


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` takes an accelerator if there is one.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot use device {name!r}: {reason}") from error


def _is_local(checkpoint: str) -> bool:
    """Tell paths from hub ids, which are ``name`` or ``owner/name``."""
    path = Path(checkpoint)
    return path.exists() or path.is_absolute() or checkpoint.startswith(".") or _deep(checkpoint)


def _deep(checkpoint: str) -> bool:
    parts = Path(checkpoint).parts
    return len(parts) > 2 or (len(parts) == 2 and Path(parts[0]).is_dir())
