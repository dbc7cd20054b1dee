"""Detectors' tensors to boxes in pixels of the original image."""

from __future__ import annotations

import pytest
import torch

from manyeyes.errors import PartError
from manyeyes.perception.detections import detector_of, read_objects
from manyeyes.records import GridFeatures, ObjectFeatures

LABELS = ("cat", "dog")


def features(
    logits: torch.Tensor, boxes: torch.Tensor | None = None, labels: tuple[str, ...] = LABELS
) -> ObjectFeatures:
    """Objects in the middle of the image; one logit more than labels means a softmax."""
    images, queries, classes = logits.shape
    found = torch.full((images, queries, 4), 0.5) if boxes is None else boxes
    nothing = classes > len(labels)
    return ObjectFeatures(torch.zeros(images, queries, 8), found, logits, labels, nothing)


@pytest.mark.parametrize("classes", [2, 3])
def test_mr_mllm_check_22_scores_are_shares_and_no_object_has_no_name(classes: int) -> None:
    torch.manual_seed(0)
    found = read_objects(features(10 * torch.randn(3, 50, classes)), [(20, 10)] * 3)
    assert [len(image) for image in found] == [50] * 3
    assert {o.label for image in found for o in image} == set(LABELS)
    scores = [o.score for o in found[0] if o.score is not None]
    assert len(scores) == 50 and all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_mr_mllm_check_22_certain_emptiness_leaves_nothing() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[..., -1] = 30.0
    assert read_objects(features(logits), [(8, 8)], min_score=0.01) == [()]


def test_classes_that_were_never_learnt_have_no_name() -> None:
    found = features(torch.tensor([[[9.0, 0.0], [0.0, 9.0]]]), labels=("N/A", "dog"))
    assert [o.label for o in read_objects(found, [(8, 8)])[0]] == ["dog"]


def test_boxes_are_pixels_of_the_original_image_and_end_at_its_edge() -> None:
    boxes = torch.tensor([[[0.5, 0.25, 0.5, 0.25], [0.0, 0.5, 0.5, 0.5], [1.5, 0.5, 0.2, 0.2]]])
    logits = torch.tensor([[[5.0, 0.0], [0.0, 4.0], [9.0, 0.0]]])
    first, second = read_objects(features(logits, boxes), [(64, 40)])[0]
    assert first.box == (16.0, 5.0, 48.0, 15.0) and first.label == "cat"
    assert second.box == (0.0, 10.0, 16.0, 30.0) and second.label == "dog"


def test_the_detector_is_found_or_must_be_named() -> None:
    one = features(torch.zeros(1, 1, 2))
    grid = GridFeatures((torch.zeros(1, 4, 2),), (1,), (2, 2))
    assert detector_of({"clip": grid}, None) is None
    assert detector_of({"clip": grid, "detr": one}, None) == "detr"
    assert detector_of({"a": one, "b": one}, "b") == "b"
    with pytest.raises(PartError, match="several detectors"):
        detector_of({"a": one, "b": one}, None)
    with pytest.raises(PartError, match="'clip' gives no objects; detectors: detr"):
        detector_of({"clip": grid, "detr": one}, "clip")
