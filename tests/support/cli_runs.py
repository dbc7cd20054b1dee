"""Helpers of the command-line tests: run a command, read its JSON, a finished tiny run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from manyeyes.cli import build_app


def invoke(*args: object, stdin: str | None = None) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(build_app(), [str(arg) for arg in args], input=stdin)


def the_object(result: Result) -> dict[str, Any]:
    """Return what a ``--json`` command wrote, which must be one object on one line."""
    lines = result.stdout.splitlines()
    assert len(lines) == 1, result.stdout + result.stderr
    found = json.loads(lines[0])
    assert isinstance(found, dict)
    return found


@dataclass(frozen=True)
class Trained:
    """A finished tiny run: its recipe file, folder, data, and what ``train --json`` wrote."""

    recipe: Path
    out: Path
    data: Path
    report: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.out / "model"
