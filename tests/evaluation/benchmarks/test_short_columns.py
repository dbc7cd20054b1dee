"""Short answers and counts: figures worked by hand from the official definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import benchmark_files as files
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.scorers.anls import anls, anls_official
from manyeyes.evaluation.scorers.mmmu import mmmu_open, mmmu_option
from manyeyes.evaluation.scorers.numerals import chart_match, relaxed_match
from manyeyes.images.reading import load_image

Scored = Callable[..., dict[str, float]]


@pytest.fixture
def scored(tmp_path: Path) -> Scored:
    """Write a benchmark's files, read them, score answers by id: metric -> value."""

    def score(
        name: str, write: Any, split: str, said: dict[str, str], variant: str | None = None
    ) -> dict[str, float]:
        write(tmp_path)
        items = BENCHMARKS[name].items(tmp_path, split)
        assert {item.id for item in items} == set(said)
        result = BENCHMARKS[name].score(items, said, variant=variant)
        by = {
            f"{key}.{group}": value
            for key, groups in result.headline.by.items()
            for group, value in groups.items()
        }
        return {**{score.metric: score.value for score in result.scores}, **by}

    return score


@pytest.mark.parametrize(
    ("said", "references", "official", "paper"),
    [
        ("ITC", ["itc"], 1.0, 1.0),
        ("ITX", ["ITC", "ITC Ltd"], 2 / 3, 2 / 3),
        ("ab", ["ax"], 0.5, 0.0),  # NL = 1/2: the script keeps it, the formula does not
        ("abcd", ["wxyz"], 0.0, 0.0),
        # one of two letters is wrong, and the script counts the blanks: 1 - 1/4
        ("ab  ", ["ax"], 0.75, 0.0),
        ("", [""], 1.0, 1.0),
        ("", ["x"], 0.0, 0.0),
    ],
)
def test_anls_by_the_script_and_by_the_formula(
    said: str, references: list[str], official: float, paper: float
) -> None:
    assert anls_official(said, references) == pytest.approx(official)
    assert anls(said, references) == pytest.approx(paper)


def test_docvqa(scored: Scored) -> None:
    """ "ITX" is one of three letters off, 2/3; "1999" one of four, 3/4; their mean is 70.8."""
    said = {"49": "ITX", "50": "1999"}
    assert scored("docvqa", files.docvqa, "val", said) == {"ANLS": pytest.approx(1700 / 24)}


def test_docvqa_in_shards_and_infovqa(scored: Scored, tmp_path: Path) -> None:
    found = scored("docvqa", files.docvqa_parquet, "validation", {"49": "itc ltd"})
    assert found == {"ANLS": 100.0}
    found = scored("infovqa", files.infovqa, "val", {"1": "9%", "2": "right"})
    assert found == {"ANLS": 50.0}


@pytest.mark.parametrize(
    ("said", "wanted", "official", "commas"),
    [
        ("105", "100", 1, 1),
        ("105.1", "100", 0, 0),
        ("95", "100", 1, 1),
        ("1,000", "1000", 0, 1),  # float() reads no commas, and "1,000" is not "1000"
        ("1e2", "100", 1, 0),
        ("0.08", "8%", 1, 1),
        ("8", "8%", 0, 0),
        ("0.0", "0", 0, 1),  # no number is within 5 % of 0
        ("germany", "Germany", 1, 1),
        ("Germany ", "Germany", 0, 1),
        ("Germany.", "Germany", 0, 0),
    ],
)
def test_relaxed_accuracy_of_charts(said: str, wanted: str, official: int, commas: int) -> None:
    assert chart_match(said, wanted) == official
    assert relaxed_match(said, wanted) == commas


def test_chartqa_sets(scored: Scored) -> None:
    """Of people's questions 1 of 1, of the made ones 1 of 2: together 2 of 3."""
    said = {"human:1": "104", "augmented:1": "France", "augmented:2": "8%"}
    assert scored("chartqa", files.chartqa, "test", said) == pytest.approx(
        {"accuracy": 200 / 3, "set.augmented": 50, "set.human": 100}
    )


def test_chartqa_in_parquet(scored: Scored) -> None:
    found = scored("chartqa", files.chartqa_parquet, "test", {"1": "1,00"})
    assert found == {"accuracy": 0.0, "set.human": 0.0}


@pytest.mark.parametrize("write", [files.ocrbench, files.ocrbench_parquet])
def test_ocrbench_counts_what_is_part_of_the_answer(write: Any, scored: Scored) -> None:
    """CENTRE is in the first answer, 12 in the third; the formula's Y may not be y: 2 of 4.

    The full-width 50 of the second is another text, except for lmms-eval: 3 of 4.
    """
    said = {"1": "The Centre", "2": "50 KM", "3": "12", "4": "x^{2}+y"}
    found = scored("ocrbench", write, "test", said)
    assert (found["accuracy"], found["score"]) == (50.0, 2.0)
    assert found["question_type.Regular Text Recognition"] == 50.0
    assert scored("ocrbench", write, "test", said, "lmms")["score"] == 3.0
    assert scored("ocrbench", write, "test", {**said, "4": "x^{2} + Y."})["score"] == 3.0


@pytest.mark.parametrize(
    ("write", "ids"),
    [
        (files.vizwiz, ("1", "2")),
        (files.vizwiz_parquet, ("VizWiz_val_00000000", "VizWiz_val_00000001")),
    ],
)
def test_vizwiz_is_vqa_accuracy(write: Any, ids: tuple[str, str], scored: Scored) -> None:
    """ "Unanswerable." agrees with 7 of 10, 1.0; "basil leaves" with 2 of 10.

    Left out one by one, the two leave 1 of 9, worth 1/3, and the others 2 of 9, worth 2/3:
    (2 · 1/3 + 8 · 2/3) / 10 = 0.6.
    """
    said = dict(zip(ids, ("Unanswerable.", "The basil leaves"), strict=True))
    assert scored("vizwiz", write, "val", said) == pytest.approx(
        {"accuracy": 80, "answer_type.other": 60, "answer_type.unanswerable": 100}
    )


def test_countbenchqa_wants_the_number_alone(scored: Scored) -> None:
    """3 and 4 for 3 and 3, ten for 10: one right; errors 0, 1 and 10. As words two are right."""
    said = {"1": "3", "2": "4", "3": "ten"}
    found = scored("countbenchqa", files.countbenchqa, "test", said)
    assert found["accuracy"] == pytest.approx(100 / 3)
    assert (found["MAE"], found["RMSE"]) == pytest.approx((11 / 3, math.sqrt(101 / 3)))
    found = scored("countbenchqa", files.countbenchqa, "test", said, "number")
    assert found["accuracy"] == pytest.approx(200 / 3)


def test_pixmo_count_reads_the_last_word(scored: Scored) -> None:
    """2 by its last word, 5 counted as 6, 7 in "a total of 7": 2 of 3 right, 3 within one."""
    said = {"1": "There are 4 minus 2.", "2": "six", "3": "Counting them shows a total of 7 here"}
    found = scored("pixmo-count", files.pixmo_count, "test", said)
    assert (found["accuracy"], found["within_one"]) == pytest.approx((200 / 3, 100))
    assert scored("pixmo-count", files.pixmo_count, "test", said, "number")["accuracy"] == (
        pytest.approx(100 / 3)
    )


def test_tallyqa_reports_simple_and_complex(scored: Scored) -> None:
    found = scored("tallyqa", files.tallyqa, "test", {"30": "4 lights", "31": "two"})
    assert found == pytest.approx(
        {"accuracy": 50, "MAE": 0.5, "RMSE": math.sqrt(0.5), "simple.True": 100, "simple.False": 0}
    )


def test_realworldqa_reads_letters_and_words(scored: Scored) -> None:
    said = {"1": "C. Ahead", "2": "two", "3": "downhill."}
    assert scored("realworldqa", files.realworldqa, "test", said) == pytest.approx(
        {"accuracy": 200 / 3, "answer.letter": 100, "answer.word": 50}
    )


def test_hallusion_bench_by_question_figure_and_pair(scored: Scored, tmp_path: Path) -> None:
    """Wrong is one answer of five: question 0 on the edited figure 1 of set 0.

    aAcc 4/5. Questions on all their figures: 0 wrong, 1 right, that of set 1 right, 2/3. Figures:
    0 right, 1 wrong, that of set 1 right, 2/3. As they were: 3/3; edited: question 1 of two, 1/2.
    """
    said = {"VD_chart_0_0_0": "Yes, it is", "VD_chart_0_1_0": "yes", "VD_chart_0_0_1": "No"}
    said |= {"VD_chart_0_1_1": "no way, yes", "VS_chart_1_1_0": "Yes"}
    found = scored("hallusion-bench", files.hallusion_bench, "test", said)
    names = ("aAcc", "qAcc", "fAcc", "easy", "hard")
    assert [found[name] for name in names] == pytest.approx([80, 200 / 3, 200 / 3, 100, 50])
    found = scored("hallusion-bench", files.hallusion_bench, "test", said, "anywhere")
    assert found["aAcc"] == pytest.approx(60)
    items = BENCHMARKS["hallusion-bench"].items(tmp_path, "test")
    result = BENCHMARKS["hallusion-bench"].score(items, said)
    assert result.notes == ("questions without a figure are left out",)


def test_scienceqa_keeps_questions_with_an_image(scored: Scored, tmp_path: Path) -> None:
    said = {"4": "C", "5": "steam"}
    found = scored("scienceqa", files.scienceqa, "test", said)
    assert found == pytest.approx(
        {
            "accuracy": 50,
            "subject.natural science": 50,
            "text.with text": 100,
            "text.no text": 0,
            "grades.1-6": 100,
            "grades.7-12": 0,
        }
    )
    benchmark = BENCHMARKS["scienceqa"]
    items = benchmark.items(tmp_path, "test")
    assert items[0].prompt.startswith("Look at the picture.\nWhich is it?\nA. ice\n")
    (tmp_path / "r.json").write_text('{"acc": 1.0, "results": {"4": 2, "5": 0}}')
    assert benchmark.score(items, benchmark.load(tmp_path / "r.json")).headline.value == 100.0
    with pytest.raises(DataError, match="holds nothing for split 'val'"):
        benchmark.items(tmp_path, "val")


def test_scienceqa_in_parquet(scored: Scored) -> None:
    assert scored("scienceqa", files.scienceqa_parquet, "test", {"1": "C", "2": "A"})[
        "accuracy"
    ] == pytest.approx(100)


def test_mmmu_images_and_groups(scored: Scored, tmp_path: Path) -> None:
    said = {
        "validation_Art_1": "I take (B).",
        "validation_Art_2": "no idea",
        "validation_Math_1": "so x = 8.254",
        "validation_Math_2": "The answer is a tall cone",
    }
    found = scored("mmmu", files.mmmu, "validation", said)
    assert found == pytest.approx(
        {
            "accuracy": 75,
            "discipline.Art and Design": 50,
            "discipline.Science": 100,
            "subject.Art": 50,
            "subject.Math": 100,
            "question_type.options": 50,
            "question_type.open": 100,
        }
    )
    benchmark = BENCHMARKS["mmmu"]
    items = {item.id: item for item in benchmark.items(tmp_path, "validation")}
    compared, chosen = items["validation_Art_1"], items["validation_Art_2"]
    reds = [[load_image(i).getpixel((0, 0))[0] for i in it.images] for it in (compared, chosen)]
    assert reds == [[11, 12], [21, 23]]
    assert compared.prompt.startswith("Compare <image 2> and <image 1>.\nA. oil\nB. ink\n")
    assert compared.turns(shown=True)[0].text.count("<image>") == 2
    assert items["validation_Math_1"].prompt.endswith("using a single word or phrase.")
    assert items["validation_Math_2"].references == ("a cone", "cone")
    ranked = {"losses": [2.0, 0.5, 1.0]}
    assert benchmark.score([compared], {compared.id: ranked}).headline.value == 100.0


OPTIONS = {"A": "oil", "B": "ink", "C": "lead pencil"}


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(A) or rather (C)", "C"),  # the last one in brackets
        ("A or B", "B"),  # the last word
        ("(A), not B", "A"),  # brackets come before words
        ("It was surely drawn with lead pencil", "C"),  # by text: more than five words
        ("with lead pencil", None),  # too short for that
        ("B. ink", None),  # the full stop hides the letter, as in the authors' script
        ("", None),
    ],
)
def test_mmmu_options_as_the_authors_read_them(said: str, letter: str | None) -> None:
    assert mmmu_option(said, OPTIONS) == letter


@pytest.mark.parametrize(
    ("said", "references", "right"),
    [
        ("The answer is 1,200.", ["1200"], True),
        ("x = 3\nso y = 4.004", ["4"], True),
        ("3.14159", ["3.14"], True),
        ("It is the heart.", ["heart"], True),
        ("Not that", ["heart"], False),
        ("is alpha", ["a"], False),  # one letter needs a blank beside it
        ("is type a cell", ["a"], True),
        ("5e2 m", ["500"], True),
        ("", ["4"], False),
    ],
)
def test_mmmu_open_answers_as_the_authors_read_them(
    said: str, references: list[str], right: bool
) -> None:
    assert mmmu_open(said, references) is right
