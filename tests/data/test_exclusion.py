"""Images of evaluation sets are recognised in training rows, whatever names them on either side."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import data_rows as good
from manyeyes.data.exclusion import read_exclusion
from manyeyes.data.files import check_file, read_samples
from manyeyes.errors import DataError
from manyeyes.records import Sample


def leak(path: Path | list[Path], image: str) -> str | None:
    paths = path if isinstance(path, list) else [path]
    return read_exclusion(paths).leak(Sample("s", (image,), ()))


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


COCO_42 = ("pics/val2014/COCO_val2014_000000000042.jpg", "x/train2017/000000000042.jpg")


@pytest.mark.parametrize(
    "content",
    [
        {"questions": [{"question_id": 1, "image_id": 42, "question": "?"}]},
        {"images": [{"id": 1, "file_name": "COCO_val2014_000000000042.jpg"}], "annotations": []},
        {"images": [{"filename": "x.jpg", "cocoid": 42, "split": "test", "sentences": []}]},
        [{"image": "000000000042.jpg", "caption": "The cat is on the mat.", "label": 1}],
        [{"question_id": 1, "image_id": 42, "choices": ["a", "b"], "split": "val"}],
        [{"image_id": "COCO_val2014_000000000042", "objects": [{"image_id": 7}]}],
    ],
)
@pytest.mark.parametrize("image", COCO_42)
def test_coco_images_in_any_layout(tmp_path: Path, content: Any, image: str) -> None:
    path = write(tmp_path / "test.json", content)
    assert leak(path, image) == f"s: {image} is COCO image 42 of {path}"
    assert leak(path, image.replace("42", "43")) is None


def test_pope_lines(tmp_path: Path) -> None:
    path = tmp_path / "coco_pope_random.json"
    row = {**good.POPE, "image": "COCO_val2014_000000000042.jpg"}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    assert leak(path, COCO_42[1]) is not None


def test_refcoco_keeps_its_training_images(tmp_path: Path) -> None:
    refs = [
        {
            "ref_id": number,
            "image_id": number,
            "split": split,
            "file_name": f"COCO_train2014_{number:012d}_5.jpg",
        }
        for number, split in ((42, "testA"), (43, "train"))
    ]
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs, protocol=2))
    assert "COCO image 42" in str(leak(path, COCO_42[0]))
    assert leak(path, "train2014/COCO_train2014_000000000043.jpg") is None


def test_karpathys_training_images_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_coco.json", good.KARPATHY)  # image 8 is restval
    assert leak(path, "val2014/COCO_val2014_000000000008.jpg") is None
    assert (
        leak(path, "flickr30k/flickr.jpg") == f"s: flickr30k/flickr.jpg is image 'flickr' of {path}"
    )


def test_visual_genome_by_image_data(tmp_path: Path) -> None:
    data = [
        {"image_id": 2345, "coco_id": 42, "url": "https://x/VG_100K/2345.jpg"},
        {"image_id": 2346, "coco_id": None, "url": "https://x/VG_100K/2346.jpg"},
    ]
    genome = write(tmp_path / "image_data.json", data)
    questions = write(tmp_path / "vqa.json", {"questions": [{"question_id": 1, "image_id": 42}]})
    image = "vg/VG_100K_2/2345.jpg"
    assert leak(questions, image) is None
    assert leak([questions, genome], image) == f"s: {image} is COCO image 42 of {questions}"
    assert leak([questions, genome], "vg/VG_100K/2346.jpg") is None
    gqa = write(tmp_path / "testdev_balanced_questions.json", {"1": {"imageId": "2345"}})
    assert leak([gqa, genome], COCO_42[0]) is not None  # the other way round
    assert leak([gqa], image) is not None
    assert leak([gqa], "train2014/COCO_train2014_000000002345.jpg") is None


def test_texts_of_ids_and_names(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("# Flickr30k test\n1007129816\n42\ntest/000012.png\n")
    assert leak(path, "flickr/1007129816.jpg") is not None
    assert leak(path, COCO_42[0]) is not None
    assert leak(path, "world/images/test/000012.png") is not None
    assert leak(path, "world/images/train/000012.png") is None
    assert leak(path, "world/latest/000012.png") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "names no image"),
        ([{"question": "?", "image": ""}], "names no image"),
        ([{"image_id": 1, "coco_id": "x"}], "expected image_id and coco_id"),
        ([{"image_id": 1, "coco_id": 2}, 3], "expected image_id and coco_id"),
    ],
)
def test_useless_files_are_named(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "test.json", content)
    with pytest.raises(DataError, match=message) as raised:
        read_exclusion([path])
    assert raised.value.file == str(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("gone.json", "gone.txt", "gone.p"):
        with pytest.raises(DataError, match=name):
            read_exclusion([tmp_path / name])
    with pytest.raises(DataError, match="expected annotations"):
        read_exclusion([tmp_path / "train.tar"])


def test_readers_leave_excluded_rows_out_and_name_them(tmp_path: Path) -> None:
    rows = [{**good.LLAVA, "id": str(n), "image": f"{n:012d}.jpg"} for n in (41, 42, 43, 44)]
    path = write(tmp_path / "train.json", rows)
    ids = tmp_path / "ids.txt"
    ids.write_text("42\n43\n")
    exclusion = read_exclusion([ids])
    samples, report = read_samples(path, exclusion=exclusion, limit=2)
    assert [sample.id for sample in samples] == ["41", "44"]
    assert (report.samples, report.excluded, report.broken) == (2, 2, 0)
    assert report.leaks[0].startswith(f"42: {tmp_path}/000000000042.jpg is COCO image 42 of")
    assert "2 left out, as 42:" in report.summary()
    assert check_file(path, tmp_path, exclusion=exclusion).broken == 4  # no such images
    ids.write_text("41\n42\n43\n44\n")
    with pytest.raises(DataError, match="the first of 4 excluded ones: 41:"):
        read_samples(path, exclusion=read_exclusion([ids]))
