"""A choice, written: JSON, Markdown, one page, and the arms of the next comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from markupsafe import Markup

from manyeyes.files import write_text
from manyeyes.lines import count_text, number_text
from manyeyes.study.choosing.notes import figure, headline
from manyeyes.study.choosing.record import TEXT, Choice, RankedSet
from manyeyes.study.choosing.short_list import ARMS_FILE, Setting, arms_text, next_command
from manyeyes.study.pages.figures import bars
from manyeyes.study.pages.page import render
from manyeyes.study.record import Measure
from manyeyes.study.trials.trial import read_record

CHOICE_FILE, TABLE_FILE, REPORT_FILE = "choose.json", "table.md", "report.html"
TEMPLATE_FILE = "choice.html.jinja"
SHOWN = 20
"""Sets in tables; ``choose.json`` holds all."""
_LABEL = 22
"""Letters of a bar's label."""

Judgement = Sequence[str]
"""What a finished study said of the ranking, a sentence each."""


def write_choice(choice: Choice, setting: Setting, out: Path) -> Choice:
    """Write everything into ``out``; return the choice with its next command."""
    out.mkdir(parents=True, exist_ok=True)
    choice = replace(choice, command=next_command(choice.arms, setting, out))
    arms = arms_text(choice.arms)
    if arms:
        write_text(out / ARMS_FILE, arms)
    write_text(out / CHOICE_FILE, json.dumps(asdict(choice), indent=1, ensure_ascii=False) + "\n")
    write_pages(choice, out)
    return choice


def write_pages(choice: Choice, out: Path, judgement: Judgement = ()) -> None:
    """Write ``table.md`` and ``report.html``, with what a finished study said where it did."""
    write_text(out / TABLE_FILE, markdown(choice, judgement))
    write_text(out / REPORT_FILE, page(choice, judgement))


def read_choice(out: Path) -> Choice:
    """Return the choice that a folder holds; DataError if there is none or it is broken."""
    return read_record(Choice, out / CHOICE_FILE)


def columns(choice: Choice) -> list[str]:
    """Return the titles of the table of sets."""
    further = [f"CKA, text level {level}" for level in choice.text_levels[1:]]
    probes = [f"{task} (linear probe)" for task in choice.blind]
    costs = ["GFLOP per image", "parameters", "visual tokens"]
    return ["encoders", "score", "behind the best", "GW", *further, *probes, *costs]


def cells(choice: Choice, one: RankedSet) -> list[str]:
    """Return a set's row of the table; what is known of single encoders alone is empty else."""
    own = {encoder.name: encoder for encoder in choice.encoders}
    encoder = own[one.encoders[0]] if len(one.encoders) == 1 else None
    gw = one.distortion
    levels = choice.text_levels[1:]
    return [
        one.name,
        figure(one.score, one.ci95),
        _behind(choice, one),
        "" if gw is None else figure(gw.value, gw.ci95),
        *("" if encoder is None else figure(encoder.language[level], None) for level in levels),
        *(_probe(encoder.probes.get(task) if encoder else None) for task in choice.blind),
        number_text(one.operations / 1e9),
        count_text(one.parameters),
        f"{one.patches:,}",
    ]


def _behind(choice: Choice, one: RankedSet) -> str:
    if one is choice.best or one == choice.best:
        return "the best"
    return figure(one.behind, one.behind_ci95) + (", tied" if one.tied else "")


def _probe(found: object) -> str:
    value, ci95 = getattr(found, "value", None), getattr(found, "ci95", None)
    return "" if value is None else figure(value, ci95, digits=1)


def redundancy(choice: Choice) -> list[list[str]]:
    """Return the CKA of every two encoders and the text as rows of cells, titles first."""
    names = [*(encoder.name for encoder in choice.encoders), TEXT]
    rows = zip(names, choice.similarity, strict=True)
    return [["", *names], *([name, *(figure(v, None, 2) for v in row)] for name, row in rows)]


def footnotes(choice: Choice) -> list[str]:
    """Return how the figures were made."""
    blind = [f"{task} {figure(f.value, None, 1)} %" for task, f in choice.blind.items()]
    gw = next((one.distortion for one in choice.sets if one.distortion), None)
    return [
        f"score: unbiased CKA with text level {choice.text_levels[0]} of {choice.language} "
        f"(0 = the token embeddings) over {choice.facts['pictures']} pictures; of a set, of its "
        "features side by side. 95 % intervals over half-samples of the pictures, of each figure "
        "alone.",
        *(
            [f"GW: smaller is nearer; mean of {gw.blocks} blocks of {gw.size} pictures."]
            if gw
            else []
        ),
        *([f"The best constant answer: {', '.join(blind)}."] if blind else []),
    ]


def markdown(choice: Choice, judgement: Judgement = ()) -> str:
    """Return the ranking, the redundancy and the notes as Markdown."""
    lines = ["# Which encoders?", "", headline(choice), ""]
    if judgement:
        lines += ["## How well this had predicted", "", *(f"- {text}" for text in judgement), ""]
    rows = [columns(choice), *(cells(choice, one) for one in choice.sets[:SHOWN])]
    lines += [*_table(rows), ""]
    lines += [f"- {text}" for text in (*choice.notes, *footnotes(choice))]
    lines += ["", "## Likeness of every two", "", *_table(redundancy(choice)), ""]
    if choice.command:
        lines += ["## Next", "", "```", choice.command, "```", ""]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]]


def page(choice: Choice, judgement: Judgement = ()) -> str:
    """Return the report as one page that loads nothing."""
    return render(
        TEMPLATE_FILE,
        choice=choice,
        headline=headline(choice),
        judgement=judgement,
        columns=columns(choice),
        rows=[(one, cells(choice, one)) for one in choice.sets[:SHOWN]],
        left=max(0, len(choice.sets) - SHOWN),
        scores=_bars(choice),
        redundancy=redundancy(choice),
        notes=(*choice.notes, *footnotes(choice)),
    )


def _bars(choice: Choice) -> Markup:
    """The scores of the first sets, times 100."""
    n = int(choice.facts["pictures"])
    groups = {}
    for one in choice.sets[:SHOWN]:
        ci95 = one.ci95 and (100 * one.ci95[0], 100 * one.ci95[1])
        label = one.name if len(one.name) <= _LABEL else one.name[: _LABEL - 1] + "…"
        groups[label] = {"score": Measure("CKA", 100 * one.score, n, ci95)}
    return bars(groups, {"score": "var(--c0)"}, names={"score": "score × 100"})
