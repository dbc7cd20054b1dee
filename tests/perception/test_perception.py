"""Detected objects as text, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

import tiny
from manyeyes.conversation.prompts import PROMPT_STYLES
from manyeyes.conversation.rendering import add_contexts, render, turns_to_messages
from manyeyes.errors import DataError, RecipeError
from manyeyes.options import parse_options
from manyeyes.perception.text import (
    ObjectWriter,
    PerceptionOptions,
    augmented,
    format_objects,
    largest_first,
    object_writer,
    parse_objects,
)
from manyeyes.records import Detection, Sample, Turn

SIZE = {"width": 640, "height": 480}
CAT = Detection("cat", (64.0, 48.0, 320.0, 240.0), 0.91)


def objects(count: int, seed: int = 0) -> list[Detection]:
    """Random boxes within the image, names with spaces, scores of all sizes."""
    random = Random(seed)
    found = []
    for number in range(count):
        x1, x2 = sorted(random.uniform(0, SIZE["width"]) for _ in range(2))
        y1, y2 = sorted(random.uniform(0, SIZE["height"]) for _ in range(2))
        found.append(Detection(f"traffic light {number}", (x1, y1, x2, y2), random.random()))
    return found


def writer(count: Callable[[str], int] = len, **options: object) -> ObjectWriter:
    chosen = parse_options(PerceptionOptions, {"min_score": 0.0, **options}, "perception_text")
    return ObjectWriter(chosen, "int1000", count)


def test_the_template() -> None:
    two = [CAT, Detection("dog", (0.0, 0.0, 640.0, 480.0))]
    text = format_objects(two, style="int1000", **SIZE)
    assert text == "cat [100,100,500,500] 0.91; dog [0,0,999,999]"
    assert format_objects(two, style="lion", scores=False, **SIZE) == (
        "cat [0.100,0.100,0.500,0.500]; dog [0.000,0.000,1.000,1.000]"
    )


@pytest.mark.parametrize(("style", "step"), [("int1000", 0.5 / 999), ("lion", 0.0005)])
def test_mr_mllm_check_13_round_trip(style: str, step: float) -> None:
    written = objects(500)
    text = format_objects(written, style=style, **SIZE)
    parsed = parse_objects(text, style=style, **SIZE)
    assert parsed.malformed == () and len(parsed.objects) == len(written)
    for before, after in zip(written, parsed.objects, strict=True):
        assert after.label == before.label
        assert before.score is not None and after.score is not None
        assert abs(after.score - before.score) <= 0.005 + 1e-9
        for axis, (a, b) in enumerate(zip(before.box, after.box, strict=True)):
            side = SIZE["height" if axis % 2 else "width"]
            assert abs(a - b) <= (step + 1e-6) * side
    spans = [text[first:last] for first, last in (item.name_span for item in parsed.items)]
    assert spans == [found.label for found in written]


def test_boxes_are_rounded_to_whole_pixels_on_demand() -> None:
    found = Detection("cat", (63.6, 48.4, 320.5, 240.51), 0.9)
    (exact,) = writer().items([found], (640, 480))
    (whole,) = writer(whole_pixels=True).items([found], (640, 480))
    assert exact == format_objects([found], style="int1000", **SIZE)
    rounded = Detection("cat", (64.0, 48.0, 320.0, 241.0), 0.9)
    assert whole == format_objects([rounded], style="int1000", **SIZE) != exact


def test_mr_mllm_check_14_no_objects_are_none() -> None:
    assert format_objects([], style="int1000", **SIZE) == "none"
    for text in ("none", " None. ", "", "\n"):
        assert parse_objects(text, style="int1000", **SIZE) == parse_objects(
            "", style="int1000", **SIZE
        )
    assert writer().text([], (640, 480)) == "Detected objects: none"


MALFORMED = (
    "cat [1,2,3]",
    "cat [1,2,3,4,5]",
    "cat [a,b,c,d]",
    "cat [9,9,1,1]",
    "[1,2,3,4]",
    "cat",
    "cat [1,2,3,4] 7.5",
    "cat [1,2,3,4] very sure",
    "cat [1,2,3,4",
    "cat ] [1,2,3,4]",
    "cat [1,2,3,4] [5,6,7,8]",
    "cat [[1,2,3,4]]",
    "cat [" + "9" * 5000 + ",2,3",
    " " * 20_000 + "x",
)


@pytest.mark.parametrize("broken", MALFORMED)
def test_mr_mllm_check_14_malformed_items_are_left_out_and_reported(broken: str) -> None:
    parsed = parse_objects(f"dog [1,2,3,4] 0.5; {broken}; bird [5,6,7,8].", style="int1000", **SIZE)
    assert [found.label for found in parsed.objects] == ["dog", "bird"]
    assert parsed.malformed == (broken.strip(),)


def test_mr_mllm_check_14_no_text_makes_the_parser_fail() -> None:
    random = Random(0)
    letters = "cat dog;[],.0123456789-e \n[]none<image>é"
    for _ in range(3000):
        text = "".join(random.choices(letters, k=random.randrange(60)))
        for found in parse_objects(text, style="int1000", **SIZE).objects:
            x1, y1, x2, y2 = found.box
            assert 0 <= x1 <= x2 <= SIZE["width"] and 0 <= y1 <= y2 <= SIZE["height"]


def test_mr_mllm_check_14_three_hundred_objects_are_cut_by_score() -> None:
    many = objects(300)
    text = writer(max_objects=20).text(many, (640, 480))
    kept = parse_objects(text.removeprefix("Detected objects: "), style="int1000", **SIZE).objects
    best = sorted((found.score or 0.0 for found in many), reverse=True)[:20]
    assert [found.score for found in kept] == [pytest.approx(score, abs=0.005) for score in best]
    shuffled = Random(1).sample(many, len(many))
    assert writer(max_objects=20).text(shuffled, (640, 480)) == text
    sure = writer(min_score=0.7, max_objects=1000).chosen(many)
    assert sure and {found.label for found in sure} == {
        found.label for found in many if (found.score or 0.0) >= 0.7
    }


@pytest.mark.parametrize("budget", [1, 10, 60, 61, 200, 1000])
def test_mr_mllm_check_14_the_budget_holds_and_no_box_is_cut(budget: int) -> None:
    tokenizer = tiny.byte_tokenizer()
    options = {"min_score": 0.0, "max_objects": 30, "max_tokens": budget}
    made = object_writer(options, "int1000", tokenizer)
    assert made is not None
    text = made.text(objects(30), (640, 480))
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= budget
    items = text.removeprefix("Detected objects: ")
    parsed = parse_objects(items, style="int1000", **SIZE)
    assert parsed.malformed == ()
    whole = writer(max_objects=30).items(objects(30), (640, 480))
    assert items == "; ".join(whole[: len(parsed.objects)])
    longer = "; ".join(whole[: len(parsed.objects) + 1])
    full = len(parsed.objects) == 30
    assert full or len(tokenizer(f"Detected objects: {longer}")["input_ids"]) > budget


def test_mr_mllm_check_15_a_flipped_image_mirrors_its_text() -> None:
    def flipped(found: Detection) -> Detection:
        x1, y1, x2, y2 = found.box
        return Detection(found.label, (640 - x2, y1, 640 - x1, y2), found.score)

    found = objects(200)
    numbers = [_numbers(item) for item in writer(max_objects=200).items(found, (640, 480))]
    mirrored = [flipped(item) for item in found]
    others = [_numbers(item) for item in writer(max_objects=200).items(mirrored, (640, 480))]
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(numbers, others, strict=True):
        assert abs(u1 - (999 - x2)) <= 1 and abs(u2 - (999 - x1)) <= 1 and (v1, v2) == (y1, y2)


def _numbers(item: str) -> list[int]:
    return [int(word) for word in item.partition("[")[2].partition("]")[0].split(",")]


def test_mr_mllm_check_16_separators_in_class_names_are_replaced() -> None:
    odd = Detection("sofa; [leather]\n<image>", CAT.box, 0.5)
    text = format_objects([odd, CAT], style="int1000", **SIZE)
    assert text.startswith("sofa, (leather) (image) [100,")
    parsed = parse_objects(text, style="int1000", **SIZE)
    assert parsed.malformed == ()
    assert [found.label for found in parsed.objects] == ["sofa, (leather) (image)", "cat"]
    with pytest.raises(DataError, match="class name is empty"):
        format_objects([Detection(" \n", CAT.box)], style="int1000", **SIZE)


def test_the_order_is_fixed_where_scores_are_equal() -> None:
    boxes = [(0.0, 0.0, 9.0, 9.0), (0.0, 0.0, 5.0, 5.0)]
    same = [Detection(label, box, 0.8) for label in ("dog", "cat") for box in boxes]
    texts = {writer().text(Random(seed).sample(same, 4), (640, 480)) for seed in range(20)}
    assert len(texts) == 1
    assert [o.label for o in largest_first([same[1], same[2], same[0]])] == ["cat", "dog", "dog"]


def _styled(turns: Sequence[Turn], style: str, generation_prompt: bool = True) -> str:
    messages = turns_to_messages(turns)
    tokenizer = tiny.byte_tokenizer()
    return render(messages, tokenizer, style, generation_prompt=generation_prompt).text


def test_alpaca_has_a_place_for_the_input() -> None:
    (turn,) = add_contexts([Turn("user", "<image>\nWhere is it?")], ["Detected objects: none"])
    assert _styled([turn], "alpaca") == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
        "<image>\nWhere is it?\n\n### Input:\nDetected objects: none\n\n### Response:"
    )
    bare = _styled([Turn("user", "<image>\nWhere is it?")], "alpaca")
    assert "### Input" not in bare and "paired with" not in bare


@pytest.mark.parametrize("style", sorted(set(PROMPT_STYLES) - {"alpaca"}))
def test_other_styles_have_the_text_between_image_and_question(style: str) -> None:
    texts = ["Detected objects: none"]
    (turn,) = add_contexts([Turn("user", "<image>\nWhere is it?")], texts)
    gap = "" if style == "blip2" else "\n"  # BLIP-2 has no line end after the image
    assert f"<image>{gap}Detected objects: none\nWhere is it?" in _styled([turn], style)
    (turn,) = add_contexts([Turn("user", "Where is it?\n<image>")], texts)
    assert f"Where is it?\n<image>{gap}Detected objects: none" in _styled([turn], style)


@pytest.mark.parametrize("style", list(PROMPT_STYLES))
def test_every_style_still_finds_the_answers(style: str) -> None:
    turns = [
        Turn("user", "<image>\nWhat?"),
        Turn("assistant", "a cat"),
        Turn("user", "<image>\nAnd this?"),
        Turn("assistant", "a dog"),
    ]
    messages = turns_to_messages(add_contexts(turns, ["A", "B"]))
    found = render(messages, tiny.byte_tokenizer(), style)
    assert [found.text[a:b].strip().removesuffix("</s>") for a, b in found.spans] == [
        "a cat",
        "a dog",
    ]
    assert found.text.index("Image 1: A") < found.text.index("a cat")
    assert found.text.index("a cat") < found.text.index("Image 2: B")


def test_augmentation_depends_on_its_seed_alone() -> None:
    options = PerceptionOptions(drop_objects=0.2, drop_text=0.1)
    sample = Sample("a", ("x", "y"), (), objects=(tuple(objects(10)), tuple(objects(10, 1))))
    made = [augmented(sample, options, seed) for seed in range(2000)]
    assert made[7] == augmented(sample, options, 7)
    without = sum(changed.objects is None for changed in made)
    assert 150 < without < 250
    kept = sum(len(found) for changed in made for found in changed.objects or ())
    assert abs(kept / (20 * (2000 - without)) - 0.8) < 0.02
    assert all(
        set(found) <= set(whole)
        for c in made
        for found, whole in zip(c.objects or (), sample.objects or (), strict=False)
    )
    nobody = Sample("b", ("x",), ())
    assert augmented(nobody, options, 0) is nobody


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_scor": 0.5}, "did you mean 'min_score'"),
        ({"form": "adaptor"}, "did you mean 'adapter'"),
        ({"min_score": 1.5}, r"perception_text.min_score: 1.5 is not in 0..1"),
        ({"max_objects": 0}, r"perception_text.max_objects: 0 is not at least 1"),
    ],
)
def test_wrong_options_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        object_writer(values, "int1000", tiny.byte_tokenizer())
