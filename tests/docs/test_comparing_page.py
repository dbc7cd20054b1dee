"""The commands of ``docs/comparing.md`` run as printed, and the keys of its table exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from cli_runs import invoke, the_object

PAGE = Path(__file__).parents[2] / "docs" / "comparing.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [shlex.split(line)[1:] for text in blocks for line in text.splitlines()]


def write_answers(folder: Path) -> None:
    """Two files of answers: every third and every second one is wrong."""
    file = folder / "data" / "annotations" / "vqa_test_annotations.json"
    rows = json.loads(file.read_text())["annotations"]
    for name, step in (("ours", 3), ("theirs", 2)):
        answers = [
            {
                "question_id": row["question_id"],
                "answer": row["multiple_choice_answer"] if place % step else "none",
            }
            for place, row in enumerate(rows)
        ]
        (folder / f"{name}.json").write_text(json.dumps(answers))


def test_commands_run_and_print_what_the_page_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, table, as_json = commands()
    assert invoke(*make).exit_code == 0
    write_answers(tmp_path)
    shown = invoke(*table)
    assert shown.exit_code == 0, shown.stderr
    found = the_object(invoke(*as_json))["comparison"]["metrics"]["accuracy"]
    rows = re.findall(r"^\|(?: .*)? \| (`.*`) \| .* \|$", PAGE.read_text(), flags=re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert keys == set(found) - {"n", "clusters"}
