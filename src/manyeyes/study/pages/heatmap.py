"""Figures of probes as a table: markdown, and one self-contained HTML page with coloured cells.

A cell's colour says how far its figure lies between the best constant answer (pale) and the best
figure of its column (strong).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Cells = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Probe -> row -> task -> figure in percent."""

BLIND, ITEMS = "best constant answer", "held-out items"


@dataclass(frozen=True)
class Column:
    """One task: its name and title, what the best constant answer gets, and how many items."""

    task: str
    title: str
    blind: float
    items: int


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;
color:#1b1f24;background:#fff}
table{border-collapse:separate;border-spacing:2px;margin:.5rem 0 2rem}
th{font-weight:600;text-align:left;padding:.25rem .6rem;vertical-align:bottom}
td{padding:.25rem .6rem;text-align:right;font-variant-numeric:tabular-nums;border-radius:3px}
thead th{max-width:7rem;font-size:.85rem}th:first-child{position:sticky;left:0;background:#fff}
@media(max-width:560px){th,td{padding:.25rem .35rem}th:first-child{max-width:8rem}}
.best{outline:2px solid #1b1f24}
.wide{overflow-x:auto}
"""


def heatmap(cells: Cells, columns: Sequence[Column], notes: Sequence[str]) -> str:
    """Return the page: one table per probe, rows in the given order."""
    parts = [
        Markup("<h2>{} probe</h2><div class='wide'>{}</div>").format(
            probe.capitalize(), _table(rows, columns)
        )
        for probe, rows in cells.items()
    ]
    listed = Markup("").join(Markup("<li>{}</li>").format(note) for note in notes)
    page = Markup(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<title>What each level knows</title>"
        "<style>{}</style></head><body><h1>What each level knows</h1><ul>{}</ul>{}</body></html>\n"
    )
    return str(page.format(Markup(_STYLE), listed, Markup("").join(parts)))


def _table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[Column]) -> Markup:
    best = _best(rows, columns)
    head = Markup("").join(
        Markup("<th title='{}'>{}</th>").format(c.title, c.task) for c in columns
    )
    lines = []
    for name, row in rows.items():
        cells = [_cell(row[c.task], c.blind, best[c.task]) for c in columns]
        lines.append(_line(name, cells))
    lines.append(_line(BLIND, [Markup("<td>{:.1f}</td>").format(c.blind) for c in columns]))
    lines.append(_line(ITEMS, [Markup("<td>{}</td>").format(c.items) for c in columns]))
    table = Markup("<table><thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table>")
    return table.format(head, Markup("").join(lines))


def _best(rows: Mapping[str, Mapping[str, float]], columns: Sequence[Column]) -> dict[str, float]:
    return {c.task: max(row[c.task] for row in rows.values()) for c in columns}


def _line(name: str, cells: Sequence[Markup]) -> Markup:
    return Markup("<tr><th>{}</th>{}</tr>").format(name, Markup("").join(cells))


def _cell(value: float, low: float, high: float) -> Markup:
    mark = Markup(" class='best'") if value == high else Markup("")
    cell = Markup("<td{} style='background:rgba(13,110,253,{:.2f})'>{:.1f}</td>")
    return cell.format(mark, 0.65 * strength(value, low, high), value)


def strength(value: float, low: float, high: float) -> float:
    """Return where ``value`` lies between ``low`` and ``high``, in 0..1."""
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


def markdown(cells: Cells, columns: Sequence[Column], notes: Sequence[str]) -> str:
    """Return the tables as markdown; the best figure of a column is bold."""
    lines = ["# What each level knows", "", *(f"- {note}" for note in notes), ""]
    for probe, rows in cells.items():
        best = _best(rows, columns)
        lines += [f"## {probe.capitalize()} probe", ""]
        lines += [_row("", [c.task for c in columns]), "|---" + "|---:" * len(columns) + "|"]
        for name, row in rows.items():
            bold = ["**" if row[c.task] == best[c.task] else "" for c in columns]
            figures = [f"{b}{row[c.task]:.1f}{b}" for b, c in zip(bold, columns, strict=True)]
            lines.append(_row(name, figures))
        lines.append(_row(f"*{BLIND}*", [f"{c.blind:.1f}" for c in columns]))
        lines += [_row(f"*{ITEMS}*", [str(c.items) for c in columns]), ""]
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"
