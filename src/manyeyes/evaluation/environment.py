"""What a result must say about where it came from: data hashes, versions, machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from manyeyes.files import file_sha256

_PACKAGES = ("manyeyes", "torch", "transformers", "numpy", "pillow")


def describe_environment() -> dict[str, str | None]:
    """Versions of the packages that matter (None: not installed), of Python and of the system."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    found["system"] = f"{platform.system()} {platform.machine()}"
    return found


def hash_files(paths: Iterable[Path], root: str | Path) -> dict[str, str]:
    """SHA-256 of files, by their path relative to ``root``."""
    return {os.path.relpath(path, root): file_sha256(path) for path in paths}
