"""MME, SEED-Bench and IconQA from files in their official layouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from choice_files import mmbench, right, score, write
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.inference.questions import Item

# MME


def mme(folder: Path) -> Path:
    """Two images of "count" beside their texts; one of "OCR" in the folders of the release."""
    root = folder / "MME"
    for name in ("a", "b"):
        lines = f"Are there two {name}s? Please answer yes or no.\tYes\nIs it one?\tNo\n\n"
        write(root / "count" / f"{name}.txt", lines)
        Image.new("RGB", (4, 4)).save(root / "count" / f"{name}.png")
    write(root / "OCR" / "questions_answers_YN" / "0001.txt", "Is the word dog?\tNo\nCat?\tYes\n")
    (root / "OCR" / "images").mkdir()
    Image.new("RGB", (4, 4)).save(root / "OCR" / "images" / "0001.jpg")
    reasoning = root / "commonsense_reasoning"
    write(reasoning / "x.txt", "Go?\tYes\nStay?\tNo\n")
    Image.new("RGB", (4, 4)).save(reasoning / "x.jpg")
    return root


def mme_rows(items: Sequence[Item], wrong: Mapping[str, str]) -> dict[str, str]:
    """Results as the official script reads them: SUBTASK.txt -> lines."""
    files: dict[str, str] = {}
    for item in items:
        subtask, image, question = item.id.split("/", 2)
        label = item.references[0]
        line = f"{image}.png\t{question}\t{label}\t{wrong.get(item.id, label)}\n"
        files[f"{subtask}.txt"] = files.get(f"{subtask}.txt", "") + line
    return files


def test_mme_scores_of_the_distribution(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["mme"]
    items = benchmark.items(mme(tmp_path), "test")
    assert len(items) == 8
    wrong = {"count/a/Is it one?": "Yes, it is", "OCR/0001/Cat?": "hmm, unclear"}
    for name, text in mme_rows(items, wrong).items():
        write(tmp_path / "results" / name, text)
    result = benchmark.score(items, benchmark.load(tmp_path / "results"))
    metrics = result.to_json()["metrics"]
    # count: 3 of 4 questions and 1 of 2 images; OCR: 1 of 2 and 0 of 1; commonsense: all
    assert metrics == pytest.approx(
        {
            "perception": (75 + 50) + (50 + 0),
            "cognition": 200,
            "accuracy": 75,
            "accuracy_plus": 50,
        }
    )
    by = result.to_json()["by"]
    assert by["subtask"]["count"] == pytest.approx(125)
    assert by["subtask.accuracy"] == pytest.approx(
        {"OCR": 50, "commonsense_reasoning": 100, "count": 75}
    )
    assert result.parse_failures == 1
    assert "perception is the sum of 2 of 10 subtasks" in result.notes


def test_mme_json_lines_give_the_same_items(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["mme"]
    items = benchmark.read_files([mme(tmp_path)])
    rows = []
    for item in items:
        subtask, image, question = item.id.split("/", 2)
        name = f"{subtask}/{image}.png"
        rows.append({"question_id": name, "question": question, "answer": item.references[0]})
    path = write(tmp_path / "mme.jsonl", "\n".join(map(json.dumps, rows)))
    again = benchmark.read_files([path])
    assert [item.id for item in again] == [item.id for item in items]
    answers = [{**row, "answer": row["answer"].lower()} for row in rows]
    best = benchmark.score(again, benchmark.load(write(tmp_path / "r.json", answers)))
    assert best.to_json()["metrics"] == {
        "perception": 400.0,
        "cognition": 200.0,
        "accuracy": 100.0,
        "accuracy_plus": 100.0,
    }


def test_mme_with_cognition_alone_is_headed_by_cognition(tmp_path: Path) -> None:
    folder = mme(tmp_path) / "commonsense_reasoning"
    result = BENCHMARKS["mme"].score(
        BENCHMARKS["mme"].read_files([folder]),
        {"commonsense_reasoning/x/Go?": "yes", "commonsense_reasoning/x/Stay?": "no"},
    )
    assert result.headline.metric == "cognition"
    assert result.headline.value == 200.0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("count/c.txt", "Is it?\tMaybe\n", r"c.txt:1: answer: expected one of 'Yes', 'No'"),
        ("count/c.txt", "\nIs it? Yes\n", r"c.txt:2: question: "),
        ("mme.jsonl", '{"question_id": "cout/a.png", "question": "q", "answer": "No"}', "'cout'"),
        (
            "mme.jsonl",
            '{"question_id": "../a.png", "question": "q", "answer": "No"}',
            "question_id",
        ),
    ],
)
def test_mme_broken_files_are_named(file: str, content: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / file, content)
    with pytest.raises(DataError, match=message):
        BENCHMARKS["mme"].read_files([path])


def test_mme_folders_without_subtasks_and_broken_results(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no text files of subtasks: existence, count"):
        BENCHMARKS["mme"].read_files([tmp_path / "empty"])
    with pytest.raises(DataError, match="holds no MME questions"):
        BENCHMARKS["mme"].items(tmp_path / "empty", "test")
    with pytest.raises(DataError, match=r"holds no SUBTASK\.txt"):
        BENCHMARKS["mme"].load(tmp_path / "empty")
    bad = write(tmp_path / "count.txt", "a.png\tq\tYes\tYes\na.png\tq\tYes\n")
    with pytest.raises(DataError, match=r"count.txt:2: expected image, question, label"):
        BENCHMARKS["mme"].load(bad)
    twice = write(tmp_path / "count.txt", "a.png\tq\tYes\tYes\na.png\tq\tYes\tNo\n")
    with pytest.raises(DataError, match=r"count.txt:2: a second answer to 'count/a/q'"):
        BENCHMARKS["mme"].load(twice)


# SEED-Bench


def seed_question(number: int, kind: int, answer: str, data: str = "image") -> dict[str, Any]:
    choices = {f"choice_{letter}": f"{letter}{number}" for letter in "abcd"}
    return {
        **choices,
        "question_id": f"q{number}",
        "question_type_id": kind,
        "data_type": data,
        "data_id": f"{number}.jpg",
        "question": "What?",
        "answer": answer,
    }


SEED = {
    "questions": [seed_question(1, 1, "A"), seed_question(2, 1, "C"), seed_question(3, 5, "D")],
    "question_type": {"Scene Understanding": 1, "Instances Counting": 5},
}


def test_seed_losses_choose_the_smallest_and_letters_are_read(tmp_path: Path) -> None:
    results = [
        {"question_id": "q1", "losses": [0.5, 1, 2, 3]},
        {"question_id": "q2", "prediction": "C"},
        {"question_id": "q3", "prediction": "no idea"},
    ]
    result = score("seed-bench", [write(tmp_path / "S.json", SEED)], results, tmp_path)
    assert result.headline.value == pytest.approx(200 / 3)
    by = result.headline.by["question_type"]
    assert by == {"Instances Counting": 0.0, "Scene Understanding": 100.0}
    assert result.parse_failures == 1
    assert result.notes == ("choices by the smallest loss: 1; by a written answer: 2",)


def test_seed_rows_of_the_official_script(tmp_path: Path) -> None:
    rows = [
        {"q_id": q["question_id"], "prediction": q["answer"], "gt": q["answer"], "q_type_id": 1}
        for q in SEED["questions"]
    ]
    lines = "\n".join(map(json.dumps, rows))
    predictions = BENCHMARKS["seed-bench"].load(write(tmp_path / "results.json", lines))
    items = BENCHMARKS["seed-bench"].read_files([write(tmp_path / "S.json", SEED)])
    assert BENCHMARKS["seed-bench"].score(items, predictions).headline.value == 100.0


def test_seed_images_and_videos_are_splits(tmp_path: Path) -> None:
    content = {**SEED, "questions": [*SEED["questions"], seed_question(4, 10, "B", "video")]}
    path = write(tmp_path / "S.json", content)
    benchmark = BENCHMARKS["seed-bench"]
    assert [len(benchmark.read_files([path], split=s)) for s in ("image", "video", "all")] == [
        3,
        1,
        4,
    ]
    with pytest.raises(UsageError, match="holds the splits all, image, video; choose one"):
        benchmark.read_files([path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, r"S.json, entry 1: questions\[0\].answer: expected one of 'A', 'B'"),
        ({"answer": "AB"}, "expected one of"),
        ({"data_type": "text"}, "data_type: expected one of 'image', 'video'"),
        ({"choice_b": None}, "choice_b: expected a text"),
        ({"data_id": "../x"}, "data_id"),
    ],
)
def test_seed_broken_questions_are_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "S.json", {"questions": [SEED["questions"][0] | change]})
    with pytest.raises(DataError, match=message):
        BENCHMARKS["seed-bench"].read_files([path])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question_id": "q1", "losses": [1, 2, "x", 3]},
            "results.json, entry 1: losses: expected a list",
        ),
        ({"question_id": "q1", "losses": []}, "losses: expected a list"),
        ({"question_id": "q1", "losses": [1, 2]}, "expected 4 losses for 'q1', got 2"),
        ({"question_id": "q1"}, "prediction: is missing"),
        ({"prediction": "A"}, "question_id: is missing"),
    ],
)
def test_seed_broken_results_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {"questions": SEED["questions"][:1]}
    with pytest.raises(DataError, match=message):
        score("seed-bench", [write(tmp_path / "S.json", content)], [row], tmp_path)


def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", '[{"question_id": "q1", "losses": [1, NaN, 2, 3]}]')
    with pytest.raises(DataError, match=r"entry 1: losses: expected a list of finite numbers"):
        BENCHMARKS["seed-bench"].load(path)


# IconQA

PROBLEMS: dict[str, Any] = {
    "5": {
        "question": "Which shape?",
        "choices": ["square", "circle", "cone"],
        "answer": 1,
        "ques_type": "choose_txt",
    },
    "6": {
        "question": "Which picture?",
        "choices": ["choice_0.png", "choice_1.png"],
        "answer": 0,
        "ques_type": "choose_img",
    },
    "7": {"question": "How many? _", "answer": "3", "ques_type": "fill_in_blank"},
    "8": {
        "question": "How many?",
        "choices": ["1", "2", "3"],
        "answer": 0,
        "ques_type": "choose_txt",
    },
}
SPLITS = {
    "choose_txt_test": ["5", "8"],
    "choose_txt_minitest": ["5"],
    "choose_img_test": ["6"],
    "fill_in_blank_test": ["7"],
}
SKILLS = {"5": ["geometry"], "6": ["geometry", "counting"], "7": ["counting"], "8": ["counting"]}


def iconqa(folder: Path) -> list[Path]:
    contents = {"problems": PROBLEMS, "pid_splits": SPLITS, "pid2skills": SKILLS}
    return [write(folder / f"{name}.json", content) for name, content in contents.items()]


def test_iconqa_official_results_by_place_and_text(tmp_path: Path) -> None:
    """Places from 0 as the official script writes them; "1" for number 8 is the text of place 0."""
    results = {"accuracy": 1.0, "results": {"5": 1, "6": 1, "7": "3", "8": "1"}}
    result = score("iconqa", iconqa(tmp_path), results, tmp_path, split="test")
    assert result.headline.value == pytest.approx(75)
    assert result.headline.by["question_type"] == {
        "choose_img": 0.0,
        "choose_txt": 100.0,
        "fill_in_blank": 100.0,
    }
    assert result.headline.by["skill"] == pytest.approx({"counting": 200 / 3, "geometry": 50})


def test_iconqa_splits_are_those_of_the_file_and_their_unions(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["iconqa"]
    paths = iconqa(tmp_path)
    ids = {s: [i.id for i in benchmark.read_files(paths, split=s)] for s in [*SPLITS, "test"]}
    assert ids["choose_txt_test"] == ["5", "8"]
    assert ids["choose_txt_minitest"] == ["5"]
    assert ids["test"] == ["5", "8", "6", "7"]
    with pytest.raises(UsageError, match="choose one"):
        benchmark.read_files(paths)
    item = benchmark.read_files(paths[:2], split="choose_txt_test")[0]
    assert item.image == "iconqa/test/choose_txt/5/image.png"
    assert "A. square\nB. circle\nC. cone\nAnswer with the option's letter" in item.prompt


@pytest.mark.parametrize(
    ("pid", "answer", "variant", "right", "failures"),
    [
        ("5", "B", "official", 1.0, 0),
        ("5", "circle", "official", 1.0, 0),
        ("5", "The answer is (A).", "official", 0.0, 0),
        ("5", "I cannot tell", "official", 0.0, 1),
        ("5", 7, "official", 0.0, 1),
        ("7", "3", "official", 1.0, 0),
        ("7", 3, "official", 1.0, 0),
        ("7", "3.", "official", 0.0, 0),
        ("7", "3.", "relaxed", 1.0, 0),
        ("7", "three", "relaxed", 0.0, 0),
    ],
)
def test_iconqa_single_answers(
    pid: str, answer: Any, variant: str, right: float, failures: int, tmp_path: Path
) -> None:
    result = score(
        "iconqa",
        iconqa(tmp_path),
        [{"question_id": pid, "answer": answer}],
        tmp_path,
        split="test",
        variant=variant,
        allow_missing=True,
    )
    assert result.per_item[pid] == right
    assert result.parse_failures == failures


@pytest.mark.parametrize("name", ["mmbench", "seed-bench", "iconqa"])
def test_losses_of_a_model_that_ranks_are_taken(name: str, tmp_path: Path) -> None:
    paths = {
        "mmbench": lambda: [mmbench(tmp_path)],
        "seed-bench": lambda: [write(tmp_path / "S.json", SEED)],
        "iconqa": lambda: iconqa(tmp_path),
    }[name]()
    benchmark = BENCHMARKS[name]
    split = "choose_txt_test" if name == "iconqa" else None
    items = benchmark.read_files(paths, split=split, prompt=benchmark.ranking_prompt)
    assert benchmark.from_losses is not None
    assert not any(item.candidates[0] in item.prompt for item in items)
    places = {item.id: "ABCD".index(item.references[0]) for item in items}
    predictions = {
        i.id: benchmark.from_losses(i, [abs(p - places[i.id]) for p in range(len(i.candidates))])
        for i in items
    }
    assert benchmark.score(items, predictions).headline.value == 100.0


def test_iconqa_candidate_ranking(tmp_path: Path) -> None:
    rows = [
        {"question_id": "5", "losses": [0.4, 0.1, 0.9]},
        {"question_id": "8", "losses": [2, 1, 3]},
    ]
    result = score("iconqa", iconqa(tmp_path), rows, tmp_path, split="choose_txt_test")
    assert result.per_item == {"5": 1.0, "8": 0.0}


def test_iconqa_files_are_found(tmp_path: Path) -> None:
    iconqa(tmp_path / "iconqa_data")
    image = tmp_path / "iconqa" / "test" / "choose_txt" / "5" / "image.png"
    image.parent.mkdir(parents=True)
    image.touch()
    items = BENCHMARKS["iconqa"].items(tmp_path, "choose_txt_minitest")
    assert [item.image for item in items] == [str(image)]
    assert items[0].meta["skills"] == ("geometry",)


@pytest.mark.parametrize(
    ("problems", "splits", "message"),
    [
        ({"5": PROBLEMS["5"] | {"answer": 3}}, {"test": ["5"]}, "from 0 to 2, got '3'"),
        ({"5": PROBLEMS["5"] | {"choices": ["a"]}}, {"test": ["5"]}, "expected 2 to 26 choices"),
        ({"5": PROBLEMS["5"] | {"ques_type": "x"}}, {"test": ["5"]}, "5.ques_type: expected one"),
        (PROBLEMS, {"choose_txt_test": ["9"]}, "choose_txt_test: holds the number '9'"),
        (PROBLEMS, ["5"], "expected one JSON object"),
        (PROBLEMS, {"test": "5"}, "test: expected a list of question numbers"),
        ([PROBLEMS], {"test": ["5"]}, "expected one JSON object"),
    ],
)
def test_iconqa_broken_files_are_named(
    problems: Any, splits: Any, message: str, tmp_path: Path
) -> None:
    paths = [write(tmp_path / "problems.json", problems), write(tmp_path / "s.json", splits)]
    with pytest.raises(DataError, match=message):
        BENCHMARKS["iconqa"].read_files(paths, split="test")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"results": [1]}, "results: expected an object"),
        ({"results": {"5": 1.5}}, "5: expected a text or a whole number, got 1.5"),
        ({"results": {"5": True}}, "5: expected a text or a whole number, got True"),
        ([{"question_id": "5", "answer": 1}] * 2, r"entry 2: question_id: '5' occurs twice"),
    ],
)
def test_iconqa_broken_results_are_named(results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("iconqa", iconqa(tmp_path), results, tmp_path, split="test")


def test_iconqa_needs_two_or_three_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 or 3 files"):
        BENCHMARKS["iconqa"].read_files(iconqa(tmp_path)[:1])


@pytest.mark.parametrize("name", ["mmbench", "mme", "seed-bench", "iconqa"])
def test_order_of_questions_does_not_matter(name: str, tmp_path: Path) -> None:
    paths = {
        "mmbench": lambda: [mmbench(tmp_path)],
        "mme": lambda: [mme(tmp_path)],
        "seed-bench": lambda: [write(tmp_path / "S.json", SEED)],
        "iconqa": lambda: iconqa(tmp_path),
    }[name]()
    benchmark = BENCHMARKS[name]
    items = benchmark.read_files(paths, split="test" if name == "iconqa" else None)
    answers = right(items)
    answers.update(dict.fromkeys(list(answers)[::3], "no"))
    forwards = benchmark.score(items, answers).to_json()
    backwards = benchmark.score(items[::-1], answers).to_json()
    assert backwards["metrics"] == pytest.approx(forwards["metrics"])
    assert backwards["by"] == {k: pytest.approx(v) for k, v in forwards["by"].items()}
    best = benchmark.score(items, right(items)).to_json()["metrics"]
    assert best["accuracy"] == 100.0
