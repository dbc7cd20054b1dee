"""VQAv2, OK-VQA and TextVQA: the specification's vectors through the official files."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.evaluation.benchmarks import BENCHMARKS, okvqa
from manyeyes.evaluation.scorers.vqa import VQA_VARIANTS
from manyeyes.evaluation.tables.comparison import compare_predictions
from vqa_files import write_annotations, write_answers, write_json, write_questions


def counted(**counts: int) -> list[str]:
    return [text.replace("_", " ") for text, count in counts.items() for _ in range(count)]


VECTORS = [
    ("yes", counted(yes=10), (100, 100, 100, 100)),
    ("Yes", counted(yes=10), (0, 100, 100, 100)),
    ("two", ["2"] * 2 + ["two"] + ["three"] * 7, (90, 60, 90, 90)),
    ("a dog", counted(dog=3, the_dog=3, puppy=4), (100, 90, 100, 100)),
    ("2", ["two"] * 3 + ["2"] * 4 + ["3"] * 3, (100, 100, 100, 100)),
    ("U.S.A.", counted(usa=3, us=7), (90, 90, 90, 90)),
    ("cat", counted(cat=1, dog=9), (30, 30, 30, 30)),
    ("cat", counted(cat=2, dog=8), (60, 60, 60, 60)),
    ("cat", counted(cat=3, dog=7), (90, 90, 90, 90)),
    ("cat", counted(cat=4, dog=6), (100, 100, 100, 100)),
    ("red/white", ["red white"] * 4 + ["red/white"] * 2 + ["pink"] * 4, (100, 100, 100, 100)),
    ("$5,000 ?", ["$5000"] * 5 + ["5000"] * 5, (100, 100, 100, 100)),
    ("", counted(nothing=9, none=1), (0, 0, 0, 0)),
]
"""Prediction, ten answers, and its score as official, lavis, always, m4c; run on original code."""

TEXTS = [prediction for prediction, _, _ in VECTORS]
ANSWERS = [answers for _, answers, _ in VECTORS]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """The vectors in VQAv2's files."""
    return [
        write_questions(tmp_path / "questions.json", len(VECTORS)),
        write_annotations(tmp_path / "annotations.json", ANSWERS),
    ]


def write_textvqa(path: Path) -> Path:
    """The vectors in TextVQA's file."""
    rows = [
        {"question_id": n, "image_id": f"{n % 3:016x}", "question": "What?", "answers": answers}
        for n, answers in enumerate(ANSWERS, start=1)
    ]
    return write_json(path, {"dataset_type": "val", "dataset_version": "0.5.1", "data": rows})


@pytest.mark.parametrize("name", ["vqa", "vqav2", "okvqa", "textvqa"])
@pytest.mark.parametrize("place", range(4), ids=list(VQA_VARIANTS))
def test_golden_vectors(name: str, place: int, pair: list[Path], tmp_path: Path) -> None:
    files = [write_textvqa(tmp_path / "t.json")] if name == "textvqa" else pair
    answers = write_answers(tmp_path / "answers.json", TEXTS)
    variant = list(VQA_VARIANTS)[place]
    result = score_file(Scoring(name, files, variant=variant), answers).result
    expected = [scores[place] for _, _, scores in VECTORS]
    assert [100 * score for score in result.per_item.values()] == pytest.approx(expected)
    assert result.headline.value == pytest.approx(sum(expected) / len(expected))


def test_each_benchmark_has_its_official_rule_first() -> None:
    assert [BENCHMARKS[n].variants[0] for n in ("vqav2", "okvqa")] == ["official"] * 2
    assert BENCHMARKS["textvqa"].variants == ("m4c", "official", "lavis", "always")
    assert BENCHMARKS["okvqa"].variants == (*VQA_VARIANTS, "raw", "lemmas")


FEW = "share of few answers"


@pytest.mark.parametrize("name", ["vqa", "vqav2", "okvqa"])
@pytest.mark.parametrize(
    ("answers", "expected", "rule", "note"),
    [
        ([["red"], ["two"]], 100, "official, exact match", "every question has one reference"),
        ([["red"], ["red"]], 50, "official, exact match", "every question has one reference"),
        (
            [["red"] * 2 + ["blue"], ["two"]],
            250 / 3,
            f"official, {FEW}",
            "every question has fewer",
        ),
        ([["red"] * 10, ["two"] * 3], 100, f"official, {FEW}", "1 of 2 questions have fewer"),
        ([["red"] * 4, ["two"] * 10], 100, "official", None),
    ],
)
def test_few_answers_are_scored_by_a_rule_that_the_result_names(
    name: str,
    answers: list[list[str]],
    expected: float,
    rule: str,
    note: str | None,
    tmp_path: Path,
) -> None:
    files = [
        write_questions(tmp_path / "questions.json", 2),
        write_annotations(tmp_path / "annotations.json", answers),
    ]
    result = score_file(Scoring(name, files), write_answers(tmp_path / "a.json", ["red", "two"]))
    assert result.result.headline.value == pytest.approx(expected)
    assert (result.result.variant, result.result.headline.variant) == (rule, rule)
    assert [text[: len(note or "")] for text in result.result.notes] == ([note] if note else [])
    compared = compare_predictions(
        result.benchmark, result.items, result.predictions, result.predictions
    )
    assert compared.variant == rule


def test_a_perfect_oracle_and_shuffled_rows(pair: list[Path], tmp_path: Path) -> None:
    best = [max(set(answers), key=answers.count) for answers in ANSWERS]
    result = score_file(Scoring("vqav2", pair), write_answers(tmp_path / "a.json", best)).result
    assert result.headline.value == 100.0
    plain = score_file(Scoring("vqav2", pair), write_answers(tmp_path / "a.json", TEXTS)).result
    rows = json.loads((tmp_path / "a.json").read_text())
    write_json(tmp_path / "a.json", rows[::-1])
    content = json.loads(pair[1].read_text())
    content["annotations"].reverse()
    write_json(pair[1], content)
    shuffled = score_file(Scoring("vqav2", pair), tmp_path / "a.json").result
    assert shuffled.to_json() == plain.to_json()


def test_vqav2_finds_the_official_files_and_images(tmp_path: Path) -> None:
    write_questions(tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", 1)
    write_annotations(tmp_path / "v2_mscoco_val2014_annotations.json", [["red"] * 10])
    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "val2014" / "COCO_val2014_000000000040.jpg")
    (item,) = BENCHMARKS["vqav2"].items(tmp_path, "val2014")
    assert item.image.endswith("val2014/COCO_val2014_000000000040.jpg")
    assert item.groups == {"question_type": "what", "answer_type": "other"}
    with pytest.raises(DataError, match=r"expected one of: OpenEnded_mscoco_val2014_questions"):
        BENCHMARKS["okvqa"].items(tmp_path, "val2014")


class TestOkvqa:
    """OK-VQA's own annotations: no ``multiple_choice_answer``, stemmed and raw answers."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        stemmed = ["surf"] * 8 + ["swim"] * 2
        raw = [{"surf": "surfing", "swim": "swimming"}[text] for text in stemmed]
        path = write_annotations(tmp_path / "annotations.json", [stemmed], {"confidence": 3})
        content = json.loads(path.read_text())
        for answer, text in zip(content["annotations"][0]["answers"], raw, strict=True):
            answer["raw_answer"] = text
        return [write_questions(tmp_path / "q.json", 1), write_json(path, content)]

    @pytest.mark.parametrize(
        ("text", "variant", "expected"),
        [
            ("surf", "official", 100),
            ("surfing", "official", 0),
            ("surfing", "raw", 100),
            ("surf", "raw", 0),
            ("Swimming.", "raw", 60),
        ],
    )
    def test_stemmed_and_raw_answers(
        self, text: str, variant: str, expected: float, files: list[Path], tmp_path: Path
    ) -> None:
        answers = write_answers(tmp_path / "a.json", [text])
        result = score_file(Scoring("okvqa", files, variant=variant), answers).result
        assert result.headline.value == pytest.approx(expected)
        assert (result.variant, result.headline.variant) == (variant, variant)

    def test_one_raw_answer_is_matched_exactly(self, tmp_path: Path) -> None:
        path = write_annotations(tmp_path / "annotations.json", [["surf"]], {"confidence": 3})
        content = json.loads(path.read_text())
        content["annotations"][0]["answers"][0]["raw_answer"] = "surfing"
        files = [write_questions(tmp_path / "q.json", 1), write_json(path, content)]
        answers = write_answers(tmp_path / "a.json", ["surfing"])
        result = score_file(Scoring("okvqa", files, variant="raw"), answers).result
        assert (result.headline.value, result.variant) == (100.0, "raw, exact match")

    def test_raw_answers_that_are_not_there_are_named(
        self, pair: list[Path], tmp_path: Path
    ) -> None:
        answers = write_answers(tmp_path / "answers.json", TEXTS)
        with pytest.raises(DataError, match="question '1' has no 'raw_answer'"):
            score_file(Scoring("okvqa", pair, variant="raw"), answers)

    def test_lemmas_of_nouns_and_verbs_are_compared(
        self, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def parse(text: str) -> list[Any]:
            return [
                SimpleNamespace(
                    text=word,
                    lemma_=word.removesuffix("ing"),
                    pos_="VERB" if word.endswith("ing") else "ADJ",
                )
                for word in text.split()
            ]

        module = ModuleType("spacy")
        module.load = lambda name: parse  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "spacy", module)
        okvqa._lemmatiser.cache_clear()
        answers = write_answers(tmp_path / "a.json", ["surfing"])
        plan = Scoring("okvqa", files, variant="lemmas")
        assert score_file(plan, answers).result.headline.value == 100.0
        okvqa._lemmatiser.cache_clear()

    def test_without_spacy_it_is_said_what_to_install(
        self, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "spacy", None)
        okvqa._lemmatiser.cache_clear()
        answers = write_answers(tmp_path / "a.json", ["surfing"])
        with pytest.raises(UsageError, match=r"'lemmas' needs spaCy .*install them with: pip"):
            score_file(Scoring("okvqa", files, variant="lemmas"), answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": []}, r"entry 1: data\[0\]\.answers: expected a list of texts, got \[\]"),
        ({"answers": ["a", 2]}, r"expected a list of texts, got \['a', 2\]"),
        ({"question": ""}, r"data\[0\]\.question: expected a text that is not empty"),
        ({"question_id": None}, r"data\[0\]\.question_id: expected an id"),
        ({"image_id": "../../../x"}, "leads out of the image folder"),
    ],
)
def test_broken_textvqa_rows_are_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    row = {"question_id": 1, "image_id": "a", "question": "What?", "answers": ["x"] * 10}
    path = write_json(tmp_path / "t.json", {"data": [{**row, **change}]})
    with pytest.raises(DataError, match=message):
        BENCHMARKS["textvqa"].read_files([path])


def test_textvqa_files_that_are_none(tmp_path: Path) -> None:
    for content, message in (
        ([{"question_id": 1}], "expected an object with the list 'data'"),
        ({"questions": []}, "data: is missing"),
        ({"data": []}, "data: holds no rows"),
    ):
        with pytest.raises(DataError, match=message):
            BENCHMARKS["textvqa"].read_files([write_json(tmp_path / "t.json", content)])


def test_textvqa_finds_its_images(tmp_path: Path) -> None:
    row = {"question_id": 1, "image_id": "0a", "question": "What?", "answers": ["x"] * 10}
    write_json(tmp_path / "TextVQA_0.5.1_val.json", {"data": [row]})
    (tmp_path / "train_images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "train_images" / "0a.jpg")
    (item,) = BENCHMARKS["textvqa"].items(tmp_path, "val")
    assert item.image.endswith("train_images/0a.jpg")
    assert BENCHMARKS["textvqa"].baseline([item], tmp_path, "val").answers == {"1": "x"}


def test_the_garbage_collector_is_as_before_after_reading(pair: list[Path], tmp_path: Path) -> None:
    assert gc.isenabled()
    assert len(BENCHMARKS["vqav2"].read_files(pair)) == len(VECTORS)
    assert gc.isenabled()
    with pytest.raises(DataError):
        BENCHMARKS["vqav2"].read_files([pair[1], pair[1]])
    assert gc.isenabled()
