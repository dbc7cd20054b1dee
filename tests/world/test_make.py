"""A small world on disk: same seed, same bytes; never mixed; every file says what is true."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.errors import DataError, UsageError
from manyeyes.world.emit.refs import FAMILIES
from manyeyes.world.language.programs import Step, answer_text, execute
from manyeyes.world.make import check_world, make_world, read_manifest, split_counts
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import SHAPES, Scene
from manyeyes.world.splits import SPLITS

COUNTS = {"train": 12, "test": 10, "corner": 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "world"
    make_world(folder, images=COUNTS, seed=4)
    return folder


def load(folder: Path, name: str) -> Any:
    text = (folder / name).read_text(encoding="utf-8")
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def scene_of(file_name: str) -> Scene:
    split, _, number = file_name.removesuffix(".png").partition("/")
    return sample_scene(split, int(number), 4)


def test_equal_seeds_give_equal_bytes(world: Path, tmp_path: Path) -> None:
    again = make_world(tmp_path / "again", images=COUNTS, seed=4)
    first = {p.relative_to(world): p.read_bytes() for p in world.rglob("*") if p.is_file()}
    second = {p.relative_to(again.folder): p for p in again.folder.rglob("*") if p.is_file()}
    assert first.keys() == second.keys()
    assert all(second[name].read_bytes() == content for name, content in first.items())


def test_manifest_holds_the_hash_of_every_file(world: Path) -> None:
    files = {str(p.relative_to(world)) for p in world.rglob("*") if p.is_file()}
    assert set(read_manifest(world)["sha256"]) == files - {"world.json"}
    assert check_world(world) == []


def test_a_changed_file_is_named(world: Path, tmp_path: Path) -> None:
    folder = make_world(tmp_path / "small", images={"val": 1}, seed=0).folder
    (folder / "annotations/vsr_val.jsonl").write_text("changed", encoding="utf-8")
    (folder / "images/val/000000.png").unlink()
    changed = {"annotations/vsr_val.jsonl", "images/val/000000.png"}
    assert set(check_world(folder)) == changed


def test_a_finished_world_is_left_alone(world: Path) -> None:
    before = (world / "world.json").stat().st_mtime_ns
    summary = make_world(world, images=COUNTS, seed=4)
    assert not summary.made and summary.images == COUNTS
    assert (world / "world.json").stat().st_mtime_ns == before


def test_another_seed_or_size_is_refused(world: Path) -> None:
    with pytest.raises(UsageError, match="seed is 4, wanted 5"):
        make_world(world, images=COUNTS, seed=5)
    with pytest.raises(UsageError, match="images is"):
        make_world(world, images={**COUNTS, "train": 13}, seed=4)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a world"):
        make_world(tmp_path, images={"val": 1})
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_in_the_way_of_the_unfinished_world_is_left_alone(tmp_path: Path) -> None:
    partial = tmp_path / ".world.partial"
    partial.mkdir()
    (partial / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"\.world\.partial is in the way"):
        make_world(tmp_path / "world", images={"val": 1})
    assert (partial / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_pictures_that_were_cut_short_are_drawn_anew(tmp_path: Path) -> None:
    out = tmp_path / "world"

    def stop(what: str, done: int, total: int) -> None:
        if what == "annotations":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world(out, images={"val": 2}, seed=1, progress=stop)
    (tmp_path / ".world.partial/images/val/000001.png").write_bytes(b"")
    made = make_world(out, images={"val": 2}, seed=1)
    whole = make_world(tmp_path / "other", images={"val": 2}, seed=1)
    assert read_manifest(made.folder) == read_manifest(whole.folder)
    assert check_world(out) == [] and not list(tmp_path.glob(".*"))


def test_an_interrupted_run_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "world"

    def stop(what: str, done: int, total: int) -> None:
        if what == "annotations":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_world(out, images={"val": 3}, seed=1, progress=stop)
    assert not out.exists()
    picture = tmp_path / ".world.partial/images/val/000001.png"
    before = picture.stat().st_mtime_ns
    make_world(out, images={"val": 3}, seed=1)
    assert (out / "images/val/000001.png").stat().st_mtime_ns == before
    assert check_world(out) == []
    other = make_world(tmp_path / "other", images={"val": 3}, seed=1).folder
    assert read_manifest(out) == read_manifest(other)


def test_counts_from_a_total() -> None:
    assert split_counts(100, tuple(SPLITS)) == {
        "train": 80, "val": 5, "test": 5, "compositional": 5, "corner": 5,
    }  # fmt: skip
    assert split_counts(10, ("test",)) == {"test": 10}
    assert sum(split_counts(997, ("train", "test")).values()) == 997
    with pytest.raises(UsageError, match="at least one image"):
        split_counts({"val": 0}, ())
    with pytest.raises(UsageError, match="did you mean 'train'"):
        split_counts({"trian": 5}, ())


def test_a_missing_or_damaged_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is this a world"):
        read_manifest(tmp_path)
    (tmp_path / "world.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        read_manifest(tmp_path)
    (tmp_path / "world.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="hashes"):
        read_manifest(tmp_path)


def test_pictures_have_the_size_that_coco_says(world: Path) -> None:
    for split in COUNTS:
        for image in load(world, f"annotations/instances_{split}.json")["images"]:
            with Image.open(world / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
                assert picture.mode == "RGB"


def test_splits_share_no_image(world: Path) -> None:
    ids = [
        image["id"]
        for split in COUNTS
        for image in load(world, f"annotations/captions_{split}.json")["images"]
    ]
    assert len(ids) == len(set(ids)) == sum(COUNTS.values())


def test_instances_are_the_scenes_objects(world: Path) -> None:
    content = load(world, "annotations/instances_train.json")
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        scene = scene_of(names[annotation["image_id"]])
        item = scene.objects[annotation["id"] % 10]
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w, y + h) == item.box
        assert SHAPES[annotation["category_id"] - 1] == item.shape
        counts = annotation["segmentation"]["counts"]
        assert sum(counts[1::2]) == annotation["area"] == item.area
        assert sum(counts) == scene.width * scene.height


def test_five_captions_per_image(world: Path) -> None:
    content = load(world, "annotations/captions_test.json")
    assert len(content["annotations"]) == 5 * COUNTS["test"]
    assert len({a["id"] for a in content["annotations"]}) == 5 * COUNTS["test"]


def test_vqa_pairs_and_gqa_programs_agree(world: Path) -> None:
    asked = load(world, "annotations/vqa_test_questions.json")["questions"]
    answers = load(world, "annotations/vqa_test_annotations.json")["annotations"]
    programs = load(world, "annotations/gqa_test_questions.json")
    choices = load(world, "annotations/gqa_test_choices.json")
    assert len(asked) == len(answers) == len(programs) > 40
    for question, answer in zip(asked, answers, strict=True):
        assert question["question_id"] == answer["question_id"]
        assert {a["answer"] for a in answer["answers"]} == {answer["multiple_choice_answer"]}
        twin = programs[str(question["question_id"])]
        assert twin["question"] == question["question"]
        steps = tuple(
            Step(
                "scene" if s["operation"] == "select" else s["operation"].replace(" ", "_", 1),
                tuple(s["dependencies"]),
                "" if s["operation"] == "select" else s["argument"],
            )
            for s in twin["semantic"]
        )
        result = answer_text(execute(steps, scene_of(question["image"])))
        assert result == twin["answer"] == answer["multiple_choice_answer"]
        assert result in choices[str(question["question_id"])]["valid"]


def test_scene_graph_relations_are_those_of_the_scene(world: Path) -> None:
    graph = load(world, "annotations/gqa_test_scenegraphs.json")
    for name, content in graph.items():
        scene = scene_of(name)
        for position, item in content["objects"].items():
            for relation in item["relations"]:
                other = scene.objects[int(relation["object"])]
                subject = scene.objects[int(position)]
                if relation["name"] == "above":
                    assert subject.y < other.y
                if relation["name"] == "to the left of":
                    assert subject.x < other.x


def test_references_hold_the_box_and_match_the_pickle(world: Path) -> None:
    rows = load(world, "annotations/refs_test.jsonl")
    refs = pickle.loads((world / "annotations/refcoco/refs(unc).p").read_bytes())
    sentences = {s["sent_id"]: s["sent"] for ref in refs for s in ref["sentences"]}
    assert len(rows) > 20
    for row in rows:
        assert sentences[row["id"]] == row["expression"]
        item = scene_of(row["image"]).objects[row["ann_id"] % 10]
        assert row["bbox"][:2] == list(item.box[:2])
    assert {ref["split"] for ref in refs} == {*COUNTS, "testA", "testB"} - {"test"}
    shapes = {split: {r["category_id"] for r in refs if r["split"] == split} for split in FAMILIES}
    assert not shapes["testA"] & shapes["testB"]


def test_llava_conversations_place_images_and_boxes(world: Path) -> None:
    for name in ("llava/train.json", "llava/train_boxes.json", "llava/train_captions.json"):
        for record in load(world, name):
            values = [message["value"] for message in record["conversations"]]
            text = "".join(values)
            assert values[0].startswith("<image>\n") and text.count("<image>") == 1
            assert text.count("<boxes>") == len(record.get("boxes", []))
            roles = [message["from"] for message in record["conversations"]]
            assert roles == ["human", "gpt"] * (len(roles) // 2)
    turns = sum(len(r["conversations"]) // 2 for r in load(world, "llava/train.json"))
    assert 8 <= turns / COUNTS["train"] <= 10
    boxed = load(world, "llava/train_boxes.json")
    assert len(boxed) == COUNTS["train"]
    for record in boxed:
        assert len(record["boxes"]) == len(record["conversations"]) // 2
    asked = [m["value"] for r in boxed for m in r["conversations"] if m["from"] == "human"]
    assert 0 < sum("<boxes>" in text for text in asked) < len(asked) / 3


def test_pope_lines_alternate_and_vsr_lines_are_labelled(world: Path) -> None:
    rows = load(world, "annotations/pope_random_test.jsonl")
    assert [row["label"] for row in rows] == ["yes", "no"] * (len(rows) // 2)
    assert [row["question_id"] for row in rows] == list(range(1, len(rows) + 1))
    claims = load(world, "annotations/vsr_test.jsonl")
    assert {claim["label"] for claim in claims} == {0, 1}
    assert all(claim["relation"] in claim["caption"] for claim in claims)
