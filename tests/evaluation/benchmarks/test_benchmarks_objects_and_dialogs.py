"""GVTBench's counting and identification, and Visual Dialog, in their official layouts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import BenchmarkResult

COUNTS = [
    {"image_id": 139, "text_in": "How many chairs?", "text_out": "3", "n_obj_exist": 12},
    {"image_id": 139, "text_in": "How many cups?", "text_out": "1", "n_obj_exist": 12},
    {"image_id": 285, "text_in": "How many bears?", "text_out": "1", "n_obj_exist": 1},
    {"image_id": 632, "text_in": "How many books?", "text_out": "9", "n_obj_exist": 25},
]
PRESENCE = [
    {"image_id": "a/1.jpg", "text_in": "Does a cat exist?", "text_out": "Yes.", "n_obj_exist": 3},
    {"image_id": "a/1.jpg", "text_in": "Does a dog exist?", "text_out": "No.", "n_obj_exist": 3},
    {"image_id": "b/2.jpg", "text_in": "Does a cup exist?", "text_out": "No.", "n_obj_exist": 20},
]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def score(name: str, rows: Any, results: Any, folder: Path, **how: Any) -> BenchmarkResult:
    benchmark = BENCHMARKS[name]
    items = benchmark.read_files([write(folder / "rows.json", rows)])
    return benchmark.score(items, benchmark.load(write(folder / "results.json", results)), **how)


def gvt(rows: list[dict[str, Any]], answers: list[str]) -> list[dict[str, Any]]:
    """Results as GVT's script writes them."""
    return [
        {"pred": text, "gt": row["text_out"], "image_id": row["image_id"], "n_obj_exist": 1}
        for row, text in zip(rows, answers, strict=True)
    ]


def test_counting_by_hand(tmp_path: Path) -> None:
    """Errors 0, 1, -1 (no number counts as 0) and -7."""
    results = gvt(COUNTS, ["There are three chairs", "2", "", "2 books"])
    result = score("counting", COUNTS, results, tmp_path)
    metrics = result.to_json()["metrics"]
    assert metrics == pytest.approx({"accuracy": 25, "MAE": 9 / 4, "RMSE": (51 / 4) ** 0.5})
    by = result.to_json()["by"]
    assert by["count"] == {"0-2": 0.0, "3-5": 100.0, "9-11": 0.0}
    assert by["objects"] == {"1-9": 0.0, "10-19": 50.0, "20+": 0.0}
    assert result.parse_failures == 0
    assert set(result.to_json()["ci95"]) == {"accuracy", "MAE", "RMSE"}


def test_counting_strict_counts_what_it_cannot_read(tmp_path: Path) -> None:
    results = gvt(COUNTS, ["Three", "someone", "", "nine"])
    official = score("counting", COUNTS, results, tmp_path)
    strict = score("counting", COUNTS, results, tmp_path, variant="strict")
    assert official.per_item == {"139#1": 0.0, "139#2": 1.0, "285#1": 0.0, "632#1": 0.0}
    assert strict.per_item == {"139#1": 1.0, "139#2": 0.0, "285#1": 0.0, "632#1": 1.0}
    assert (official.parse_failures, strict.parse_failures) == (0, 2)


def test_xformer_check_18_identification_official_and_strict(tmp_path: Path) -> None:
    results = gvt(PRESENCE, ["yes it does", "I do not know", "Yes, now"])
    official = score("identification", PRESENCE, results, tmp_path)
    strict = score("identification", PRESENCE, results, tmp_path, variant="strict")
    assert official.headline.value == 100.0  # "no" stands in "not", "know" and "now"
    assert strict.headline.value == pytest.approx(100 / 3)
    assert strict.parse_failures == 1
    assert strict.headline.by["answer"] == {"no": 0.0, "yes": 100.0}
    assert strict.headline.by["objects"] == {"1-9": 50.0, "20+": 0.0}


@pytest.mark.parametrize(("name", "rows"), [("counting", COUNTS), ("identification", PRESENCE)])
def test_right_answers_and_the_constant_answer(
    name: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.read_files([write(tmp_path / "rows.json", rows)])
    answers = {item.id: item.references[0] for item in items}
    for variant in benchmark.variants:
        assert benchmark.score(items, answers, variant=variant).headline.value == 100.0
    best, number = Counter(row["text_out"] for row in rows).most_common(1)[0]
    constant = benchmark.constant(items, items, "shikra")
    assert constant == [best] * len(rows)
    result = benchmark.score(items, dict(zip(answers, constant, strict=True)))
    assert result.headline.value == pytest.approx(100 * number / len(rows))
    assert result.notes == (
        f"the constant answer {best!r} is right in {100 * number / len(rows):.2f} %",
    )
    rows_by_id = [{"id": key, "pred": text} for key, text in reversed(answers.items())]
    assert benchmark.load(write(tmp_path / "r.json", rows_by_id)) == answers


def test_xformer_check_18_constant_one_on_the_published_file(tmp_path: Path) -> None:
    """54.27 % on COCO's counting file; GVTBENCH names the folder that holds it."""
    folder = os.environ.get("GVTBENCH")
    if folder is None:
        pytest.skip("needs GVTBench's coco_oc.json; name its folder in GVTBENCH")
    benchmark = BENCHMARKS["counting"]
    items = benchmark.read_files([Path(folder) / "coco_oc.json"])
    assert len(items) == 10_000
    result = benchmark.score(items, {item.id: "1" for item in items})
    assert result.headline.value == pytest.approx(54.27, abs=0.005)
    assert result.notes == ("the constant answer '1' is right in 54.27 %",)


def test_gvt_files_and_images_are_found_by_split(tmp_path: Path) -> None:
    write(tmp_path / "GVTBench" / "coco_oc.json", COUNTS)
    write(tmp_path / "vcr_mci.json", PRESENCE)
    images = ["images/val2017/000000000139.jpg", "val2017/000000000285.jpg", "000000000632.jpg"]
    images += ["vcr1images/a/1.jpg", "images/vcr1images/b/2.jpg"]
    for name in images:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(BENCHMARKS["counting"].items(tmp_path, "coco")) == 4
    assert len(BENCHMARKS["identification"].items(tmp_path, "vcr")) == 3


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("counting", {"text_out": "three"}, r"entry 1: text_out: expected a whole number"),
        ("counting", {"text_out": 3}, "text_out: expected a text"),
        ("counting", {"image_id": None}, "image_id: expected an id"),
        ("counting", {"n_obj_exist": "12"}, "n_obj_exist: expected a whole number"),
        ("identification", {"text_out": "maybe"}, "text_out: expected Yes or No"),
        ("identification", {"image_id": "../../x.jpg"}, "image_id"),
    ],
)
def test_broken_gvt_rows_are_named(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    rows = [{**(COUNTS if name == "counting" else PRESENCE)[0], **change}]
    with pytest.raises(DataError, match=message):
        BENCHMARKS[name].read_files([write(tmp_path / "rows.json", rows)])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (gvt(COUNTS[:3], ["1", "1", "1"]), "no prediction for 1 ids: '632#1'"),
        ([*gvt(COUNTS, ["1"] * 4), {"image_id": 139, "pred": "1"}], "unknown ids: '139#3'"),
        ([{"image_id": 139}], r"results.json, entry 1: pred: is missing"),
        ([{"id": "139#1", "pred": "1"}] * 2, r"results.json, entry 2: id: '139#1' occurs twice"),
    ],
)
def test_broken_gvt_results_are_named(results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("counting", COUNTS, results, tmp_path)


# Visual Dialog


def visdial(*, candidates: int = 4) -> dict[str, Any]:
    """Two dialogs of two rounds; candidates are the first texts of ``answers``."""
    answers = ["yes", "no", "red", "two dogs", *map(str, range(candidates))]

    def turn(question: int, right: int) -> dict[str, Any]:
        options = list(range(candidates))
        return {
            "question": question,
            "answer": options[right],
            "answer_options": options,
            "gt_index": right,
        }

    dialogs = [
        {"image_id": 7, "caption": "a cat on a mat.", "dialog": [turn(0, 0), turn(1, 2)]},
        {"image_id": 8, "caption": "dogs", "dialog": [turn(0, 1), turn(2, 3)]},
    ]
    questions = ["is it a cat", "what colour is it", "what are they"]
    data = {"questions": questions, "answers": answers, "dialogs": dialogs}
    return {"version": "1.0", "split": "val2018", "data": data}


DENSE = [
    {"image_id": 7, "round_id": 2, "gt_relevance": [0.0, 0.0, 1.0, 0.5]},
    {"image_id": 8, "round_id": 1, "gt_relevance": [0.0, 0.0, 0.0, 1.0]},
]
RANKS = {(7, 1): [1, 2, 3, 4], (7, 2): [1, 3, 2, 4], (8, 1): [2, 3, 1, 4], (8, 2): [4, 1, 3, 2]}


def rankings(ranks: dict[tuple[int, int], list[int]]) -> list[dict[str, Any]]:
    return [{"image_id": i, "round_id": r, "ranks": row} for (i, r), row in ranks.items()]


def score_visdial(
    results: Any, folder: Path, *, dense: bool = False, **how: Any
) -> BenchmarkResult:
    benchmark = BENCHMARKS["visdial"]
    paths = [write(folder / "visdial_1.0_val.json", visdial())]
    paths += [write(folder / "dense.json", DENSE)] if dense else []
    items = benchmark.read_files(paths)
    return benchmark.score(items, benchmark.load(write(folder / "results.json", results)), **how)


def test_visdial_by_hand(tmp_path: Path) -> None:
    """The human answers rank 1, 2, 3 and 2."""
    result = score_visdial(rankings(RANKS), tmp_path)
    metrics = result.to_json()["metrics"]
    assert metrics == pytest.approx(
        {
            "MRR": 100 * (1 + 1 / 2 + 1 / 3 + 1 / 2) / 4,
            "R@1": 25,
            "R@5": 100,
            "R@10": 100,
            "mean_rank": 2,
        }
    )
    assert result.headline.by["round"] == pytest.approx({"1": 100 * 2 / 3, "2": 50})
    assert result.per_item["8/1"] == pytest.approx(1 / 3)


def test_visdial_ndcg_of_the_rounds_with_relevances(tmp_path: Path) -> None:
    """7/2: the two best ranked have relevance 0 and 1; 8/1: the best ranked has none."""
    result = score_visdial(rankings(RANKS), tmp_path, dense=True)
    log3 = 1.584962500721156
    expected = (1 / log3) / (1 + 0.5 / log3)
    (dense,) = [score for score in result.scores if score.metric == "NDCG"]
    assert dense.value == pytest.approx(100 * expected / 2)
    assert dense.n == 2


def test_visdial_losses_rank_like_ranks(tmp_path: Path) -> None:
    losses = [
        {"image_id": i, "round_id": r, "losses": [0.1 * rank for rank in row]}
        for (i, r), row in RANKS.items()
    ]
    by_losses = score_visdial(losses, tmp_path, dense=True).to_json()
    by_ranks = score_visdial(rankings(RANKS), tmp_path, dense=True).to_json()
    assert by_losses["metrics"] == pytest.approx(by_ranks["metrics"])
    items = BENCHMARKS["visdial"].read_files([tmp_path / "visdial_1.0_val.json"])
    from_losses = BENCHMARKS["visdial"].from_losses
    assert from_losses is not None
    perfect = {
        i.id: from_losses(i, [float(c != i.references[0]) for c in i.candidates]) for i in items
    }
    assert BENCHMARKS["visdial"].score(items, perfect).headline.value == 100.0


def test_visdial_a_text_is_first_or_last(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["visdial"]
    items = benchmark.read_files([write(tmp_path / "v.json", visdial())])
    texts = {"7/1": "Yes.", "7/2": "no", "8/1": "perhaps", "8/2": "two dogs"}
    result = benchmark.score(items, texts)
    assert result.per_item == {"7/1": 1.0, "7/2": 0.25, "8/1": 0.25, "8/2": 1.0}
    assert result.parse_failures == 1  # "perhaps" is none of the candidates
    assert "4 written answers" in result.notes[0]


def test_visdial_missing_rankings_are_worth_nothing_when_allowed(tmp_path: Path) -> None:
    some = rankings({(7, 1): RANKS[7, 1]})
    result = score_visdial(some, tmp_path, dense=True, allow_missing=True)
    assert result.headline.value == 25.0
    assert result.to_json()["metrics"]["R@5"] == 25.0
    with pytest.raises(DataError, match="no prediction for 3 ids"):
        score_visdial(some, tmp_path)


def test_visdial_prompts_tell_the_dialog_so_far(tmp_path: Path) -> None:
    items = BENCHMARKS["visdial"].read_files([write(tmp_path / "v.json", visdial())])
    assert items[1].prompt == (
        "Dialog about the image: a cat on a mat. is it a cat? yes.\n"
        "Question: what colour is it?\nShort answer:"
    )
    assert items[1].image == "VisualDialog_val2018/VisualDialog_val2018_000000000007.jpg"
    assert [item.id for item in items] == ["7/1", "7/2", "8/1", "8/2"]


def test_visdial_baseline_ranks_by_frequency(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["visdial"]
    items = benchmark.read_files([write(tmp_path / "v.json", visdial())])
    constant = benchmark.constant(items, [items[3], items[3], items[2]], "shikra")
    result = benchmark.score(items, dict(zip([i.id for i in items], constant, strict=True)))
    assert result.to_json()["metrics"]["mean_rank"] == pytest.approx((3 + 4 + 2 + 1) / 4)


def test_visdial_files_are_found(tmp_path: Path) -> None:
    write(tmp_path / "visdial_1.0_val.json", visdial())
    for image in (7, 8):
        folder = tmp_path / "images" / "VisualDialog_val2018"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"VisualDialog_val2018_{image:012d}.jpg").touch()
    benchmark = BENCHMARKS["visdial"]
    assert len(benchmark.items(tmp_path, "val")) == 4
    write(tmp_path / "visdial_1.0_val_dense_annotations.json", DENSE)
    items = benchmark.items(tmp_path, "val")
    assert [item.meta["relevance"] is not None for item in items] == [False, True, True, False]


def changed(change: Any) -> dict[str, Any]:
    content = visdial()
    change(content["data"])
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "data: expected an object with 'data'"),
        ({"data": {"questions": [], "answers": [], "dialogs": []}}, "holds no rounds"),
        (
            changed(lambda d: d["dialogs"][1]["dialog"][0].pop("gt_index")),
            r"entry 2: data.dialogs\[1\].dialog\[0\].gt_index: is missing.*test files have none",
        ),
        (
            changed(lambda d: d["dialogs"][0]["dialog"][0].update(gt_index=4)),
            "gt_index: expected a place from 0 to 3, got 4",
        ),
        (
            changed(lambda d: d["dialogs"][0]["dialog"][0].update(question=9)),
            "question: expected a place from 0 to 2, got 9",
        ),
        (
            changed(lambda d: d["dialogs"][0]["dialog"][0].update(answer_options=[0, 99])),
            "answer_options: expected a place",
        ),
        (changed(lambda d: d.update(answers=[1])), "answers: expected a list of texts"),
    ],
)
def test_visdial_broken_dialogs_are_named(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        BENCHMARKS["visdial"].read_files([write(tmp_path / "v.json", content)])


def test_visdial_relevances_must_fit_the_candidates(tmp_path: Path) -> None:
    paths = [write(tmp_path / "v.json", visdial())]
    short = write(tmp_path / "d.json", [DENSE[0] | {"gt_relevance": [1.0]}])
    with pytest.raises(DataError, match="4 candidates, but 1 relevances of 7/2"):
        BENCHMARKS["visdial"].read_files([*paths, short])
    wild = write(tmp_path / "d.json", [DENSE[0] | {"gt_relevance": [1.0, 0, 0, 7]}])
    with pytest.raises(DataError, match=r"entry 1: gt_relevance: expected numbers from 0 to 1"):
        BENCHMARKS["visdial"].read_files([*paths, wild])
    with pytest.raises(UsageError, match="perhaps dense annotations"):
        BENCHMARKS["visdial"].read_files([*paths, wild, wild])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ranks": [1, 2, 2, 4]}, r"results.json, entry 1: ranks: expected each rank from 1 once"),
        ({"ranks": [0, 1, 2, 3]}, "expected each rank from 1 once"),
        ({"ranks": [1, 2, True, 4]}, "expected each rank from 1 once"),
        ({"ranks": [1, 2, 3]}, "4 candidates for '7/1', but 3 are ranked"),
        ({"ranks": "1 2 3 4"}, "ranks: expected the rank of each candidate"),
        ({"losses": [1, 2]}, "4 candidates for '7/1', but 2 are ranked"),
        ({"round_id": "1", "ranks": [1, 2, 3, 4]}, "round_id: expected a whole number"),
        ({"round_id": 11, "ranks": [1, 2, 3, 4]}, "unknown ids: '7/11'"),
    ],
)
def test_visdial_broken_rankings_are_named(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    results = [{"image_id": 7, "round_id": 1, **row}]
    with pytest.raises(DataError, match=message):
        score_visdial(results, tmp_path, allow_missing=True)


def test_visdial_a_round_is_ranked_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results.json, entry 5: round_id: '7/1' occurs twice"):
        score_visdial([*rankings(RANKS), *rankings(RANKS)[:1]], tmp_path)
