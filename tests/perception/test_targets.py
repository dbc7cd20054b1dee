"""Annotated images to a detector's targets, and a batch of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manyeyes.errors import DataError
from manyeyes.perception.targets import BOXES, CLASSES, COUNTS, target_batch, target_row
from manyeyes.records import Sample, Turn

LABELS = ("cup", "red cross")


def sample(task: str | None = "detection", images: int = 1, **meta: Any) -> Sample:
    turns = (Turn("user", "<image>" * images), Turn("assistant", "x"))
    return Sample("s1", ("a.png",) * images, turns, task, meta)


def test_boxes_become_centres_and_sizes_of_the_image() -> None:
    boxes, labels = ((10.0, 20.0, 50.0, 40.0), (0.0, 0.0, 100.0, 50.0)), ("red cross", "cup")
    row = target_row(sample(labels=labels, boxes=boxes, crowd=(False, False)), [(100, 50)], LABELS)
    assert row[COUNTS].tolist() == [2] and row[CLASSES].tolist() == [[1, 0]]
    expected = torch.tensor([[[0.3, 0.6, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0]]])
    torch.testing.assert_close(row[BOXES], expected)


def test_crowds_are_left_out_and_boxes_cut_at_the_edges() -> None:
    boxes = ((-10.0, 0.0, 10.0, 20.0), (0.0, 0.0, 5.0, 5.0))
    row = target_row(
        sample(labels=("cup", "cup"), boxes=boxes, crowd=(False, True)), [(20, 20)], LABELS
    )
    assert row[COUNTS].tolist() == [1]
    assert row[BOXES][0].tolist() == [[0.25, 0.5, 0.5, 1.0]]


def test_an_empty_image_is_known_and_others_are_unknown() -> None:
    empty = target_row(sample(labels=(), boxes=(), crowd=()), [(8, 8)], LABELS)
    assert empty[COUNTS].tolist() == [0]
    assert (empty[CLASSES].shape, empty[BOXES].shape) == ((1, 0), (1, 0, 4))
    assert empty[CLASSES].dtype == torch.long
    other = target_row(sample(task=None, images=2), [(8, 8), (9, 9)], LABELS)
    assert other[COUNTS].tolist() == [-1, -1]
    text = target_row(sample(task=None, images=0), [], LABELS)
    assert text[COUNTS].tolist() == [] and text[BOXES].shape == (0, 0, 4)
    assert target_row(sample(), [(8, 8)], None) == {}


def test_a_batch_is_padded_to_its_fullest_image() -> None:
    one = target_row(sample(labels=("cup",), boxes=((0.0, 0.0, 8.0, 8.0),)), [(8, 8)], LABELS)
    none = target_row(sample(labels=(), boxes=()), [(8, 8)], LABELS)
    text = target_row(sample(task=None, images=0), [], LABELS)
    batch = target_batch([none, text, one])
    assert batch[COUNTS].tolist() == [0, 1]
    assert batch[CLASSES].shape == (2, 1) and batch[BOXES].shape == (2, 1, 4)
    assert batch[BOXES][1, 0].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert target_batch([]) == {} and target_batch([{"input_ids": torch.zeros(1)}]) == {}


@pytest.mark.parametrize(
    ("meta", "images", "message"),
    [
        ({"labels": ("cpu",), "boxes": ((0, 0, 1, 1),)}, 1, "no class 'cpu'.*did you mean 'cup'"),
        ({"labels": ("cup",), "boxes": ()}, 1, "1 labels and 0 boxes"),
        ({"labels": ("cup",), "boxes": ((0, 0, 1, 1),)}, 2, "one image .* got 2 image"),
    ],
)
def test_annotations_that_do_not_fit_are_named(
    meta: dict[str, Any], images: int, message: str
) -> None:
    with pytest.raises(DataError, match=rf"sample 's1': .*{message}"):
        target_row(sample(images=images, **meta), [(8, 8)] * images, LABELS)
