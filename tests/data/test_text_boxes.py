"""Boxes that stand in texts as numbers, read as boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.conversation.boxes import lift_boxes, only_boxes
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import read_samples
from manyeyes.errors import ImageError, RecipeError, UsageError
from manyeyes.recipes import Recipe


@pytest.mark.parametrize(
    "style, written, pixels",
    [
        ("lion", "[0.1, 0.2, 0.5, 0.8]", (20.0, 20.0, 100.0, 80.0)),
        # the square of 200 x 200 begins 50 pixels above the picture
        ("shikra", "[0.1, 0.35, 0.5, 0.65]", (20.0, 20.0, 100.0, 80.0)),
        ("int1000", "[0,0,999,999]", (0.0, 0.0, 200.0, 100.0)),
    ],
)
def test_numbers_become_pixels_of_the_picture(
    style: str, written: str, pixels: tuple[float, ...]
) -> None:
    text, (group,) = lift_boxes(f"It is at {written}, see.", style=style, width=200, height=100)
    assert text == "It is at <boxes>, see."
    assert group[0] == pytest.approx(pixels)


def test_what_is_no_box_of_the_style_stays() -> None:
    text = "[1] and [0.5, 0.5, 0.1, 0.1] and [a, b, c, d] and [1,2,3]"
    assert lift_boxes(text, style="lion", width=10, height=10) == (text, [])


@pytest.mark.parametrize(
    "style, beyond", [("lion", "[0.1,0.2,0.5,1.1]"), ("int1000", "[1,2,3,1001]")]
)
def test_numbers_that_lead_out_of_the_frame_are_not_clipped_to_it(style: str, beyond: str) -> None:
    """Pixels read as shares would all be the corner."""
    assert lift_boxes(beyond, style=style, width=10, height=10) == (beyond, [])
    assert lift_boxes("[10, 20, 60, 90]", style="shikra", width=99, height=99)[1] == []


@pytest.mark.parametrize(
    "text, alone",
    [
        ("[0.1,0.2,0.5,0.8]", True),
        ("[0.1, 0.2, 0.5, 0.8; 0, 0, 1, 1].", True),
        ("[12,20,500,800]", True),
        ("left [0.1,0.2,0.5,0.8]", False),
        ("[1,2,3]", False),
        ("[1,2,3] [0.1,0.2,0.5,0.8]", False),
        ("yes", False),
    ],
)
def test_answers_that_are_boxes_alone_are_known(text: str, alone: bool) -> None:
    assert only_boxes(text) is alone


def save(folder: Path, *rows: dict[str, Any]) -> Path:
    Image.new("RGB", (200, 100)).save(folder / "a.png")
    (folder / "my.json").write_text(json.dumps(rows))
    return folder / "my.json"


def row(asked: str, said: str, **keys: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
    return {"id": "r", "image": "a.png", "conversations": turns, **keys}


def test_a_file_is_read_with_boxes_and_without(tmp_path: Path) -> None:
    box = "[0.1,0.2,0.5,0.8]"
    known = row("<image>\nWhere?", "<boxes>", boxes=[[[1, 2, 3, 4]]])
    path = save(
        tmp_path,
        row(f"<image>\nWhat is at {box}?", f"A cat {box}."),
        known,
        row("<image>\n<image>\nWhere?", box, image=["a.png", "a.png"]),
        {"id": "t", "conversations": row("Say a box.", box)["conversations"]},
    )
    words, _ = read_samples(path)
    assert [turn.text for turn in words[0].turns] == [
        f"<image>\nWhat is at {box}?",
        f"A cat {box}.",
    ]
    options = SourceOptions(str(tmp_path), text_boxes="lion")
    (first, second, several, text), _ = read_samples(path, options=options)
    asked, said = first.turns
    assert (asked.text, said.text) == ("<image>\nWhat is at <boxes>?", "A cat <boxes>.")
    assert asked.boxes == said.boxes and asked.boxes[0][0] == pytest.approx((20, 20, 100, 80))
    assert second.turns == words[1].turns
    assert several.turns == words[2].turns and text.turns == words[3].turns


def test_a_picture_that_cannot_be_measured_is_an_error_of_its_row(tmp_path: Path) -> None:
    path = save(tmp_path, row("<image>\nWhere?", "[0.1,0.2,0.5,0.8]"), row("<image>\nWhat?", "cat"))
    with pytest.raises(UsageError, match="unknown box style"):
        read_samples(path, options=SourceOptions(str(tmp_path), text_boxes="coco"))
    (tmp_path / "a.png").write_bytes(b"no picture")
    options = SourceOptions(str(tmp_path), text_boxes="lion")
    with pytest.raises(ImageError, match=r"a\.png"):
        read_samples(path, options=options)
    kept, _ = read_samples(path, options=options, skip_bad_rows=True)
    assert [sample.turns[1].text for sample in kept] == ["cat"]


def test_a_recipe_names_one_of_the_styles() -> None:
    source = {"path": "my.json", "text_boxes": "shikra"}
    stage = {"name": "a", "train": {"fusion": True}, "data": [source]}
    recipe = Recipe(name="x", model={}, stages=[stage])
    assert recipe.stages[0].data[0].text_boxes == "shikra"
    plain = Recipe(name="x", model={}, stages=[{**stage, "data": [{"path": "my.json"}]}])
    assert "text_boxes" not in plain.model_dump()["stages"][0]["data"][0], "as before the key was"
    with pytest.raises((RecipeError, ValueError), match="text_boxes"):
        Recipe(name="x", model={}, stages=[{**stage, "data": [{**source, "text_boxes": "coco"}]}])
