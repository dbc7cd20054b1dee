"""Escape sequences in data never reach the terminal raw; colours and bars still work."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from cli_runs import invoke, the_object
from manyeyes.cli.output import Output
from manyeyes.cli.terminal import HarmlessConsole, harmless
from manyeyes.errors import DataError

EVIL = "a\x1b]0;owned\x07b\x9b31mc\x08\rd\u202ee\u2028f\x7fg"
GOOD = "a]0;ownedb31mcdefg"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")


def test_what_is_removed_and_what_stays() -> None:
    assert harmless(EVIL) == GOOD
    whole = "\u0645\u200c\u06cc \u00a0 \u4e16\u3000\u754c \U0001f468\u200d\U0001f469 \t\n ok"
    assert harmless(whole) == whole


@pytest.mark.parametrize(
    "thing", [EVIL, Text(EVIL), f"[bold]{EVIL}[/bold]"], ids=["markup", "text", "bold"]
)
def test_tables_titles_and_text_are_cleaned(thing: str | Text) -> None:
    stream = io.StringIO()
    console = HarmlessConsole(file=stream, width=80)
    table = Table(thing if isinstance(thing, str) else "x", title="t" + EVIL, caption=EVIL)
    table.add_row(thing)
    console.print(table, thing)
    assert GOOD in stream.getvalue() and not RAW.search(stream.getvalue())


def test_colours_are_written_by_the_console_alone() -> None:
    stream = io.StringIO()
    console = HarmlessConsole(
        file=stream, force_terminal=True, color_system="standard", highlight=False
    )
    console.print(f"[red]{EVIL}[/red]")
    assert stream.getvalue() == f"\x1b[31m{GOOD}\x1b[0m\n"


def test_every_way_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    output = Output(stream, as_json=False)
    output.line(EVIL)
    output.write(EVIL)
    output.note(EVIL)
    output.complain(DataError(EVIL, file=EVIL, key=EVIL))
    assert stream.getvalue() == f"{GOOD}\n{GOOD}"
    told = capsys.readouterr().err
    assert not RAW.search(told) and told.count(GOOD[:10]) == 4
    machine = Output(io.StringIO(), as_json=True)
    machine.result({EVIL: EVIL})
    written = machine._stdout.getvalue()  # type: ignore[attr-defined]
    assert not RAW.search(written) and json.loads(written) == {EVIL: EVIL}


def test_check_of_hostile_rows(tmp_path: Path) -> None:
    talk = [{"from": EVIL, "value": "<image>"}, {"from": "gpt", "value": EVIL}]
    rows = [
        {"id": EVIL, "image": f"{EVIL}.png", "conversations": talk},
        {"id": EVIL, "image": "x.png", "conversations": [{"from": "human", "value": "x"}, talk[1]]},
    ]
    path = tmp_path / f"rows{EVIL}.json"
    path.write_text(json.dumps(rows))
    for words in (("check", path), ("convert", "data", path, "--to", "llava", "--out", "o.json")):
        shown = invoke(*words)
        assert shown.exit_code == 1
        assert not RAW.search(shown.stdout + shown.stderr)
    assert the_object(invoke("check", path, "--json"))["files"][0]["broken"] == 2
