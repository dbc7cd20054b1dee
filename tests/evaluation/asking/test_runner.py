"""Runs over a small world: files written, baselines, resuming after a kill, and the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from manyeyes.errors import UsageError, WriteError
from manyeyes.evaluation.answers.predictions import AnswerStore, item_key, write_rows
from manyeyes.evaluation.asking.choice_modes import cut_answer
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.tables.table import format_table
from oracles import WORLD_BENCHMARKS, Oracle

NAMES = sorted(WORLD_BENCHMARKS)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_benchmark_in_one_run(world: Path, tmp_path: Path) -> None:
    results = evaluate(Oracle(), NAMES, world, "val", tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    for name in NAMES:
        entry = results["benchmarks"][name]
        metric = entry["metric"]
        model, blind = entry["model"]["metrics"][metric], entry["text_only"]["metrics"][metric]
        assert model > entry["majority"]["metrics"][metric]
        assert model > blind
        assert entry["majority"]["source"] == "train split"
        assert entry["prompt"] == BENCHMARKS[name].prompt
        assert all(len(digest) == 64 for digest in entry["files"].values())
        assert len(rows(tmp_path / f"predictions-{name}.jsonl")) == entry["n"]
        assert len(rows(tmp_path / f"predictions-{name}.text-only.jsonl")) == entry["n"]
    assert results["environment"]["torch"] and results["seeds"] == {"bootstrap": 0}
    assert not list(tmp_path.glob("*partial*")) and not list(tmp_path.glob(".*"))


def test_rows_hold_what_was_asked_answered_and_expected(world: Path, tmp_path: Path) -> None:
    evaluate(Oracle(), ["vqa", "rec"], world, "val", tmp_path, limit=4, text_only=False)
    row = rows(tmp_path / "predictions-vqa.jsonl")[0]
    assert row["raw"] == f" {row['prediction']}\nmore"
    assert row["references"] == [row["prediction"]] * 10
    assert row["score"] == 1.0
    assert (world / row["image"]).is_file()
    assert set(row["groups"]) == {"question_type", "answer_type"}
    assert len(rows(tmp_path / "predictions-rec.jsonl")[0]["target"]) == 4


def test_equal_questions_are_asked_once(world: Path, tmp_path: Path) -> None:
    oracle = Oracle()
    results = evaluate(oracle, ["vqa", "exact", "caption"], world, "val", tmp_path)
    n = {name: entry["n"] for name, entry in results["benchmarks"].items()}
    shown = [identity for identity, with_images in oracle.asked if with_images]
    blind = [identity for identity, with_images in oracle.asked if not with_images]
    assert len(shown) == n["vqa"] + n["caption"]
    prompts = {row["prompt"] for row in rows(tmp_path / "predictions-vqa.jsonl")}
    assert len(blind) == len(prompts) + 1


def test_a_killed_run_continues_where_it_stopped(world: Path, tmp_path: Path) -> None:
    whole = evaluate(Oracle(), ["vqa"], world, "val", tmp_path / "whole", chunk=8)
    killed = Oracle(answers_until_killed=20)
    with pytest.raises(KeyboardInterrupt):
        evaluate(killed, ["vqa"], world, "val", tmp_path / "killed", chunk=8)
    partial = tmp_path / "killed" / "answers.partial.jsonl"
    assert len(rows(partial)) == len(killed.asked) > 0
    with partial.open("a") as stream:
        stream.write('{"key": "torn')
    resumed = Oracle()
    again = evaluate(resumed, ["vqa"], world, "val", tmp_path / "killed", chunk=8)
    assert not set(killed.asked) & set(resumed.asked)
    assert again["benchmarks"] == whole["benchmarks"]
    for name in ("predictions-vqa.jsonl", "predictions-vqa.text-only.jsonl"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_finished_run_is_reused_only_by_the_same_model(world: Path, tmp_path: Path) -> None:
    evaluate(Oracle(), ["vqa"], world, "val", tmp_path)
    same, other = Oracle(), Oracle("another")
    evaluate(same, ["vqa"], world, "val", tmp_path)
    assert same.asked == []
    results = evaluate(other, ["vqa"], world, "val", tmp_path, text_only=False)
    assert len(other.asked) == results["benchmarks"]["vqa"]["n"]


def test_keys_change_with_prompt_image_and_model(world: Path) -> None:
    first, second = BENCHMARKS["caption"].items(world, "val", limit=2)
    (reworded,) = BENCHMARKS["caption"].items(world, "val", limit=1, prompt="What is here?")
    keys = {
        item_key(item, fingerprint=model, with_images=shown)
        for item in (first, second, reworded)
        for model in "ab"
        for shown in (True, False)
    }
    assert len(keys) == 3 * 2 + 2 * 2  # without the image, first and second are the same question


def test_variants_and_prompts_are_recorded(world: Path, tmp_path: Path) -> None:
    results = evaluate(
        Oracle(),
        ["rec", "vqa"],
        world,
        "val",
        tmp_path,
        variants={"rec": "shikra"},
        prompts={"vqa": "{question} Answer briefly."},
        text_only=False,
    )
    assert results["benchmarks"]["rec"]["variant"] == "shikra"
    assert results["benchmarks"]["rec"]["model"]["variant"] == "shikra"
    assert results["benchmarks"]["vqa"]["prompt"] == "{question} Answer briefly."
    assert results["benchmarks"]["vqa"]["text_only"] is None


def test_progress_counts_up_to_the_number_of_questions(world: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def note(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))

    evaluate(Oracle(), ["caption"], world, "val", tmp_path, progress=note, chunk=4)
    assert [done for what, done, _ in seen if what == "caption"] == [0, 4, 8, 10]
    assert seen[-1] == ("caption (text only)", 1, 1)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "no benchmark"),
        (["pop"], {}, "did you mean 'pope'"),
        (["vqa"], {"variants": {"vqa": "m4"}}, "did you mean 'm4c'"),
        (["vqa"], {"variants": {"rec": "shikra"}}, "'rec', which is not evaluated"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(
    names: list[str], options: dict[str, Any], message: str, world: Path, tmp_path: Path
) -> None:
    oracle = Oracle()
    with pytest.raises(UsageError, match=message):
        evaluate(oracle, names, world, "val", tmp_path, **options)
    assert oracle.asked == []


def test_an_output_folder_that_cannot_be_written_is_named(world: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WriteError, match=r"file: cannot be written"):
        evaluate(Oracle(), ["vqa"], world, "val", blocked, limit=1)
    with pytest.raises(WriteError, match="cannot be written"):
        write_rows(blocked / "predictions.jsonl", [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.partial.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(WriteError, match=r"answers\.partial\.jsonl: .* the disk is full \(No space"),
        AnswerStore(tmp_path) as store,
    ):
        store.add({"key": "answer"})


@pytest.mark.parametrize(
    ("raw", "kind", "expected"),
    [
        (" red \nblue", "short", "red"),
        ("[0,0,1,1]\n", "boxes", "[0,0,1,1]"),
        (" A dog.\nA cat. ", "caption", "A dog.\nA cat."),
        ("", "short", ""),
    ],
)
def test_answers_are_stripped_and_short_ones_end_at_a_newline(
    raw: str, kind: Any, expected: str
) -> None:
    assert cut_answer(raw, kind) == expected


def test_table_shows_scores_beside_their_baselines(world: Path, tmp_path: Path) -> None:
    results = evaluate(
        Oracle(), ["rec", "caption"], world, "val", tmp_path, variants={"rec": "shikra"}
    )
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(format_table(results))
    text = console.export_text()
    low, high = results["benchmarks"]["rec"]["model"]["ci95"]["accuracy"]
    assert 0 < low < high == 100.0
    assert "accuracy (shikra)" in text and f"100.0 [{low:.1f}, 100.0]" in text
    majority = results["benchmarks"]["rec"]["majority"]["metrics"]["accuracy"]
    assert f"{majority:.1f}" in text
    assert "BLEU-4" not in text and "train split" in text
    console.file.close()
    detailed = format_table(results, details=True)
    assert detailed.row_count == 2 + 6


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results.json", '{"recipe": "tiny", "stages": []}'),
        ("results.json", "mine"),
        ("predictions-vqa.jsonl", '{"question_id": 1, "answer": "red"}\n'),
        ("predictions-vqa.text-only.jsonl", "mine"),
    ],
)
def test_files_of_somebody_else_are_not_replaced(
    name: str, text: str, world: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"{name} would be replaced, but this command has not"):
        evaluate(Oracle(), ["vqa"], world, "val", tmp_path, limit=2)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == text
