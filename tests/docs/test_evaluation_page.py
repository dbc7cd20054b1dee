"""The commands of ``docs/evaluation.md`` run as printed, and its table knows the benchmarks."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmark_files import FILES
from cli_runs import invoke
from manyeyes.evaluation.benchmarks import BENCHMARKS

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [shlex.split(line)[1:] for text in blocks for line in text.splitlines()]


def table() -> dict[str, list[str]]:
    """Benchmark -> the cells of its row."""
    _, section = PAGE.read_text().split("## Benchmarks\n")
    rows = re.findall(r"^\| (`[a-z].*?) \|$", section.split("\n## ")[0], flags=re.MULTILINE)
    found = {}
    for row in rows:
        first, *cells = row.split(" | ")
        found.update(dict.fromkeys(re.findall(r"`([^`]+)`", first), cells))
    return found


def write_answers(folder: Path) -> None:
    """What the page calls ``answers.json`` and ``gqa.json``: the same word to every question."""
    asked = json.loads((folder / "data/annotations/vqa_test_questions.json").read_text())
    rows = [{"question_id": q["question_id"], "answer": "red"} for q in asked["questions"]]
    (folder / "answers.json").write_text(json.dumps(rows))
    graphs = json.loads((folder / "data/annotations/gqa_test_questions.json").read_text())
    (folder / "gqa.json").write_text(
        json.dumps([{"questionId": key, "prediction": "yes"} for key in graphs])
    )


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands():
        result = invoke(*words)
        assert result.exit_code == 0, f"{words}: {result.stderr} {result.exception!r}"
        if words[:2] == ["world", "make"]:
            write_answers(tmp_path)
    assert len(commands()) > 3


def test_the_printed_result_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (printed,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    make, *scored = commands()
    assert invoke(*make).exit_code == 0
    write_answers(tmp_path)
    found, shown = json.loads(invoke(*scored[-1]).stdout), json.loads(printed)
    assert list(found) == list(shown)
    assert (found["n"], found["counted"]) == (shown["n"], shown["counted"])
    assert found["metrics"] == pytest.approx(shown["metrics"], abs=0.006)
    for metric, interval in shown["ci95"].items():
        assert found["ci95"][metric] == pytest.approx(interval, abs=0.006)
    assert found["by"]["structural"] == pytest.approx(shown["by"]["structural"], abs=0.006)


TEXT_ANSWERS = ("aokvqa", "gqa", "okvqa", "pope", "textvqa", "vqav2", "vsr")
BOXES = ("refcoco", "refcoco+", "refcocog", "flickr30k-entities", "visual7w")
OBJECTS = ("reg", "pointqa", "coco-detection", "coda")


def test_the_table_has_every_benchmark() -> None:
    assert set(table()) == set(BENCHMARKS)


@pytest.mark.parametrize("name", [*TEXT_ANSWERS, *BOXES, *OBJECTS, *FILES])
def test_the_table_lists_the_variants(name: str) -> None:
    variants = [re.sub(r" \(.*\)", "", text) for text in table()[name][3].split(", ")]
    assert variants == list(BENCHMARKS[name].variants)
