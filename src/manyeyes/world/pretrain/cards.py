"""Cards: what a shipped part is, how it was trained, and what was measured on it.

``card.json`` is the record, ``README.md`` its rendering. Every number in both was measured by the
run that wrote them; the sentences on what a part failed to learn follow from the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file

from manyeyes.errors import CheckpointError, UsageError
from manyeyes.files import file_sha256, write_text

Table = Mapping[str, Mapping[str, float]]
"""Rows of figures by name: ``{row: {figure: value}}``; the row ``n`` holds sample sizes."""

NOISE = 0.03
"""Differences of probe accuracies up to this are not called differences."""

CARD_FILE = "card.json"


@dataclass(frozen=True)
class Card:
    """One part's record.

    ``training`` holds data, seed, steps, samples, seconds, threads and versions; ``files`` the size
    and SHA-256 of each weight file; ``figures`` one table per kind of measurement.
    """

    part: str
    summary: str
    parameters: int
    training: Mapping[str, str | int | float]
    files: Mapping[str, Mapping[str, str | int]]
    figures: Mapping[str, Table]


def weight_files(folder: Path) -> dict[str, dict[str, str | int]]:
    """Return size in bytes and SHA-256 of every safetensors file of ``folder``."""
    return {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(folder.glob("*.safetensors"))
    }


def stored_parameters(folder: Path) -> int:
    """Return the number of values in the safetensors files of ``folder``."""
    return sum(
        tensor.numel()
        for path in folder.glob("*.safetensors")
        for tensor in load_file(path).values()
    )


def write_card(card: Card, folder: Path) -> None:
    """Write ``card.json`` and ``README.md`` into the part's folder, floats to five decimals."""
    text = json.dumps(_rounded(asdict(card)), indent=2) + "\n"
    write_text(folder / CARD_FILE, text)
    write_text(folder / "README.md", render_card(read_card(folder)))


def check_part(part: str, folder: Path) -> None:
    """Check that ``folder`` is free, or holds an earlier ``part``, which a new one replaces.

    Raises:
        UsageError: something else stands there.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        found = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))["part"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != part:
        raise UsageError(
            f"{folder} would be replaced, but it holds no part {part!r} (by its {CARD_FILE}): move "
            "it away, or choose another --out"
        )


def read_card(folder: Path) -> Card:
    """Read the card of a part; raise ``CheckpointError`` when there is none."""
    path = folder / CARD_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} has no card.json")
    return Card(**json.loads(path.read_text(encoding="utf-8")))


def render_card(card: Card) -> str:
    """Return the card as Markdown."""
    lines = [f"# {card.part}", "", card.summary, ""]
    lines += [f"- parameters: {card.parameters:,}"]
    lines += [f"- {name}: {_value(value)}" for name, value in card.training.items()]
    lines += [f"- {name}: {file['bytes']:,} bytes" for name, file in card.files.items()]
    for title, table in card.figures.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}", "", *_markdown(table)]
        if title == "linear probes":
            lines += ["", *_shortfalls(table)]
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> list[str]:
    rows = {name: row for name, row in table.items() if name != "n"}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [_value(row[c]) if c in row else "" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    sizes = ", ".join(f"{value:.0f} {name}" for name, value in table.get("n", {}).items())
    return [*lines, "", f"n = {sizes}."] if sizes else lines


def _shortfalls(table: Table) -> list[str]:
    """Say in which figures no level of the part is clearly better than untrained features."""
    levels = [row for name, row in table.items() if name.startswith("level ")]
    untrained = [row for name, row in table.items() if name.startswith(("random", "raw"))]
    lines = []
    for figure in levels[0]:
        sign = -1 if figure.endswith("_px") else 1
        best = max(sign * row[figure] for row in levels)
        bar = max(sign * row[figure] for row in untrained)
        margin = NOISE if sign == 1 else 0.0
        if best <= bar + margin:
            lines.append(
                f"- {figure}: {_value(sign * best)} at the best level, against "
                f"{_value(sign * bar)} without training."
            )
    head = "Where training did not help (no level beats the better of raw patch pixels and a random"
    head += f" ViT by more than {NOISE}):"
    return [head, "", *lines] if lines else ["Every figure beats raw pixels and a random ViT."]


def _value(value: str | int | float) -> str:
    if isinstance(value, float):
        if 0 < abs(value) < 0.01:
            return f"{value:.2g}"
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return str(value)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
