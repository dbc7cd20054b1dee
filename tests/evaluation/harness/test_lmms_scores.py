"""The same answers by lmms-eval's own tasks and by ours: run them with ``make lmms-eval-test``.

Without lmms-eval these tests are skipped. Answers are written in ways that both sides read alike;
where their rules differ on purpose, ``docs/evaluation.md`` says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import benchmark_files as files
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.scorers.anls import anls_official
from manyeyes.evaluation.scorers.mmmu import mmmu_open
from manyeyes.evaluation.scorers.numerals import chart_match
from manyeyes.evaluation.scorers.vqa import vqa_accuracy
from manyeyes.inference.questions import Item

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="no lmms-eval here"),
    pytest.mark.filterwarnings("ignore"),  # of the harness and what it imports
]

Docs = list[dict[str, Any]]
LETTERS = ("{}", "({})", "{}.", "The answer is ({}).")


def task(name: str) -> Any:
    """The module of a task's functions."""
    return importlib.import_module(f"lmms_eval.tasks.{name}")


def docs(*paths: Path) -> Docs:
    """The rows of parquet files as lmms-eval's tasks get them."""
    import pyarrow.parquet

    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


def letters(items: Sequence[Item], wrong: int = 3) -> dict[str, str]:
    """An option of each item in changing words, every so many a wrong one."""
    said = {}
    for place, item in enumerate(items):
        options = "ABCDEFGH"[: len(item.candidates)]
        right = options.index(item.references[0])
        chosen = options[(right + (place % wrong == 1)) % len(options)]
        said[item.id] = LETTERS[place % len(LETTERS)].format(chosen)
    return said


def ours(name: str, items: Sequence[Item], said: Mapping[str, str], **how: Any) -> dict[str, float]:
    result = BENCHMARKS[name].score(items, said, **how)
    by = result.headline.by.items()
    grouped = {f"{key}.{group}": v for key, groups in by for group, v in groups.items()}
    return {**{score.metric: score.value for score in result.scores}, **grouped}


def theirs(process: Any, rows: Docs, said: Sequence[str], key: str) -> list[Any]:
    return [process(dict(row), [text])[key] for row, text in zip(rows, said, strict=True)]


def test_cv_bench(tmp_path: Path) -> None:
    files.cv_bench(tmp_path)
    utils, rows = task("cv_bench.utils"), docs(tmp_path / "test.parquet")
    items = BENCHMARKS["cv-bench"].items(tmp_path, "test")
    said = {item.id: text for item, text in zip(items, ["(B)", "B", "C", "A", "(A)"], strict=True)}
    found = theirs(utils.cv_bench_process_results, rows, list(said.values()), "cv_bench_acc")
    own = ours("cv-bench", items, said)
    assert own["combined"] == pytest.approx(100 * utils.cv_bench_default_aggregate_results(found))
    assert own["accuracy"] == pytest.approx(100 * utils.cv_bench_aggregate_results(found))
    assert 0 < own["combined"] < 100


def test_mmvp(tmp_path: Path) -> None:
    files.mmvp_corrected(tmp_path)
    utils, rows = task("mmvp.utils"), docs(*(tmp_path / "data").iterdir())
    items = BENCHMARKS["mmvp"].items(tmp_path, "train")
    said = dict(zip(["1", "2", "99", "100"], ["A", "(B)", "B.", "(B)"], strict=True))
    found = theirs(utils.mmvp_process_results, rows, list(said.values()), "mmvp_accuracy")
    own = ours("mmvp", items, said, variant="corrected")
    assert own["pair_accuracy"] == pytest.approx(100 * utils.mmvp_aggregate_pair_results(found))
    assert own["accuracy"] == pytest.approx(100 * utils.mmvp_aggregate_results(found))
    assert (own["pair_accuracy"], own["accuracy"]) == (50, 75)


def test_naturalbench(tmp_path: Path) -> None:
    files.naturalbench(tmp_path)
    utils = task("naturalbench.utils")
    items = BENCHMARKS["naturalbench"].items(tmp_path, "train")
    words = ["Yes.", "No", "no, it is not", "No", "A", "(B)", "a dog, so B", "the letter A"]
    said = {item.id: text for item, text in zip(items, words, strict=True)}
    read = [
        utils.extract_answer(text, item.groups["question_type"])
        for item, text in zip(items, words, strict=True)
    ]
    found = utils.get_scores([read[:4], read[4:]])
    own = ours("naturalbench", items, said)
    names = {"G_Acc": "group", "Q_Acc": "question", "I_Acc": "image"}
    for theirs_name, name in names.items():
        assert own[f"{name}_accuracy"] == pytest.approx(100 * found[theirs_name])
    assert own["accuracy"] == pytest.approx(100 * found["Acc"]) == pytest.approx(75)


def test_blink(tmp_path: Path) -> None:
    files.blink(tmp_path)
    utils = task("blink.utils")
    items = BENCHMARKS["blink"].items(tmp_path, "val")
    said = letters(items)
    own = ours("blink", items, said)
    for name in ("Jigsaw", "Counting"):
        rows = docs(tmp_path / name / "val-00000-of-00001.parquet")
        answers = [said[row["idx"]] for row in rows]
        found = theirs(utils.blink_process_results, rows, answers, "blink_acc")
        expected = 100 * utils.blink_aggregate_results(found)
        assert own[f"task.{name}"] == pytest.approx(expected), name


def test_mmstar(tmp_path: Path) -> None:
    files.mmstar(tmp_path)
    utils, rows = task("mmstar.utils"), docs(tmp_path / "mmstar.parquet")
    items = BENCHMARKS["mmstar"].items(tmp_path, "val")
    said = letters(items)
    found = theirs(utils.mmstar_process_results, rows, list(said.values()), "average")
    own = ours("mmstar", items, said, variant="axes")["accuracy"]
    assert own == pytest.approx(100 * utils.mmstar_aggregate_results(found)) == pytest.approx(75)


def test_hr_bench(tmp_path: Path) -> None:
    files.hr_bench(tmp_path)
    utils, rows = task("hrbench.utils"), docs(tmp_path / "hr_bench_4k.parquet")
    items = BENCHMARKS["hr-bench-4k"].items(tmp_path, "test")
    said = letters(items)
    found = theirs(utils.hrbench_process_results, rows, list(said.values()), "average")
    own = ours("hr-bench-4k", items, said)
    assert own["accuracy"] == pytest.approx(100 * utils.hrbench_aggregate_results(found, None))
    assert 0 < own["accuracy"] < 100


def test_vstar(tmp_path: Path) -> None:
    files.vstar(tmp_path)
    utils = task("vstar_bench.utils")
    items = BENCHMARKS["vstar"].items(tmp_path, "test")
    said = letters(items)
    rows = [{"text": i.prompt, "label": i.references[0], "question_id": i.id} for i in items]
    rows = [row | {"category": i.groups["category"]} for row, i in zip(rows, items, strict=True)]
    found = theirs(utils.vstar_process_results, rows, list(said.values()), "vstar_overall_acc")
    own = ours("vstar", items, said)["accuracy"]
    assert own == pytest.approx(utils.vstar_aggregate_results(found)) == pytest.approx(200 / 3)


def test_scienceqa_and_realworldqa(tmp_path: Path) -> None:
    files.scienceqa_parquet(tmp_path / "science")
    items = BENCHMARKS["scienceqa"].items(tmp_path / "science", "test")
    rows = docs(*(tmp_path / "science" / "data").iterdir())
    said = dict(zip(["1", "2"], ["C. water", "b"], strict=True))
    process = task("scienceqa.utils").sqa_process_results
    found = theirs(process, rows, list(said.values()), "exact_match")
    assert ours("scienceqa", items, said)["accuracy"] == 50 * sum(found) == 50
    files.realworldqa(tmp_path / "real")
    items = BENCHMARKS["realworldqa"].items(tmp_path / "real", "test")
    rows = docs(*(tmp_path / "real" / "data").iterdir())
    said = dict(zip("123", ["C. Ahead.", "3", "downhill."], strict=True))
    process = task("realworldqa.utils").realworldqa_process_results
    found = theirs(process, rows, list(said.values()), "exact_match")
    assert ours("realworldqa", items, said)["accuracy"] == pytest.approx(100 * sum(found) / 3)


def test_counting(tmp_path: Path) -> None:
    files.countbenchqa(tmp_path)
    items = BENCHMARKS["countbenchqa"].items(tmp_path, "test")
    rows = docs(*(tmp_path / "data").iterdir())
    said = dict(zip("123", ["3", "3 cats", " 10"], strict=True))
    process = task("countbenchqa.utils").countbenchqa_process_results
    found = theirs(process, rows, list(said.values()), "acc")
    assert ours("countbenchqa", items, said)["accuracy"] == pytest.approx(100 * sum(found) / 3)
    assert sum(found) == 2


def test_ocrbench(tmp_path: Path) -> None:
    files.ocrbench_parquet(tmp_path)
    items = BENCHMARKS["ocrbench"].items(tmp_path, "test")
    rows = docs(*(tmp_path / "data").iterdir())
    said = dict(zip("1234", ["The Centre", "50 KM", "no. 12", "x^{2}+y"], strict=True))
    process = task("ocrbench.utils").ocrbench_process_results
    found = theirs(process, rows, list(said.values()), "ocrbench_accuracy")
    own = ours("ocrbench", items, said, variant="lmms")["score"]
    assert own == sum(one["score"] for one in found) == 3


def test_vizwiz(tmp_path: Path) -> None:
    files.vizwiz_parquet(tmp_path)
    items = BENCHMARKS["vizwiz"].items(tmp_path, "val")
    rows = docs(*(tmp_path / "data").iterdir())
    said = dict(zip([i.id for i in items], ["Unanswerable.", "The basil leaves"], strict=True))
    process = task("vizwiz_vqa.utils").vizwiz_vqa_process_results
    found = theirs(process, rows, list(said.values()), "exact_match")
    assert ours("vizwiz", items, said)["accuracy"] == pytest.approx(50 * sum(found))
    assert found[1] == pytest.approx(vqa_accuracy("basil leaves", items[1].references, "m4c"))


def test_hallusion_bench(tmp_path: Path) -> None:
    files.hallusion_bench(tmp_path)
    items = BENCHMARKS["hallusion-bench"].items(tmp_path, "test")
    rows = json.loads((tmp_path / "HallusionBench.json").read_text())
    rows = [row for row in rows if row["visual_input"] != "0"]
    words = ["Yes", "no", "No, yes", "No", "it is"]
    utils = task("hallusion_bench.evaluate_hb")
    found = [row | {"model_prediction": text} for row, text in zip(rows, words, strict=True)]
    said = {item.id: text for item, text in zip(items, words, strict=True)}
    own = ours("hallusion-bench", items, said, variant="anywhere")
    for metric in ("aAcc", "qAcc", "fAcc"):
        expected = 100 * utils.hb_aggregation_result_intern(found, metric)
        assert own[metric] == pytest.approx(expected), metric
    assert own["aAcc"] == 60


def test_mmmu(tmp_path: Path) -> None:
    files.mmmu(tmp_path)
    utils = task("mmmu.utils")
    items = {item.id: item for item in BENCHMARKS["mmmu"].items(tmp_path, "validation")}
    rows = docs(*sorted(tmp_path.glob("*/*.parquet")))
    words = ["I take (B).", "A or B", "so x = 8.254", "The answer is a tall box"]
    said = {row["id"]: text for row, text in zip(rows, words, strict=True)}
    # lmms-eval's copy of the data has several accepted answers as a list
    parsed = [row | {"answer": list(items[row["id"]].references)} for row in rows]
    found = theirs(utils.mmmu_process_results, parsed, words, "mmmu_acc")
    own = ours("mmmu", list(items.values()), said)["accuracy"]
    assert own == pytest.approx(100 * utils.mmmu_aggregate_results(found)) == pytest.approx(50)


OPEN = (
    *("8.25", "x = 8.25", "The answer is 8.254.", "1,200", "so it is 1200 m", "5e2", "-3", "a", ""),
    *("is -3.0 or 4", "is a", "type a cell", "heart", "The Heart.", "12,34", "$5", "3.14159"),
    *("it could be the heart\nthus the lung", ".5", "= 0.5", "answer:", "answer is \nfinal 7\n"),
    *("x = 3\ny = 4", "the answer is\n 4", "so so is is it"),
)


def test_open_answers_of_mmmu_one_by_one() -> None:
    utils = task("mmmu.utils")
    references = ("8.25", "1200", "500", "-3", "a", "heart", "0.5", "7", "4", "5", "3.14", "lung")
    compared = 0
    for said, wanted in itertools.product(OPEN, references):
        expected = utils.eval_open([wanted], utils.parse_open_response(said))
        assert mmmu_open(said, [wanted]) == expected, (said, wanted)
        compared += expected
    assert compared > 10


TEXTS = ("", "ITC", "itc ltd", " ITC  Ltd ", "1998", "1999", "ab  ", "ax", "8%", "0.08", "8", "105")
NUMBERS = (
    "100",
    "1e2",
    "1,00",
    "95",
    "105.1",
    "0",
    "0.0",
    "-5",
    "-5.2%",
    "Germany",
    "germany ",
    "%",
)


def test_anls_and_relaxed_accuracy_one_by_one() -> None:
    from lmms_eval.api.metrics import anls

    relaxed = task("chartqa.utils").relaxed_correctness
    for said, wanted in itertools.product(TEXTS + NUMBERS, repeat=2):
        expected = anls([wanted, "other"], [said])["anls"]
        assert anls_official(said, [wanted, "other"]) == pytest.approx(expected), (said, wanted)
        assert chart_match(said, wanted) == float(relaxed(said, wanted)), (said, wanted)
