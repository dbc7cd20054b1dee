"""The figures of a model for its card, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyeyes.checkpoints.card import table
from manyeyes.evaluation.tables.table import COLUMNS, result_rows

_RESULTS = ("evaluation*/results.json", "evaluation/*/results.json")
_NONE = "It has not been evaluated where it was saved."
_HOW = (
    "Each score stands with its 95 % interval, clustered by image, beside the best constant answer "
    "and the same model without the image. `manyeyes evaluate` gives them again."
)


def stored_results(run: Path) -> list[dict[str, Any]]:
    """Return what evaluations wrote into the folder of a run, see ``runner.evaluate``."""
    files = sorted(file for pattern in _RESULTS for file in run.glob(pattern))
    found = []
    for file in files:
        try:
            one = json.loads(file.read_text(encoding="utf-8"))
            if one["benchmarks"] and one["model"]["fingerprint"]:
                found.append(one)
        except (OSError, ValueError, LookupError, TypeError):  # a file of something else
            continue
    return found


def figures_section(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the section on figures; ``found``: of the card's model and no other."""
    rows = [
        (row[0], results["split"], *row[1:]) for results in found for row in result_rows(results)
    ]
    notes = [
        f"- {name}: {note}"
        for results in found
        for name, entry in results["benchmarks"].items()
        for note in entry["model"]["notes"]
    ]
    if not rows:
        return f"## Figures\n\n{_NONE}"
    said = table((COLUMNS[0], "split", *COLUMNS[1:]), rows)
    return "\n\n".join(["## Figures", said, _HOW, *(["\n".join(notes)] if notes else [])])
