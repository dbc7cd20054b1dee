"""What a result must say about where it came from: data hashes, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
    return {os.path.relpath(path, root): sha256_of(path) for path in paths}


def sha256_of(path: Path) -> str:
    """SHA-256 of one file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
