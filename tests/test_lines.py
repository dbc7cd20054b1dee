"""Only line ends end lines, wherever text is read line by line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import manyeyes
from manyeyes.data.exclusion import read_exclusion
from manyeyes.data.readers.flickr30k_entities import read_sentences
from manyeyes.encoders.tagging import read_lines
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.lines import split_lines
from manyeyes.records import Sample
from manyeyes.study.comparison.former import read_former
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.trials.trial import load_plan, save_plan
from study_runs import save_former, write_run
from study_trials import write_study

ODD = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"
"""Every character at which ``str.splitlines`` cuts, except line ends."""


def test_line_ends_of_every_system_and_nothing_else() -> None:
    assert split_lines(f"{ODD}\nsecond\r\nthird\rfourth") == [ODD, "second", "third", "fourth"]
    assert split_lines("one\n") == ["one"]
    assert split_lines("one\n\ntwo\n\n") == ["one", "", "two", ""]
    assert split_lines("") == []
    assert split_lines("\n") == [""]


def test_no_file_is_cut_by_splitlines() -> None:
    """Of texts that are no files: a message, the kernel's table; the log of training is ASCII."""
    allowed = {
        "lines.py",
        "model/loading.py",
        "study/trials/measurement.py",
        "training/callbacks.py",
    }
    source = Path(manyeyes.__file__).parent
    used = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if ".splitlines(" in path.read_text(encoding="utf-8")
    }
    assert used <= allowed


def test_lists_of_names_and_sentences(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{ODD}.jpg\nother.jpg\n", encoding="utf-8")
    assert read_lines(str(path), "tags") == [f"{ODD}.jpg", "other.jpg"]
    assert len(read_sentences(path)) == 2
    exclusion = read_exclusion([str(path)])
    assert exclusion.leak(Sample("s", ("other.jpg",), ())) is not None
    assert exclusion.leak(Sample("s", ("b.jpg",), ())) is None


@pytest.mark.parametrize("question", [f"Is it {ODD}?", "Is it?"])
def test_mme_questions_and_results(tmp_path: Path, question: str) -> None:
    folder = tmp_path / "count"
    folder.mkdir()
    (folder / "a.txt").write_text(f"{question}\tYes\nNo?\tNo\n", encoding="utf-8")
    (folder / "a.png").write_bytes(b"")
    benchmark = BENCHMARKS["mme"]
    items = benchmark.read_files([folder])
    assert [item.id.rpartition("/")[2] for item in items] == [question, "No?"]
    results = tmp_path / "results"
    results.mkdir()
    lines = f"a.png\t{question}\tYes\tyes {ODD}\na.png\tNo?\tNo\tno\n"
    (results / "count.txt").write_text(lines, encoding="utf-8")
    assert benchmark.score(items, benchmark.load(results)).headline.value == 200.0


def test_questions_of_a_former_demo_and_its_report(tmp_path: Path) -> None:
    study, items = write_run(tmp_path, images=12, good_challenger=0.75)
    odd = [replace(item, question=f"{item.question} {ODD}") for item in items]
    save_former(tmp_path, study, odd)
    asked = [item.question for item in read_former(tmp_path)[1]]
    assert asked == [item.question for item in odd]
    write_outputs(tmp_path)
    assert (tmp_path / "report.html").is_file()


def test_questions_of_a_plan(tmp_path: Path) -> None:
    write_study(tmp_path, images=2, seeds=1)
    plan, items = load_plan(tmp_path)
    odd = [replace(item, question=f"{item.question} {ODD}") for item in items]
    save_plan(tmp_path, plan, odd)
    assert load_plan(tmp_path) == (plan, odd)


def test_predictions_of_a_file_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [{"question_id": n, "answer": ODD} for n in range(3)]
    path.write_text("".join(f"{json.dumps(r, ensure_ascii=False)}\n" for r in rows), "utf-8")
    assert BENCHMARKS["vqa"].load(path) == {str(n): ODD for n in range(3)}
