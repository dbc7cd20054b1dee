"""Programs on a scene laid out by hand, and the scenes on which they refuse to guess."""

from __future__ import annotations

import pytest

from manyeyes.errors import ManyEyesError
from manyeyes.world.language.programs import (
    Program,
    ProgramError,
    Step,
    answer_text,
    execute,
    selection,
)
from manyeyes.world.scene import Color, Scene, Shape, Size, WorldObject


def thing(shape: Shape, color: Color, size: Size, x: int, y: int) -> WorldObject:
    radius = 9 if size == "large" else 5
    box = (float(x - radius), float(y - radius), float(x + radius + 1), float(y + radius + 1))
    return WorldObject(shape, color, size, "plain", "none", x, y, radius, box, 100, 100)


SCENE = Scene(
    0,
    "train",
    48,
    48,
    (
        thing("circle", "red", "large", 10, 10),
        thing("square", "red", "small", 30, 12),
        thing("square", "blue", "small", 40, 40),
    ),
)
RED = selection((("color", "red"),))
RED_CIRCLE: Program = (*selection((("shape", "circle"),)), Step("unique", (1,)))


def run(*steps: Step) -> str:
    return answer_text(execute(steps, SCENE))


def test_filters_count_and_exist() -> None:
    assert execute(RED, SCENE) == (0, 1)
    assert run(*RED, Step("count", (1,))) == "2"
    assert run(*selection((("color", "green"),)), Step("exist", (1,))) == "no"


def test_query_relate_and_beside() -> None:
    assert run(*RED_CIRCLE, Step("query_color", (2,))) == "red"
    right = (*RED_CIRCLE, Step("relate", (2,), "right"))
    assert execute(right, SCENE) == (1, 2)
    other = (*selection((("color", "blue"),), start=3), Step("unique", (4,)))
    assert run(*RED_CIRCLE, *other, Step("beside", (2, 5), "left")) == "yes"
    assert run(*RED_CIRCLE, *other, Step("beside", (2, 5), "below")) == "no"


def test_extreme_and_comparisons() -> None:
    squares = selection((("shape", "square"),))
    assert execute((*squares, Step("extreme", (1,), "left")), SCENE) == (1,)
    blue = selection((("color", "blue"),), start=3)
    counts = (*RED, Step("count", (1,)), *blue, Step("count", (4,)))
    assert run(*counts, Step("greater", (2, 5))) == "yes"
    assert run(*counts, Step("less", (2, 5))) == "no"
    assert run(*counts, Step("equal", (2, 5))) == "no"


def test_choose_larger_returns_the_name_of_the_larger() -> None:
    other = (*selection((("color", "blue"),), start=3), Step("unique", (4,)))
    assert run(*RED_CIRCLE, *other, Step("choose_larger", (2, 5), "circle|square")) == "circle"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ((), "at least one step"),
        ((Step("scene"), Step("unique", (0,))), "exactly one object, found 3"),
        ((Step("scene"), Step("shuffle", (0,))), "unknown operation 'shuffle'"),
        ((Step("count", (0,)),), "reads a step not before it"),
        ((*RED_CIRCLE, Step("relate", (2,), "above")), "nearly level"),
        ((*RED_CIRCLE, Step("relate", (2,), "behind")), "expected a side"),
        ((*RED, Step("extreme", (1,), "above")), "nearly level"),
        ((*RED_CIRCLE, Step("extreme", (2,), "left")), "at least two objects"),
        ((Step("scene"), Step("less", (0, 0))), "expected a number"),
        ((*RED, Step("count", (1,)), Step("exist", (2,))), "expected a set"),
    ],
)
def test_refuses_to_guess(program: Program, told: str) -> None:
    with pytest.raises(ProgramError, match=told):
        execute(program, SCENE)


def test_a_set_is_no_answer() -> None:
    with pytest.raises(ManyEyesError, match="set of objects"):
        answer_text((0,))
