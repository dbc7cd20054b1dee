"""Boxes as text: the published examples, round trips, and everything malformed."""

from __future__ import annotations

import random

import pytest

from manyeyes.conversation.boxes import (
    BOX_STYLES,
    format_boxes,
    format_points,
    parse_boxes,
)
from manyeyes.errors import DataError, UsageError
from manyeyes.records import Box

STYLES = sorted(BOX_STYLES)


@pytest.mark.parametrize(
    ("size", "box", "text"),
    [
        ((640, 480), (100, 50, 300, 200), "[0.156,0.203,0.469,0.438]"),
        ((333, 500), (10, 20, 110, 220), "[0.186,0.040,0.386,0.440]"),
    ],
)
def test_comm_check_15_padded_square_boxes(size: tuple[int, int], box: Box, text: str) -> None:
    width, height = size
    assert format_boxes([box], style="shikra", width=width, height=height) == text
    ((parsed,),) = parse_boxes(text, style="shikra", width=width, height=height)
    tolerance = 0.5 * 0.001 * max(size) + 1e-9
    assert max(abs(a - b) for a, b in zip(parsed, box, strict=True)) <= tolerance


@pytest.mark.parametrize("style", STYLES)
def test_comm_check_16_round_trip(style: str) -> None:
    rng = random.Random(16)
    for width, height in [(640, 480), (333, 500), (48, 48), (1, 999), (31, 7)]:
        step = max(width, height) / (999 if style == "int1000" else 1000)
        group = [_random_box(rng, width, height) for _ in range(rng.randint(1, 4))]
        group.append((0.0, 0.0, float(width), float(height)))
        text = format_boxes(group, style=style, width=width, height=height)
        (parsed,) = parse_boxes(f"It is {text} .", style=style, width=width, height=height)
        for before, after in zip(group, parsed, strict=True):
            gaps = [abs(a - b) for a, b in zip(before, after, strict=True)]
            assert max(gaps) <= step / 2 + 1e-9
        assert format_boxes(parsed, style=style, width=width, height=height) == text


def _random_box(rng: random.Random, width: int, height: int) -> Box:
    x1, x2 = sorted(rng.uniform(0, width) for _ in range(2))
    y1, y2 = sorted(rng.uniform(0, height) for _ in range(2))
    return x1, y1, x2, y2


def test_comm_check_16_several_boxes_and_the_ends_of_the_scale() -> None:
    group: list[Box] = [(0, 0, 100, 100), (25, 50, 75, 100)]
    text = format_boxes(group, style="shikra", width=100, height=100)
    assert text == "[0.000,0.000,1.000,1.000;0.250,0.500,0.750,1.000]"
    assert parse_boxes(text, style="shikra", width=100, height=100) == [group]
    two = parse_boxes(f"a {text} and [0,0,1,1]", style="shikra", width=100, height=100)
    assert two == [group, [(0, 0, 100, 100)]]


def test_comm_check_16_points() -> None:
    text = format_points([(0, 0), (640, 480), (320, 240)], style="shikra", width=640, height=480)
    assert text == "[0.000,0.125;1.000,0.875;0.500,0.500]"
    assert parse_boxes(text, style="shikra", width=640, height=480) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box here",
        "[]",
        "[;]",
        "[0.1,0.2,0.3]",
        "[0.1,0.2,0.3,0.4,0.5]",
        "[0.1,0.2,0.3,0.4;0.1,0.2,0.3]",
        "[0.1,0.2,0.3,0.4;]",
        "[0.1,0.2,,0.4]",
        "[a,b,c,d]",
        "[nan,0.2,0.3,0.4]",
        "[0.1,0.2,inf,0.4]",
        "[1e-1,0.2,0.3,0.4]",
        "[0.1 0.2 0.3 0.4]",
        "[0.3,0.2,0.1,0.4]",
        "[0.1,0.4,0.3,0.2]",
        "0.1,0.2,0.3,0.4",
        "[0.1,0.2,0.3,0.4",
        "0.1,0.2,0.3,0.4]",
        "[0.1.2,0.2,0.3,0.4]",
        "[٠,٠,١,١]",
        "[" * 20000,
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_comm_check_16_malformed_text_gives_no_box(style: str, text: str) -> None:
    assert parse_boxes(text, style=style, width=64, height=48) == []


def test_lion_example_and_its_written_variants() -> None:
    for text in ("[0.440,0.060,0.650,0.367]", "Answer: [ 0.44, 0.06 ,0.65, 0.367 ]"):
        ((box,),) = parse_boxes(text, style="lion", width=640, height=427)
        assert box == pytest.approx((281.6, 25.62, 416.0, 156.709))
    ((box,),) = parse_boxes("[0,0.0,1.0,1]", style="lion", width=640, height=427)
    assert box == (0, 0, 640, 427)


def test_int1000_writes_integers_and_reads_nothing_else() -> None:
    text = format_boxes([(0, 0, 50, 100)], style="int1000", width=100, height=100)
    assert text == "[0,0,500,999]"
    assert parse_boxes("[0.1,0.2,0.3,0.4]", style="int1000", width=100, height=100) == []


@pytest.mark.parametrize("style", STYLES)
def test_numbers_outside_the_frame_are_clamped(style: str) -> None:
    text = format_boxes([(-50, -50, 5000, 5000)], style=style, width=64, height=64)
    ((box,),) = parse_boxes(text, style=style, width=64, height=64)
    assert box == (0, 0, 64, 64)
    ((box,),) = parse_boxes(f"[-7,-7,{'9' * 5000},2000]", style=style, width=64, height=64)
    assert box == (0, 0, 64, 64)


@pytest.mark.parametrize(
    "group",
    [
        [],
        [(0.0, 0.0, 1.0)],
        [(0.0, 0.0, 1.0, 1.0, 1.0)],
        [(float("nan"), 0.0, 1.0, 1.0)],
        [(0.0, 0.0, float("inf"), 1.0)],
        [(5.0, 0.0, 1.0, 1.0)],
        [(0.0, 5.0, 1.0, 1.0)],
    ],
)
def test_impossible_boxes_are_refused_when_writing(group: list[Box]) -> None:
    with pytest.raises(DataError):
        format_boxes(group, style="shikra", width=8, height=8)


def test_unknown_style_names_the_nearest_and_sizes_are_checked() -> None:
    with pytest.raises(UsageError, match="did you mean 'shikra'"):
        format_boxes([(0, 0, 1, 1)], style="shikr", width=8, height=8)
    with pytest.raises(UsageError, match="at least 1x1"):
        parse_boxes("[0,0,1,1]", style="lion", width=0, height=8)
