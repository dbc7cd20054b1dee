"""The small JSON files of a model folder, checked before a library reads them.

Libraries pass over some damaged files in silence, or say nothing of which file it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manyeyes.checkpoints.generation_file import GENERATION_FILE, check_generation
from manyeyes.errors import CheckpointError

SMALL_FILES = (
    "config.json",
    GENERATION_FILE,
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
"""Files that hold one JSON object. ``tokenizer.json`` is large and left to its own library."""


def check_model_files(folder: Path) -> None:
    """Check that each of ``SMALL_FILES`` that ``folder`` holds is a JSON object.

    Raises:
        CheckpointError: one is not, or how to generate cannot be read from it; names the file.
    """
    for name in SMALL_FILES:
        file = folder / name
        if file.is_symlink() or file.exists():
            found = read_object(file)
            if name == GENERATION_FILE:
                check_generation(found, file)


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in ``file``.

    Raises:
        CheckpointError: it cannot be read, or holds something else; names file and line.
    """
    try:
        if not file.is_file():
            raise CheckpointError(f"{file}: is no ordinary file")
        found = json.loads(file.read_bytes().decode("utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{file}:{error.lineno}: is not JSON: {error.msg} (column {error.colno}); "
            "get the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: is not UTF-8 text; get the file again") from error
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got a {type(found).__name__}")
    return found
