"""``results.json`` of a run: what was trained on what, with which code and environment."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import manyeyes
from manyeyes.data.containers.shards import expand_shards
from manyeyes.data.files import FileReport
from manyeyes.files import file_sha256


def stage_results(
    name: str, reports: Sequence[FileReport], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the entry of one finished stage."""
    return {
        "stage": name,
        **figures,
        "data": [
            {
                "path": report.path,
                "format": report.format,
                "samples": report.samples,
                "skipped": report.broken,
                "skipped_rows": [str(error) for error in report.errors],
                "excluded": report.excluded,
                "excluded_rows": list(report.leaks),
                "sha256": data_hash(report.path),
            }
            for report in reports
        ],
    }


def environment() -> dict[str, Any]:
    """Return versions and hardware that a figure may depend on."""
    return {
        "manyeyes": manyeyes.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def data_hash(name: str) -> str:
    """Return the SHA-256 of a data file; of shards, that of their hashes in order."""
    hashes = [file_sha256(Path(shard)) for shard in expand_shards(name)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _commit() -> str | None:
    """Return the commit of a source checkout; None for an installed package."""
    checkout = Path(manyeyes.__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None
