"""Boxes that do not belong to the image that is read are errors, never labels in a wrong place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import data_rows as rows
from manyeyes.data.dataset import ConversationDataset
from manyeyes.data.files import check_file, read_samples
from manyeyes.errors import DataError
from whole_model import Build

COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "x.png", "width": 20, "height": 10}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
}
REF = {"id": 1, "image": "x.png", "image_id": 1, "expression": "a cat", "bbox": [1, 1, 5, 5]}


def written(folder: Path, content: Any, size: tuple[int, int] = (20, 10)) -> Path:
    Image.new("RGB", size).save(folder / "x.png")
    (folder / "rows.json").write_text(json.dumps(content))
    return folder / "rows.json"


@pytest.mark.parametrize(
    "content", [COCO, [{**REF, "width": 20, "height": 10}]], ids=["coco", "ref"]
)
def test_an_image_of_another_size_is_named(content: Any, build: Build, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    assert check_file(path).broken == 0
    _, processor = build()
    samples, _ = read_samples(path)
    assert len(ConversationDataset(samples, processor)[0]) > 0
    written(tmp_path, content, size=(40, 20))
    (error,) = check_file(path).errors
    assert error.entry == 1 and "20x10" in str(error) and "40x20" in str(error)
    samples, _ = read_samples(path)
    with pytest.raises(DataError, match=r"in pixels of an image of 20x10, but .*x.png has 40x20"):
        ConversationDataset(samples, processor)[0]


@pytest.mark.parametrize(
    ("rows_of", "box", "key"),
    [
        (lambda box: [{**rows.LLAVA, "boxes": [[box]]}], [0.1, 0.2, 0.5, 0.9], "boxes[0][0]"),
        (lambda box: [{**REF, "bbox": box}], [0.1, 0.2, 0.5, 0.7], "bbox"),
    ],
    ids=["corners", "size"],
)
def test_shares_of_the_image_in_place_of_pixels_are_named(
    rows_of: Any, box: list[float], key: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="expected pixels, got shares of the image's") as caught:
        read_samples(written(tmp_path, rows_of(box)))
    assert caught.value.key == key
    samples, _ = read_samples(written(tmp_path, [{**REF, "bbox": [0, 0, 1, 1]}]))
    assert samples[0].meta["box"] == (0, 0, 1, 1)


@pytest.mark.parametrize("value", [2, -1, "0", 0.5, [], "no"])
def test_a_crowd_is_0_or_1(value: object, tmp_path: Path) -> None:
    content = copy.deepcopy(COCO)
    content["annotations"][0]["iscrowd"] = value
    (error,) = check_file(written(tmp_path, content)).errors
    assert error.key == "annotations[0].iscrowd" and "expected 0 or 1" in str(error)


def test_an_annotation_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    content = copy.deepcopy(COCO)
    content["annotations"] *= 2
    (error,) = check_file(written(tmp_path, content)).errors
    assert error.key == "annotations[1].id" and "got 1 again" in str(error)
