"""Where a figure comes from: versions and hardware that it may depend on. Every result holds it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import manyeyes

PACKAGES = ("torch", "transformers", "numpy", "pillow")


def environment() -> dict[str, Any]:
    """Return versions (None: not installed; ``commit``: no checkout), machine and processes."""
    import torch

    return {
        "manyeyes": manyeyes.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
