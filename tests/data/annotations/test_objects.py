"""Files of objects: detections and annotations, by image."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from manyeyes.conversation.rendering import write_boxes
from manyeyes.data.annotations.image_names import images_of, images_under
from manyeyes.data.annotations.objects import (
    ImageObjects,
    ObjectTable,
    check_object_file,
    read_object_table,
    with_objects,
    write_objects,
)
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import read_samples
from manyeyes.data.mixture import fingerprint
from manyeyes.errors import DataError, UsageError
from manyeyes.perception.text import parse_objects
from manyeyes.records import Detection, Sample, Turn

CAT = Detection("cat", (1.0, 2.0, 5.0, 8.0), 0.75)
DOG = Detection("dog", (0.0, 0.0, 3.5, 4.25), 0.5)
IDS = {"cat": 3, "dog": "d"}


def written(folder: Path) -> Path:
    entries = [
        ImageObjects("a.png", 1, (10, 10), (CAT, DOG)),
        ImageObjects("sub/b.png", 2, (10, 10), (DOG,)),
        ImageObjects("c.png", "x", (10, 10), ()),
    ]
    write_objects(folder / "objects.json", entries, IDS)
    return folder / "objects.json"


def changed(path: Path, **change: Any) -> Path:
    content = json.loads(path.read_text())
    content["annotations"][1].update(change)
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = read_object_table(written(tmp_path), tmp_path / "images")
    root = str(tmp_path / "images")
    assert dict(table) == {
        f"{root}/a.png": (CAT, DOG),
        f"{root}/sub/b.png": (DOG,),
        f"{root}/c.png": (),
    }
    samples = with_objects([Sample("s", (f"{root}/c.png", f"{root}/a.png"), ())], table)
    assert samples[0].objects == ((), (CAT, DOG))
    assert with_objects([Sample("t", (), ())], table)[0].objects == ()
    with pytest.raises(DataError, match=r"objects.json: holds no objects of image 'z.png'"):
        with_objects([Sample("s", ("z.png",), ())], table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["images"][1].update(file_name="./a.png"),
            r", entry 2: images\[1\].file_name: .*twice",
        ),
        (lambda c: c["categories"][1].update(id=3), r", entry 2: categories\[1\].id: .* 3 again"),
    ],
)
def test_what_is_there_twice_is_an_error(tmp_path: Path, change: Any, message: str) -> None:
    path = written(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_object_table(path, tmp_path)
    report = check_object_file(path, tmp_path)
    assert report.broken >= 1 and re.search(message, str(report.errors[0]))


def test_objects_of_others_or_of_nobody(tmp_path: Path) -> None:
    table = read_object_table(written(tmp_path), tmp_path)
    shuffled = table.used_as("shuffled", 0)
    assert sorted(map(len, shuffled.values())) == [0, 1, 2]
    assert all(shuffled[path] != table[path] for path in table)
    assert shuffled == table.used_as("shuffled", 0)
    assert set(table.used_as("empty", 0).values()) == {()}
    assert table.used_as("given", 0) is table
    lonely = ObjectTable({"a.png": (CAT,)}, "one.json")
    with pytest.raises(UsageError, match=r"one.json: what belongs to one image cannot be shuffled"):
        lonely.used_as("shuffled", 0)
    assert lonely["./x/../a.png"] == (CAT,)


def test_objects_count_in_the_fingerprint_of_samples() -> None:
    bare = Sample("s", ("a",), (Turn("user", "hi"),))
    seen = [Sample("s", ("a",), bare.turns, objects=found) for found in (((CAT,),), ((),))]
    assert len({fingerprint([sample]) for sample in (bare, *seen)}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 1.5}, r"annotations\[1\].score: expected a number in 0..1, got 1.5"),
        ({"score": "high"}, r"annotations\[1\].score: expected a number"),
        ({"bbox": [0, 0, -1, 2]}, r"annotations\[1\].bbox: expected \[x, y, width, height\]"),
        ({"image_id": 77}, r"annotations\[1\].image_id: expected the id of one of 'images'"),
        ({"category_id": 8}, r"annotations\[1\].category_id: expected the id of one"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_object_table(changed(written(tmp_path), **change), tmp_path)


def test_a_file_is_checked_without_stopping(tmp_path: Path) -> None:
    good = check_object_file(written(tmp_path), tmp_path)
    assert (good.format, good.samples, good.broken) == ("objects", 3, 0)
    bad = check_object_file(changed(written(tmp_path), score=2), tmp_path)
    assert (bad.samples, bad.broken) == (2, 1) and "score" in str(bad.errors[0])
    missing = check_object_file(tmp_path / "x.json", tmp_path)
    assert missing.broken == 1


def test_crowds_are_left_out(tmp_path: Path) -> None:
    table = read_object_table(changed(written(tmp_path), iscrowd=1), tmp_path)
    assert table[str(tmp_path / "a.png")] == (CAT,)


def test_refinement_rows_ask_for_the_truth_in_the_form_of_the_text(tmp_path: Path) -> None:
    options = SourceOptions(str(tmp_path), refine=True)
    samples, _ = read_samples(written(tmp_path), options=options)
    assert [s.task for s in samples] == ["refinement"] * 3
    (asked, answer) = samples[0].turns
    assert asked.text == "<image>\nCorrect and complete the detected objects."
    text = write_boxes(answer, [(10, 10)], "int1000").text
    parsed = parse_objects(text, style="int1000", width=10, height=10)
    assert [o.label for o in parsed.objects] == ["cat", "dog"] and parsed.malformed == ()
    assert all(o.score is None for o in parsed.objects)
    assert samples[2].turns[1].text == "none"


def test_images_are_named_by_their_folder_or_their_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "sub/a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [i.name for i in images_under([tmp_path, tmp_path / "b.png"])] == [
        "b.png",
        "sub/a.JPG",
        "b.png",
    ]
    with pytest.raises(UsageError, match="no such image or folder"):
        images_under([tmp_path / "x.png"])
    found = images_of(written(tmp_path), tmp_path / "pictures")
    assert [(i.name, i.id) for i in found] == [("a.png", 1), ("sub/b.png", 2), ("c.png", "x")]
    rows = [{"image": "a.png", "caption": "A cat."}, {"image": "a.png", "caption": "A dog."}]
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    (only,) = images_of(tmp_path / "captions.json", tmp_path)
    assert (only.path, only.name, only.id) == (str(tmp_path / "a.png"), "a.png", "a.png")
