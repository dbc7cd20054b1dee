"""Probing labelled pictures: the tasks that labels allow, the rows, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from cli_runs import invoke, the_object
from manyeyes.errors import CheckpointError, DataError, UsageError
from manyeyes.images.reading import image_size
from manyeyes.study.pages.heatmap import Column, heatmap, markdown, strength
from manyeyes.study.probing.data import Labelled, Thing, make_tasks, read_labels, split
from manyeyes.study.probing.features import Reading, ReadLevel, open_eyes, read_levels, rows
from manyeyes.study.probing.probe import (
    Figure,
    Gain,
    ProbedRow,
    ProbeStudy,
    run_probes,
    write_probes,
)
from manyeyes.world.make import make_world

CPU = torch.device("cpu")
ORPHAN = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 2]}],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    images = {"train": 16, "test": 10}
    make_world(folder, images=images, seed=0, formats=("scenes", "coco-instances"))
    return folder


def things(*entries: tuple[str, tuple[float, float, float, float]]) -> tuple[Thing, ...]:
    return tuple(Thing(box, {"category": name}) for name, box in entries)


def test_scene_files_give_classes_boxes_and_what_lies_in_front(world: Path) -> None:
    path = world / "scenes" / "train.json"
    scenes = json.loads(path.read_text())["scenes"]
    labelled = read_labels(path)
    assert len(labelled) == 16
    for scene, entry in zip(scenes, labelled, strict=True):
        assert image_size(entry.image) == entry.size
        marks = [thing.classes["mark"] for thing in entry.things]
        assert marks == [item["mark"] for item in scene["objects"]]
        for place, thing in enumerate(entry.things):
            assert all(other < place for other in thing.covers), "later things lie in front"


def test_instances_give_the_same_boxes_as_scenes(world: Path) -> None:
    scenes = read_labels(world / "scenes" / "train.json")
    instances = read_labels(world / "annotations" / "instances_train.json", world / "images")
    for one, other in zip(scenes, instances, strict=True):
        assert (one.image, one.size) == (other.image, other.size)
        assert sorted(t.box for t in one.things) == sorted(t.box for t in other.things)
        shapes = sorted(t.classes["shape"] for t in one.things)
        assert shapes == sorted(t.classes["category"] for t in other.things)


def test_tasks_that_labels_do_not_allow_are_left_out_with_the_reason(world: Path) -> None:
    scenes = [read_labels(world / "scenes" / f"{name}.json") for name in ("train", "test")]
    found = make_tasks(*scenes)
    names = {task.name for task in found.tasks}
    assert {"presence", "count", "shape", "mark", "box", "texture", "color"} <= names
    assert set(found.skipped) >= {"category", "text"}
    instances = read_labels(world / "annotations" / "instances_train.json", world / "images")
    found = make_tasks(instances[:10], instances[10:])
    assert {task.name for task in found.tasks} == {"presence", "count", "category", "box"}
    assert found.skipped["mark"] == "needs a scene file of the world"


def test_text_presence_comes_from_a_category_of_that_name() -> None:
    box = (0.0, 0.0, 4.0, 4.0)
    train = [
        Labelled("a.png", (8, 8), things(("text", box), ("cat", box))),
        Labelled("b.png", (8, 8), things(("cat", box))),
    ]
    (task,) = make_tasks(train, train, only=["text"]).tasks
    assert task.held.answer.tolist() == [1, 0]


def test_boxes_are_those_of_the_picture_as_encoders_see_it() -> None:
    """A wide picture is padded above and below."""
    entry = Labelled("a.png", (20, 10), things(("cat", (10.0, 0.0, 20.0, 10.0))))
    (task,) = make_tasks([entry], [entry], geometry="pad", only=["box"]).tasks
    assert task.held.answer[0].tolist() == pytest.approx([0.75, 0.5, 0.5, 0.5], abs=1e-2)
    (task,) = make_tasks([entry], [entry], geometry="squash", only=["box"]).tasks
    assert task.held.answer[0].tolist() == pytest.approx([0.75, 0.5, 0.5, 1.0], abs=1e-2)


def test_presence_asks_for_as_many_absent_classes_as_present_ones(world: Path) -> None:
    labelled = read_labels(world / "scenes" / "train.json")
    (task,) = make_tasks(labelled, labelled, only=["presence"]).tasks
    for picture in task.held.picture.unique():
        answers = task.held.answer[task.held.picture == picture]
        assert float(answers.float().mean()) == 0.5


def test_depth_asks_both_ways_round(world: Path) -> None:
    box, behind = (0.0, 0.0, 6.0, 6.0), (2.0, 2.0, 8.0, 8.0)
    pair = (Thing(behind, {"shape": "a"}), Thing(box, {"shape": "b"}, covers=(0,)))
    train = [Labelled(f"{number}.png", (8, 8), pair) for number in range(40)]
    (task,) = make_tasks(train, train, only=["depth"]).tasks
    assert set(task.held.answer.tolist()) == {0, 1}
    first = task.held.place[:, 0, 0]
    assert torch.equal(first < task.held.place[:, 1, 0], task.held.answer.bool())


def test_one_file_is_divided_by_name_alone() -> None:
    labelled = [Labelled(f"{number}.png", (8, 8), ()) for number in range(200)]
    train, held = split(labelled)
    assert 60 <= len(held) <= 100 and len(train) + len(held) == 200
    again = split([Labelled(f"/elsewhere/{e.image}", e.size, ()) for e in labelled])
    assert [Path(e.image).name for e in again[1]] == [e.image for e in held]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        (json.dumps({"scenes": [{"objects": []}]}), "expected a scene of the world"),
        (json.dumps(ORPHAN), "image_id: expected the id of one of 'images'"),
    ],
)
def test_broken_label_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_impossible_requests_are_refused() -> None:
    entry = Labelled("a.png", (8, 8), ())
    with pytest.raises(UsageError, match=r"got 0 and 1; give more"):
        make_tasks([], [entry])
    with pytest.raises(UsageError, match="unknown task 'mraks'; known: presence"):
        make_tasks([entry], [entry], only=["mraks"])
    with pytest.raises(UsageError, match=r"these labels allow no task \(mark: needs a scene file"):
        make_tasks([entry], [entry], only=["mark"])


def pictures(folder: Path, count: int) -> list[str]:
    tiny.save_data(folder, samples=count)
    return [str(folder / f"{number}.png") for number in range(count)]


def test_levels_are_those_of_the_encoder_however_many_fit(parts: Path, tmp_path: Path) -> None:
    (eye,), geometry = open_eyes([f"clip={parts / 'clip'}"])
    images = pictures(tmp_path, 3)
    whole = read_levels(eye, eye.encoder, images, [1, 2, 3], Reading(geometry, CPU))
    assert [level.shape for level in whole] == [(3, 16, 16)] * 3
    small = Reading(geometry, CPU, memory_gb=1e-9)
    assert small.levels_at_once(eye, 6) == 1
    assert Reading(geometry, CPU, memory_gb=2 * 4 * 6 * 16 * 16 / 1e9).levels_at_once(eye, 6) == 2
    found = list(rows([eye], images, images, small, lambda *_: None))
    for row, level in zip(found, whole, strict=False):
        assert row.level is not None and torch.equal(row.train, level)
    coarse = read_levels(eye, eye.encoder, images, [3], Reading(geometry, CPU, grid=2))[0]
    blocks = whole[2].reshape(3, 2, 2, 2, 2, 16).mean(dim=(2, 4)).flatten(1, 2)
    assert torch.allclose(coarse, blocks, atol=1e-5)


def test_controls_stand_beside_every_encoder(parts: Path, tmp_path: Path) -> None:
    eyes, geometry = open_eyes([f"clip={parts / 'clip'}", f"dinov2={parts / 'dinov2'}"])
    images = pictures(tmp_path, 2)
    found: dict[str, ReadLevel] = {
        row.name: row for row in rows(eyes, images, images, Reading(geometry, CPU), lambda *_: None)
    }
    assert list(found) == [
        *("clip 1", "clip 2", "clip 3", "clip 1 + 3", "clip 3, random weights", "clip, raw pixels"),
        *(f"dinov2 {level}" for level in range(1, 5)),
        *("dinov2 2 + 4", "dinov2 4, random weights", "dinov2, raw pixels"),
        "clip 3 + dinov2 4",
    ]
    pair, control = found["clip 3 + dinov2 4"], found["clip 1 + 3"]
    assert pair.train.shape == control.train.shape == (2, 16, 32)
    assert torch.equal(pair.train[..., 16:], found["dinov2 4"].train)
    assert not torch.equal(found["clip 3, random weights"].train, found["clip 3"].train)
    pixels = found["clip, raw pixels"].train
    assert pixels.shape == (2, 16, 3 * 4 * 4)
    picture = Image.open(images[0]).convert("RGB").crop((4, 0, 8, 4))
    red = torch.from_numpy(np.array(picture))[..., 0].flatten() / 255
    mean, std = eyes[0].transform.mean[0], eyes[0].transform.std[0]
    assert torch.allclose(pixels[0, 1, :16], (red - mean) / std, atol=1e-5)


def test_grids_of_a_pair_are_brought_together(parts: Path, tmp_path: Path) -> None:
    eyes, geometry = open_eyes([f"clip={parts / 'clip'}", f"dinov2={parts / 'dinov2'}"])
    images = pictures(tmp_path, 2)
    eyes[1] = type(eyes[1])(
        **{**vars(eyes[1]), "transform": type(eyes[1].transform)((24, 24), *_rest(eyes[1]))}
    )
    *_, pair = rows(eyes, images, images, Reading(geometry, CPU), lambda *_: None)
    assert pair.train.shape == (2, 16, 32)


def _rest(eye: Any) -> tuple[Any, ...]:
    return eye.transform.mean, eye.transform.std, eye.transform.resample, eye.transform.bgr


def test_sources_that_cannot_be_probed(parts: Path) -> None:
    clip = f"clip={parts / 'clip'}"
    with pytest.raises(UsageError, match="two encoders are called the same: clip, clip"):
        open_eyes([clip, clip])
    with pytest.raises(CheckpointError, match="no such folder"):
        open_eyes(["clip=nowhere/at/all"])


def test_recipes_and_trained_models_give_their_encoders(
    build: Any, parts: Path, tmp_path: Path
) -> None:
    model, processor = build(geometry="squash")
    with torch.no_grad():
        for parameter in model.encoders["clip"].parameters():
            parameter.add_(0.1)
    model.mark_trained(f"encoders.clip.{n}" for n, _ in model.encoders["clip"].named_parameters())
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    eyes, geometry = open_eyes([str(tmp_path / "model")])
    assert geometry == "squash" and [eye.name for eye in eyes] == ["clip", "dinov2"]
    own = model.encoders["clip"].backbone.state_dict()
    assert all(torch.equal(own[k], v) for k, v in eyes[0].encoder.backbone.state_dict().items())


def study(difference: float, p: float) -> ProbeStudy:
    figure = Figure(50.0, (40.0, 60.0), 9, 3)
    row = ProbedRow("a <1>", "level", "a", 1, {"count": {"linear": figure}})
    interval = (difference - 1, difference + 1)
    gain = Gain("a 1 + b 2", "a 1 + 2", "count", "linear", difference, interval, p)
    tasks = {"count": {"title": "how many?"}}
    return ProbeStudy((row,), tasks, {"count": figure}, (gain,), {}, ("linear",), 1)


@pytest.mark.parametrize(
    ("difference", "p", "said"),
    [(3.0, 0.01, True), (3.0, 0.2, False), (0.5, 0.01, False), (-3.0, 0.01, False)],
)
def test_a_pair_is_said_to_help_only_beyond_chance(
    difference: float, p: float, said: bool, tmp_path: Path
) -> None:
    write_probes(study(difference, p), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert ("a 1 + b 2 beats a 1 + 2 on count (linear probe) by 3.0 points" in text) == said
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["gains"][0]["helps"] == said
    page = (tmp_path / "heatmap.html").read_text()
    assert "a &lt;1&gt;" in page and "http" not in page


def test_colours_and_bold_figures_follow_the_columns() -> None:
    cells = {"linear": {"one": {"count": 30.0}, "two": {"count": 50.0}}}
    columns = [Column("count", "how many?", 20.0, 7)]
    text = markdown(cells, columns, [])
    assert "| one | 30.0 |" in text and "| two | **50.0** |" in text
    assert "| *best constant answer* | 20.0 |" in text and "| *held-out items* | 7 |" in text
    assert heatmap(cells, columns, []).count("class='best'") == 1
    assert [strength(v, 20.0, 50.0) for v in (10.0, 35.0, 50.0)] == [0.0, 0.5, 1.0]
    assert strength(20.0, 20.0, 20.0) == 0.0


def test_figures_are_means_over_fits_with_intervals_by_picture(
    parts: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = [read_labels(world / "scenes" / f"{name}.json") for name in ("train", "test")]
    data = make_tasks(*labelled, only=["shape"])
    eyes, geometry = open_eyes([f"clip={parts / 'clip'}"])

    def fake(task: Any, train: Any, held: Any, seed: int) -> torch.Tensor:
        return torch.full((len(task.held),), float(seed))

    monkeypatch.setitem(
        __import__("manyeyes.study.probing.probe", fromlist=["x"]).PROBES, "linear", fake
    )
    found = run_probes(eyes, data, Reading(geometry, CPU), probes=["linear"], seeds=2)
    figure = found.rows[0].figures["shape"]["linear"]
    assert figure.value == 50.0 and figure.pictures == 10
    assert figure.n == sum(len(entry.things) for entry in labelled[1])
    assert found.facts["pictures"] == {"train": 16, "held": 10}


def test_the_command_writes_table_map_and_results(parts: Path, world: Path, tmp_path: Path) -> None:
    words = ["--data", world, "--out", tmp_path / "out", "--task", "count", "--task", "mark"]
    result = invoke("probe", f"clip={parts / 'clip'}", *words, "--probe", "linear", "--json")
    assert result.exit_code == 0, result.stderr
    report = the_object(result)
    assert [row["name"] for row in report["rows"]][:3] == ["clip 1", "clip 2", "clip 3"]
    assert set(report["tasks"]) == {"count", "mark"}
    for name in ("results.json", "table.md", "heatmap.html"):
        assert (tmp_path / "out" / name).is_file()
    bad = invoke("probe", f"clip={parts / 'clip'}", *words, "--probe", "linaer", "--json")
    assert bad.exit_code == 2 and "unknown probe 'linaer'" in the_object(bad)["error"]["message"]
    nowhere = invoke("probe", f"clip={parts / 'clip'}", "--data", tmp_path, "--out", tmp_path / "x")
    assert nowhere.exit_code == 2 and "name a label file instead" in nowhere.stderr
