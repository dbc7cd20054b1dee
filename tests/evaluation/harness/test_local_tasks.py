"""Benchmarks as task files of a harness: what is written, and that scores stay what they are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cli_runs import invoke, the_object
from manyeyes.errors import DataError, UsageError, WriteError
from manyeyes.evaluation.benchmarks import BENCHMARKS, get_benchmark
from manyeyes.evaluation.harness import item_json, task_functions
from manyeyes.evaluation.harness.local_tasks import write_task
from manyeyes.inference.questions import Item
from oracles import WORLD_BENCHMARKS, true_answer

pytest.importorskip("datasets")


class Tags(yaml.SafeLoader):
    """Reads ``!function NAME`` as the name."""


Tags.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def documents(folder: Path, split: str = "val") -> list[dict[str, Any]]:
    from datasets import load_dataset

    files = {split: str(folder / f"{split}.parquet")}
    found = load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))[split]
    return [dict(row) for row in found]


def scored(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, float]:
    """Metrics as a harness computes them: per document, then over all."""
    results = [
        task_functions.process_results(row, [answer])
        for row, answer in zip(rows, answers, strict=True)
    ]
    return {name: task_functions.aggregate([r[name] for r in results]) for name in results[0]}


@pytest.mark.parametrize("name", sorted(WORLD_BENCHMARKS))
def test_scores_equal_those_of_the_benchmark(world: Path, tmp_path: Path, name: str) -> None:
    """Right answers with more text after a newline, and every third one wrong."""
    task = write_task(name, world, "val", tmp_path, limit=12)
    rows = documents(tmp_path / task)
    benchmark = get_benchmark(name)
    items = benchmark.items(world, "val", limit=12)
    answers = [true_answer(item) if i % 3 else "no idea" for i, item in enumerate(items)]
    expected = benchmark.score(items, {i.id: a for i, a in zip(items, answers, strict=True)})
    found = scored(rows, [answer if i % 2 else answer + " " for i, answer in enumerate(answers)])
    assert found.pop("parse_failures") == expected.parse_failures
    assert found == {score.metric: score.value for score in expected.scores}
    assert [row["id"] for row in rows] == [item.id for item in items]
    assert [row["cluster"] for row in rows] == [item.cluster for item in items]


def test_a_document_holds_picture_question_and_target(world: Path, tmp_path: Path) -> None:
    write_task("vqa", world, "val", tmp_path, limit=3)
    row = documents(tmp_path / "manyeyes_vqa")[0]
    item = get_benchmark("vqa").items(world, "val", limit=3)[0]
    assert row["question"] == item.prompt
    assert item.references[0] in row["target"].split(" | ")
    (picture,) = task_functions.doc_to_visual(row)
    assert picture.tobytes() == Image.open(item.image).convert("RGB").tobytes()


def test_the_task_file_names_all_that_a_harness_asks_for(world: Path, tmp_path: Path) -> None:
    write_task("pope", world, "val", tmp_path, variant="strict", limit=6)
    folder = tmp_path / "manyeyes_pope_strict"
    task = yaml.load((folder / "manyeyes_pope_strict.yaml").read_text(), Loader=Tags)
    assert task["task"] == "manyeyes_pope_strict"
    assert task["dataset_kwargs"] == {"data_files": {"val": "val.parquet"}}
    assert task["test_split"] == "val" and task["cluster_key"] == "cluster"
    names = ["accuracy", "precision", "recall", "f1", "yes_ratio", "parse_failures"]
    assert [entry["metric"] for entry in task["metric_list"]] == names
    assert [entry["higher_is_better"] for entry in task["metric_list"]] == [True] * 5 + [False]
    functions = [
        task["doc_to_visual"],
        task["process_results"],
        task["metric_list"][0]["aggregation"],
    ]
    for function in functions:
        module, _, name = function.rpartition(".")
        assert module == task_functions.__name__ and callable(getattr(task_functions, name))
    assert task["generation_kwargs"]["until"] == []
    assert documents(folder)[0]["variant"] == "strict"


def test_standard_errors_get_values_of_mean_metrics_only(world: Path, tmp_path: Path) -> None:
    write_task("pope", world, "val", tmp_path, limit=4)
    entries = task_functions.process_results(documents(tmp_path / "manyeyes_pope")[0], ["yes"])
    assert entries["accuracy"]["score"] in (0.0, 100.0)
    assert "score" not in entries["f1"]


def test_boxes_in_questions_are_written_in_the_models_style(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = get_benchmark("exact")

    def read(paths: Sequence[Path], prompt: str) -> list[Item]:
        boxes = (((0.0, 0.0, 8.0, 8.0),),)
        return [
            replace(item, prompt="Is <boxes> red?", boxes=boxes)
            for item in exact.read(paths, prompt)
        ]

    monkeypatch.setitem(BENCHMARKS, "exact", replace(exact, read=read))  # type: ignore[arg-type]
    write_task("exact", world, "val", tmp_path, box_style="int1000", limit=2)
    question = documents(tmp_path / "manyeyes_exact")[0]["question"]
    assert question == "Is [0,0,166,166] red?"


def test_items_survive_as_text() -> None:
    item = Item(
        id="é",
        image="a.png",
        prompt="<boxes>?",
        references=("x", "y"),
        cluster="1",
        target=(0.5, 1.0, 2.0, 3.0),
        boxes=(((0.0, 0.0, 1.0, 1.0),), ()),
        size=(4, 5),
        groups={"type": "a"},
        meta={"set": frozenset({"b", "a"}), "deep": {"list": [1, None, (True, 2.5)]}},
    )
    assert item_json.from_text(item_json.to_text(item)) == item
    with pytest.raises(DataError, match=r"'é' holds a value of type \w*Path"):
        item_json.to_text(replace(item, meta={"path": Path("x")}))


def test_the_command_writes_tasks(world: Path, tmp_path: Path) -> None:
    words = ["convert", "tasks", "vqa", "pope", "--data", str(world), "--split", "val"]
    found = the_object(
        invoke(*words, "--variant", "vqa=m4c", "--out", str(tmp_path), "--limit", "2", "--json")
    )
    assert found["tasks"] == {"vqa": "manyeyes_vqa_m4c", "pope": "manyeyes_pope"}
    assert len(documents(tmp_path / "manyeyes_pope")) == 2


def test_what_cannot_be_written_is_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variant 'm5c'"):
        write_task("vqa", world, "val", tmp_path, variant="m5c")
    with pytest.raises(DataError, match="nosplit"):
        write_task("vqa", world, "nosplit", tmp_path)
    (tmp_path / "manyeyes_vqa").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        write_task("vqa", world, "val", tmp_path, limit=2)
    result = invoke("convert", "tasks", "vqa", "--data", str(world), "--out", str(tmp_path))
    assert result.exit_code == 1


def test_images_inside_containers_are_copied(world: Path, tmp_path: Path) -> None:
    from manyeyes.evaluation.harness.local_tasks import _image_bytes
    from manyeyes.records import PackedImage

    class Packed(PackedImage):
        def read(self) -> bytes:
            stream = io.BytesIO()
            Image.new("RGB", (2, 2), "red").save(stream, format="PNG")
            return stream.getvalue()

    assert Image.open(io.BytesIO(_image_bytes(Packed("tar/a.png")))).size == (2, 2)
