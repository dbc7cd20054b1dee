"""MMBench: circular evaluation, tables of every release, broken files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from choice_files import COLUMNS, QUESTIONS, mmbench, right, score, table, write
from manyeyes.data.containers.tables import CellImage
from manyeyes.errors import DataError
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.images.reading import load_image
from oracles import Oracle


def test_mmbench_makes_the_rotations_a_file_lacks(tmp_path: Path) -> None:
    items = {i.id: i for i in BENCHMARKS["mmbench"].read_files([mmbench(tmp_path)])}
    turns = {1: 3, 2: 2, 3: 4}  # as many as there are options
    expected = {str(i + k * 10**6) for i, number in turns.items() for k in range(number)}
    assert set(items) == expected
    turned = items["1000001"]
    assert turned.candidates == ("cone", "ball", "cube")
    assert turned.references == ("C",)
    assert "Look\nclosely\nWhat is it?\nA. cone\nB. ball\nC. cube\nAnswer with" in turned.prompt
    assert items["3"].prompt.startswith('Is "it" left?\nA. yes')


def test_mmbench_counts_a_question_only_with_all_its_rotations(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["mmbench"]
    items = benchmark.read_files([mmbench(tmp_path)])
    answers = right(items)
    assert benchmark.score(items, answers).headline.value == 100.0
    answers["2000003"] = "unclear"
    result = benchmark.score(items, answers)
    assert result.headline.value == pytest.approx(200 / 3)
    assert result.per_item == {"1": 1.0, "2": 1.0, "3": 0.0}
    assert result.n == 3
    assert result.parse_failures == 1
    assert result.headline.by["category"] == {"colour": 100.0, "place": 0.0, "shape": 100.0}
    assert result.headline.by["l2_category"] == {"CP": 0.0, "FP-S": 100.0}
    assert "3 questions in 9 rotations" in result.notes
    vanilla = benchmark.score(items, answers, variant="vanilla")
    assert vanilla.headline.value == 100.0
    assert vanilla.parse_failures == 0


def test_mmbench_takes_the_rotations_of_the_file(tmp_path: Path) -> None:
    turned = [1000001, "What is it?", "Look\nclosely", "ball", "cube", "cone", "", "B", "x", "y"]
    path = write(tmp_path / "dev.tsv", table([*QUESTIONS, turned]))
    items = {i.id: i for i in BENCHMARKS["mmbench"].read_files([path])}
    assert items["1000001"].references == ("B",)
    assert len(items) == 9


def test_mmbench_predictions_for_the_questions_alone_are_vanilla(tmp_path: Path) -> None:
    path = mmbench(tmp_path)
    rows = "index\tprediction\textra\n1\tA\t\n2\tgreen\t\n3\tD\t\n"
    result = score("mmbench", [path], rows, tmp_path, variant="vanilla")
    assert result.headline.value == 100.0
    with pytest.raises(DataError, match=r"6 rotated copies, first '1000001'.*'vanilla'"):
        score("mmbench", [path], rows, tmp_path)
    some = [{"index": 1, "prediction": "A"}, {"index": 1000001, "prediction": "C"}]
    assert score("mmbench", [path], some, tmp_path, allow_missing=True).headline.value == 0.0


def test_mmbench_a_constant_letter_is_worth_nothing(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["mmbench"]
    items = benchmark.read_files([mmbench(tmp_path)])
    constant = dict(zip(right(items), benchmark.constant(items, items, "shikra"), strict=True))
    assert benchmark.score(items, constant).headline.value == 0.0


def test_mmbench_images_come_out_of_the_table(tmp_path: Path) -> None:
    items = BENCHMARKS["mmbench"].read_files([mmbench(tmp_path)])
    assert {load_image(item.image).size for item in items} == {(8, 6)}
    assert len({item.image for item in items}) == 1  # rows 2 and 3 share the image of row 1
    copied = pickle.loads(pickle.dumps(items[0].image))
    assert isinstance(copied, CellImage)
    assert load_image(copied).size == (8, 6)
    broken = CellImage.of("a.tsv/1", "no base64!")
    with pytest.raises(DataError, match=r"a\.tsv/1"):
        load_image(broken)


def test_mmbench_evaluates_out_of_a_data_folder(tmp_path: Path) -> None:
    mmbench(tmp_path)
    items = BENCHMARKS["mmbench"].items(tmp_path, "dev")
    assert isinstance(items[0].image, CellImage)
    predictor = Oracle()
    results = evaluate(predictor, ["mmbench"], tmp_path, "dev", tmp_path / "out", text_only=False)
    assert results["benchmarks"]["mmbench"]["model"]["metrics"] == {"accuracy": 100.0}
    assert len(predictor.asked) == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table(QUESTIONS, ["index", "query", *COLUMNS[2:]]), "lacks the columns question"),
        (table([*QUESTIONS, QUESTIONS[0]]), r"tsv:7: index: 1 occurs twice"),
        (table([["one", *QUESTIONS[0][1:]]]), "expected a whole number, got 'one'"),
        (table([[*QUESTIONS[0][:7], "E", "", ""]]), "answer: expected one of 'A', 'B', 'C'"),
        (table([[*QUESTIONS[0][:7], "", "", ""]]), "answer: is empty"),
        (table([[1, "q", "", "x", "", "", "", "A", "", ""]]), "at least two options"),
        (table(QUESTIONS) + "5\ttoo\tshort\n", r"tsv:6: expected 11 cells"),
        (table([]), "holds no rows"),
        ("", "lacks the columns"),
    ],
)
def test_mmbench_broken_tables_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", content)
    with pytest.raises(DataError, match=message):
        BENCHMARKS["mmbench"].read_files([path])


def test_mmbench_an_image_may_only_be_shared_with_one_that_is_there(tmp_path: Path) -> None:
    text = table(QUESTIONS).replace("CP\t1\n", "CP\t9\n")
    with pytest.raises(DataError, match="the index of a row with one, got '9'"):
        BENCHMARKS["mmbench"].read_files([write(tmp_path / "dev.tsv", text)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tprediction\n1\tA\n1\tB\n", r"results.tsv:3: index: '1' occurs twice"),
        ("index\tanswer\n1\tA\n", "lacks the columns prediction"),
        ("index\tprediction\n7\tA\n", "unknown ids: '7'"),
    ],
)
def test_mmbench_broken_predictions_are_named(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("mmbench", [mmbench(tmp_path)], content, tmp_path)


def test_tables_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_bytes(b"index\xff\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        BENCHMARKS["mmbench"].read_files([path])
    with pytest.raises(DataError, match="no such file"):
        BENCHMARKS["mmbench"].read_files([tmp_path / "absent.tsv"])
