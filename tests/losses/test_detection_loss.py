"""The detection objective: the loss of the detector's own class, and what counts in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import DistributedType, PartialState
from torch import Tensor
from transformers import DetrForObjectDetection

import tiny_detector
from manyeyes.errors import PartError
from manyeyes.losses.detection import DETECTION, ObjectTargets, set_prediction_loss


@pytest.fixture(scope="module")
def detector() -> Any:
    torch.manual_seed(0)
    return DetrForObjectDetection(tiny_detector.config()).eval()


def targets(*counts: int) -> ObjectTargets:
    generator = torch.Generator().manual_seed(1)
    most = max(0, *counts)
    classes = torch.randint(2, (len(counts), most), generator=generator)
    boxes = 0.3 + 0.3 * torch.rand(len(counts), most, 4, generator=generator)
    return ObjectTargets(torch.tensor(counts), classes, boxes)


def outputs(images: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(images, 4, 3, generator=generator)
    return logits.requires_grad_(), torch.rand(images, 4, 4, generator=generator).requires_grad_()


def test_it_is_the_loss_of_transformers(detector: Any) -> None:
    pixels, wanted = torch.randn(3, 3, 32, 32), targets(2, 0, 1)
    labels = [
        {"class_labels": c[:n], "boxes": b[:n]}
        for n, c, b in zip((2, 0, 1), wanted.classes, wanted.boxes, strict=True)
    ]
    plain = detector(pixel_values=pixels, labels=labels)
    ours = set_prediction_loss(detector, plain.logits, plain.pred_boxes, wanted)
    torch.testing.assert_close(ours, plain.loss)
    assert DETECTION({"detection_loss": ours}) is ours


def test_one_object_by_hand(detector: Any) -> None:
    """Costs and weights of DETR: class 1, L1 5, overlap 2; nothing counts a tenth."""
    box = torch.tensor([0.5, 0.5, 0.2, 0.2])
    logits = torch.zeros(1, 2, 3)
    boxes = torch.stack([box, torch.tensor([0.1, 0.1, 0.1, 0.1])])[None]
    wanted = ObjectTargets(torch.tensor([1]), torch.tensor([[1]]), box[None, None])
    loss = set_prediction_loss(detector, logits, boxes, wanted)
    assert float(loss) == pytest.approx(float(torch.tensor(3.0).log()), abs=1e-5)
    moved = boxes + torch.tensor([0.02, 0.0, 0.0, 0.0])
    shifted = set_prediction_loss(detector, logits, moved, wanted)
    overlap = 0.18 * 0.2 / (2 * 0.2 * 0.2 - 0.18 * 0.2)  # their hull is their union
    assert float(shifted - loss) == pytest.approx(5 * 0.02 + 2 * (1 - overlap), abs=1e-4)


def test_mr_mllm_check_23_images_without_objects_train(detector: Any) -> None:
    logits, boxes = outputs(2)
    loss = set_prediction_loss(detector, logits, boxes, targets(0, 0))
    loss.backward()
    assert bool(torch.isfinite(loss)) and float(loss.detach()) > 0
    assert logits.grad is not None and float(logits.grad.abs().sum()) > 0


def test_unknown_images_do_not_count(detector: Any) -> None:
    logits, boxes = outputs(3)
    every = targets(2, -1, 1)
    loss = set_prediction_loss(detector, logits, boxes, every)
    keep = torch.tensor([0, 2])
    known = ObjectTargets(every.counts[keep], every.classes[keep], every.boxes[keep])
    torch.testing.assert_close(
        loss, set_prediction_loss(detector, logits[keep], boxes[keep], known)
    )
    loss.backward()
    assert logits.grad is not None and float(logits.grad[1].abs().sum()) == 0.0
    none = set_prediction_loss(detector, logits, boxes, targets(-1, -1, -1))
    none.backward()
    assert float(none.detach()) == 0.0


def test_padding_behind_an_image_plays_no_part(detector: Any) -> None:
    logits, boxes = outputs(2)
    wanted = targets(1, 2)
    other = ObjectTargets(wanted.counts, wanted.classes.clone(), wanted.boxes.clone())
    other.classes[0, 1] = 1 - other.classes[0, 1]
    other.boxes[0, 1] = 0.9
    assert torch.equal(
        set_prediction_loss(detector, logits, boxes, wanted),
        set_prediction_loss(detector, logits, boxes, other),
    )


def test_targets_of_other_images_are_refused(detector: Any) -> None:
    with pytest.raises(PartError, match="targets of 1 images, but 2 images"):
        set_prediction_loss(detector, *outputs(2), targets(1))


def test_what_transformers_knows_of_processes_plays_no_part(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would divide the number of boxes, which is that of all processes here, by theirs."""
    expected = set_prediction_loss(detector, *outputs(2), targets(2, 2))
    state = {"num_processes": 4, "distributed_type": DistributedType.NO}
    monkeypatch.setattr(PartialState, "_shared_state", dict(state))
    found = set_prediction_loss(detector, *outputs(2), targets(2, 2))
    torch.testing.assert_close(found, expected)
    assert PartialState._shared_state == state
