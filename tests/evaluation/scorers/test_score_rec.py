"""Boxes right or wrong: thresholds of both rules, unparsable answers, degenerate boxes."""

from __future__ import annotations

import pytest

from manyeyes.conversation.boxes import format_boxes, parse_boxes
from manyeyes.errors import UsageError
from manyeyes.evaluation.scorers.rec import score_boxes
from manyeyes.images.overlap import iou
from manyeyes.records import Box

TARGET: Box = (0.0, 0.0, 10.0, 10.0)
HALF: Box = (0.0, 0.0, 10.0, 5.0)
"""Overlaps the target with IoU exactly 0.5."""


def test_comm_check_17_identical_right_half_wrong_two_boxes_wrong() -> None:
    assert score_boxes([TARGET], TARGET, "shikra").correct
    half = score_boxes([HALF], TARGET, "shikra")
    assert half.iou == 0.5 and not half.correct and half.parsed
    assert not score_boxes([TARGET, TARGET], TARGET, "shikra").correct


def test_the_official_rule_takes_exactly_one_half_as_right() -> None:
    assert score_boxes([HALF], TARGET).correct
    assert not score_boxes([(0.0, 0.0, 10.0, 4.99)], TARGET).correct


@pytest.mark.parametrize("boxes", [[], [TARGET, HALF]])
def test_no_box_or_several_are_wrong_and_unparsed(boxes: list[Box]) -> None:
    result = score_boxes(boxes, TARGET)
    assert (result.correct, result.iou, result.parsed) == (False, 0.0, False)


@pytest.mark.parametrize(
    "text", ["", "left", "[0.1,0.2,0.3]", "[0.1,0.2,0.3,0.4,0.5]", "[a,b,c,d]"]
)
def test_malformed_text_is_unparsed(text: str) -> None:
    assert parse_boxes(text, style="shikra", width=100, height=80) == []


def test_written_boxes_score_as_right() -> None:
    text = format_boxes([(10, 20, 60, 70)], style="shikra", width=100, height=80)
    (boxes,) = parse_boxes(text, style="shikra", width=100, height=80)
    assert score_boxes(boxes, (10, 20, 60, 70), "shikra").correct


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (TARGET, TARGET, 1.0),
        (TARGET, (10.0, 0.0, 20.0, 10.0), 0.0),
        (TARGET, (5.0, 5.0, 15.0, 15.0), 25 / 175),
        ((3.0, 3.0, 3.0, 3.0), (3.0, 3.0, 3.0, 3.0), 0.0),
        ((5.0, 5.0, 1.0, 1.0), TARGET, 0.0),
    ],
)
def test_iou(a: Box, b: Box, expected: float) -> None:
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == pytest.approx(expected)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'shikra'"):
        score_boxes([TARGET], TARGET, "shika")
