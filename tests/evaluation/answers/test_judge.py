"""A judge beside the metrics: what it is asked, what counts, and how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.answers.judge import (
    JudgedRow,
    agreement,
    judge_benchmarks,
    judge_rows,
    read_rows,
    summary,
)
from manyeyes.inference.questions import Item, PartlyAnswered

GENERATION: Mapping[str, Any] = {"model": "a judge"}


class Judge:
    """Says what a table says of each answer; ``asked``: the prompts, in order."""

    fingerprint, box_style, generation = "f", "shikra", GENERATION

    def __init__(self, says: Mapping[str, str]) -> None:
        self.says, self.asked = says, list[str]()
        self.fails = False

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        assert not with_images
        self.asked += [item.prompt for item in items]
        said = [self.says[item.prompt.split("Answer: ")[1].split("\n")[0]] for item in items]
        if self.fails:
            raise PartlyAnswered("the rest is silent", {0: said[0]}, status=503)
        return said


def rows(*answers: str, marks: Sequence[bool | None] = ()) -> list[JudgedRow]:
    given = [*marks, *[None] * (len(answers) - len(marks))]
    return [
        JudgedRow(str(i), f"{i}.png", "What is it?", ("a dog", "a puppy"), answer, mark)
        for i, (answer, mark) in enumerate(zip(answers, given, strict=True))
    ]


def test_the_judge_reads_question_references_and_answer_and_says_yes_or_no(tmp_path: Path) -> None:
    judge = Judge({"hound": "Yes.", "cat": "No, it is not.", "eh": "Hard to say", "nothing": ""})
    right = judge_rows(judge, rows("hound", "cat", "eh", "nothing", " "), tmp_path, "x")
    assert right == [True, False, None, None, False]  # who says nothing is not asked about
    first = "Question: What is it?\nAccepted: a dog; a puppy\nAnswer: hound\n"
    assert judge.asked[0].startswith(first) and len(judge.asked) == 4
    written = (tmp_path / "judge" / "predictions-x.jsonl").read_text().splitlines()
    assert [json.loads(line)["judged"] for line in written] == right


def test_what_was_judged_is_not_asked_again_not_even_after_a_failure(tmp_path: Path) -> None:
    judge = Judge({"hound": "yes", "cat": "no"})
    judge.fails = True
    with pytest.raises(PartlyAnswered):
        judge_rows(judge, rows("hound", "cat"), tmp_path, "x")
    judge.fails, judge.asked = False, []
    assert judge_rows(judge, rows("hound", "cat"), tmp_path, "x") == [True, False]
    assert len(judge.asked) == 1 and "Answer: cat" in judge.asked[0]
    judge.asked = []
    assert judge_rows(judge, rows("hound", "cat"), tmp_path, "x") == [True, False]
    assert not judge.asked


def test_shares_and_agreement_by_hand() -> None:
    """Five answers; the judge is unclear about one, kinder on one, stricter on one."""
    marked = rows("a", "b", "c", "d", "e", marks=[True, True, False, False, True])
    right = [True, False, True, False, None]
    found = agreement(marked, right)
    # on the four: judge 2 of 4 right, hand 2 of 4 right, equal on 2: chance 1/2, kappa 0
    assert (found.n, found.share, found.kappa) == (4, 0.5, 0.0)
    assert (found.too_kind, found.too_strict) == (1, 1)
    assert "50 % of 4 answers, kappa 0.00" in found.text
    full = agreement(marked[:4], [True, True, False, False])
    assert full.kappa == 1.0 and full.too_kind == full.too_strict == 0
    alike = agreement(marked[:2], [True, True])
    assert alike.kappa is None and alike.share == 1.0
    told = summary(marked, right)
    assert (told["right"], told["n"], told["unclear"]) == (40.0, 5, 1)
    low, high = told["ci95"]
    assert 0 <= low < 40 < high <= 100
    with pytest.raises(UsageError, match="marked"):
        agreement(rows("a"), [True])


def test_answers_of_an_evaluation_and_a_sample_marked_by_hand(tmp_path: Path) -> None:
    told = [
        {"id": i, "image": f"{i}.png", "prompt": "Which?", "references": ["a"], "prediction": said}
        for i, said in enumerate(("a", "b", "a"))
    ]
    lines = [json.dumps(row) + "\n" for row in told]
    (tmp_path / "predictions-own.jsonl").write_text("".join(lines))
    sample = [json.dumps({**row, "right": row["id"] != 2}) + "\n" for row in (told[0], told[2])]
    (tmp_path / "marked.jsonl").write_text("".join(sample))
    judge = Judge({"a": "yes", "b": "no"})
    found = judge_benchmarks(judge, ["own"], tmp_path, tmp_path / "marked.jsonl")
    assert found["benchmarks"]["own"]["right"] == pytest.approx(200 / 3)
    assert found["agreement"]["n"] == 2 and found["agreement"]["too_kind"] == 1
    assert json.loads((tmp_path / "judge" / "results.json").read_text()) == found
    assert len(judge.asked) == 2, "equal questions with equal answers are asked once"


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"prediction": [1, 2]}, "prediction"),
        ({"references": []}, "references"),
        ({"right": "yes"}, "right"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_rows_that_cannot_be_judged_are_named(
    tmp_path: Path, changed: Mapping[str, Any], said: str
) -> None:
    row = {"id": 1, "image": "a", "prompt": "Q", "references": ["a"], "prediction": "a", **changed}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=said):
        read_rows(tmp_path / "rows.jsonl")
