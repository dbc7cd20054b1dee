"""Benchmarks with options: figures worked by hand from their official definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark_files import (
    blink,
    cv_bench,
    cv_bench_lines,
    hr_bench,
    hr_bench_table,
    mmstar,
    mmstar_table,
    mmvp,
    mmvp_corrected,
    naturalbench,
    parquet,
    vstar,
)
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.benchmarks.written_options import split_options
from manyeyes.evaluation.contract import BenchmarkResult
from manyeyes.images.reading import load_image
from manyeyes.inference.questions import Item


def scored(
    name: str, items: list[Item], said: dict[str, str], variant: str | None = None
) -> tuple[dict[str, float], BenchmarkResult]:
    result = BENCHMARKS[name].score(items, said, variant=variant)
    return {score.metric: score.value for score in result.scores}, result


@pytest.mark.parametrize("write", [cv_bench, cv_bench_lines])
def test_cv_bench_formula(write: Any, tmp_path: Path) -> None:
    """ADE20K 1 of 2, COCO 1 of 1, Omni3D 1 of 2.

    2D = (50 + 100) / 2 = 75, 3D = 50, combined = 62.5; over all questions 3 of 5.
    """
    write(tmp_path)
    items = BENCHMARKS["cv-bench"].items(tmp_path, "test")
    said = {"0": "(B)", "1": "B", "2": "C", "3": "(A) chair", "4": "A"}
    found, result = scored("cv-bench", items, said)
    assert found == pytest.approx(
        {"combined": 62.5, "accuracy_2D": 75, "accuracy_3D": 50, "accuracy": 60}
    )
    assert result.headline.by["task"] == pytest.approx(
        {"Count": 100, "Depth": 100, "Distance": 0, "Relation": 0}
    )
    assert scored("cv-bench", items, said, "plain")[1].headline.value == pytest.approx(60)
    assert items[0].prompt.startswith("How is it in picture 0? Select from the following choices.")
    assert "(C) 0\nAnswer with the option's letter" in items[0].prompt


def test_cv_bench_of_one_part_has_no_combined_figure(tmp_path: Path) -> None:
    cv_bench(tmp_path)
    items = [i for i in BENCHMARKS["cv-bench"].items(tmp_path, "test") if i.groups["type"] == "3D"]
    found, _ = scored("cv-bench", items, {"3": "A", "4": "A"})
    assert found == pytest.approx({"accuracy_3D": 50, "accuracy": 50})


def test_mmvp_counts_pairs(tmp_path: Path) -> None:
    """The first pair right, of the second one question: 1 of 2 pairs, 3 of 4 questions."""
    mmvp(tmp_path)
    items = BENCHMARKS["mmvp"].items(tmp_path, "train")
    said = {"1": "(a) Open", "2": "The answer is (b).", "99": "A", "100": "A"}
    said = {key: text.replace("(a)", "A.").replace("(b)", "B") for key, text in said.items()}
    found, result = scored("mmvp", items, said)
    assert found == pytest.approx({"pair_accuracy": 50, "accuracy": 75})
    assert result.n == 2
    assert dict(result.per_item) == {"1": 1.0, "99": 0.0}


@pytest.mark.parametrize("write", [mmvp, mmvp_corrected])
def test_mmvp_rows_whose_answers_are_swapped(write: Any, tmp_path: Path) -> None:
    """What the images of rows 99 and 100 show is wrong by the release and right when corrected."""
    write(tmp_path)
    items = BENCHMARKS["mmvp"].items(tmp_path, "train")
    said = {"1": "A", "2": "B", "99": "B", "100": "A"}
    assert scored("mmvp", items, said)[0] == pytest.approx({"pair_accuracy": 50, "accuracy": 50})
    corrected, result = scored("mmvp", items, said, "corrected")
    assert corrected == pytest.approx({"pair_accuracy": 100, "accuracy": 100})
    assert result.variant == "corrected"


def test_naturalbench_groups(tmp_path: Path) -> None:
    """Group 0 is answered yes, no, no, no instead of yes, no, no, yes; group 1 is right.

    Groups 1 of 2. Questions: of group 0 the first is right on both images, the second is not: 3 of
    4. Images: of group 0 the first has both questions right, the second has not: 3 of 4. Answers 7
    of 8.
    """
    naturalbench(tmp_path)
    items = BENCHMARKS["naturalbench"].items(tmp_path, "train")
    assert [item.references[0] for item in items] == ["Yes", "No", "No", "Yes", "A", "B", "B", "A"]
    said = {item.id: item.references[0] for item in items} | {"0/q1_i1": "No."}
    said["0/q0_i0"] = "YES, and no one is there"
    said["1/q0_i1"] = "(b) and not a"
    found, result = scored("naturalbench", items, said)
    assert found == pytest.approx(
        {"group_accuracy": 50, "question_accuracy": 75, "image_accuracy": 75, "accuracy": 87.5}
    )
    assert result.headline.by["question_type"] == {"multiple_choice": 100.0, "yes_no": 0.0}
    assert items[0].prompt == "Question 0? Please answer Yes or No."
    assert items[0].image != items[1].image
    # an article counts as the letter, as in the authors' script
    assert scored("naturalbench", items, {**said, "1/q0_i1": "a dog, so B"})[0][
        "accuracy"
    ] == pytest.approx(75)


def test_blink_is_the_mean_over_tasks(tmp_path: Path) -> None:
    """Jigsaw 0 of 1, Counting 2 of 2: the mean over tasks is 50, over questions 66.7."""
    blink(tmp_path)
    items = BENCHMARKS["blink"].items(tmp_path, "val")
    jigsaw = next(item for item in items if item.groups["task"] == "Jigsaw")
    first, second = jigsaw.images
    assert load_image(first).getpixel((0, 0)) != load_image(second).getpixel((0, 0))
    assert jigsaw.turns(shown=True)[0].text.startswith("<image>\n<image>\nLook closely.")
    assert "(C) the third" in jigsaw.prompt
    said = {"val_Jigsaw_1": "A", "val_Counting_1": "(A)", "val_Counting_2": "C"}
    found, result = scored("blink", items, said)
    assert found == pytest.approx({"accuracy": 50})
    assert result.notes[-1] == "mean over task; over all questions it is 66.67"
    assert scored("blink", items, said, "plain")[0] == pytest.approx({"accuracy": 200 / 3})


def test_mmstar_over_questions_and_over_axes(tmp_path: Path) -> None:
    """Geometry 1 of 2, numeric 1 of 1: 2 of 3 questions; the mean over the axes is 75."""
    mmstar(tmp_path)
    items = BENCHMARKS["mmstar"].items(tmp_path, "val")
    assert items[0].candidates == ("a red, old hat", "0 cats", "a dog", "no")
    assert "Options: A: a red, old hat, B: 0 cats" in items[0].prompt
    said = {"0": "A", "1": "C", "2": "D"}
    assert scored("mmstar", items, said)[0] == pytest.approx({"accuracy": 200 / 3})
    assert scored("mmstar", items, said, "axes")[0] == pytest.approx({"accuracy": 75})


def test_mmstar_as_a_table(tmp_path: Path) -> None:
    mmstar_table(tmp_path)
    (item,) = BENCHMARKS["mmstar"].items(tmp_path, "val")
    assert item.prompt.startswith("What is 0?\nA. a red, old hat\nB. 0 cats\n")
    assert load_image(item.image).size == (8, 6)
    assert item.groups == {"category": "math", "axis": "geometry"}


def test_a_text_that_marks_no_options_offers_the_letters(tmp_path: Path) -> None:
    row = {"index": 7, "question": "Which one?", "answer": "C", "image": b"png"}
    path = parquet(tmp_path / "mmstar.parquet", [row])
    (item,) = BENCHMARKS["mmstar"].read_files([path])
    assert item.candidates == ("(A)", "(B)", "(C)", "(D)")
    for said, right in [("C", 100.0), ("(C)", 100.0), ("a dog", 0.0)]:
        assert scored("mmstar", [item], {"7": said})[0] == {"accuracy": right}


@pytest.mark.parametrize(("write", "size"), [(hr_bench, "4k"), (hr_bench_table, "8k")])
def test_hr_bench_is_the_mean_over_the_orders(write: Any, size: str, tmp_path: Path) -> None:
    """Of three questions the first is right in all four orders, the second in the first order, the
    third in the first two: orders 3, 2, 1 and 1 of 3, their mean 7/12; one question in all orders.
    """
    write(tmp_path)
    name = f"hr-bench-{size}"
    items = BENCHMARKS[name].items(tmp_path, "test")
    right = {"0", "1", "2", "3", "4", "8", "9"}
    said = {item.id: item.references[0] if item.id in right else "none" for item in items}
    found, result = scored(name, items, said)
    assert found == pytest.approx({"accuracy": 100 * 7 / 12, "all_cycles": 100 / 3})
    assert result.headline.by["category"] == pytest.approx({"cross": 50, "single": 62.5})
    assert len({item.cluster for item in items}) == 3
    images = [load_image(item.image).getpixel((0, 0)) for item in items]
    assert images[0] == images[3] != images[4]


def test_an_image_that_is_no_base64_is_named(tmp_path: Path) -> None:
    row = {"index": 0, "question": "How?", "A": "x", "B": "y", "answer": "A"}
    row |= {"category": "single", "cycle_category": "0", "image": "?" * 100}
    path = parquet(tmp_path / "hr_bench_4k.parquet", [row])
    (item,) = BENCHMARKS["hr-bench-4k"].read_files([path])
    with pytest.raises(DataError, match=r"hr_bench_4k.parquet/0/image: is not base64"):
        load_image(item.image)


def test_vstar_asks_as_it_is_written(tmp_path: Path) -> None:
    """Direct attributes 1 of 2, relative position 1 of 1: overall 2 of 3, as the authors count."""
    vstar(tmp_path)
    benchmark = BENCHMARKS["vstar"]
    items = benchmark.items(tmp_path, "test")
    assert items[0].prompt.count("Answer with the option's letter") == 1
    assert items[0].candidates == ("red", "blue", "tan")
    found, result = scored("vstar", items, {"0": "C", "1": "A", "2": "A"})
    assert found == pytest.approx({"accuracy": 200 / 3})
    assert result.headline.by["category"] == pytest.approx(
        {"direct_attributes": 50, "relative_position": 100}
    )
    ranked = benchmark.items(tmp_path, "test", prompt=benchmark.ranking_prompt)
    assert ranked[0].prompt == "What is the colour of glove 0?"


@pytest.mark.parametrize(
    ("text", "mark", "question", "options"),
    [
        ("Open? (a) Yes (b) No", "({})", "Open?", ["Yes", "No"]),
        ("Is (A) it?\nOptions: A: x, y, B: z", "{}:", "Is (A) it?", ["x, y", "z"]),
        ("Where?\nA. In MA.\nB. Out\nAnswer.", "{}.", "Where?", ["In MA.", "Out"]),
        ("No marks at all", "({})", "No marks at all", []),
        ("Only (A) one", "({})", "Only (A) one", []),
    ],
)
def test_options_inside_a_text(text: str, mark: str, question: str, options: list[str]) -> None:
    assert split_options(text, mark) == (question, options)


def test_predictions_by_id_are_read(tmp_path: Path) -> None:
    (tmp_path / "said.json").write_text('{"val_Jigsaw_1": "(B)"}')
    assert BENCHMARKS["blink"].load(tmp_path / "said.json") == {"val_Jigsaw_1": "(B)"}
