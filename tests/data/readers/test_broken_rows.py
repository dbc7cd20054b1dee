"""Every kind of broken row, and of broken file, is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_rows import (
    ANSWERS,
    CAPTIONS,
    IMAGE_TEXT,
    INSTANCES,
    LLAVA,
    OPENAI,
    POPE,
    QUESTION_ANSWER,
    REF,
    SHAREGPT,
    write_rows,
    write_vqa,
)
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import check_file, detect_format, iter_samples, read_samples
from manyeyes.errors import DataError, UsageError


def _llava(**changes: Any) -> dict[str, Any]:
    return {**LLAVA, **changes}


def _talk(*messages: tuple[str, str], **changes: Any) -> dict[str, Any]:
    turns = [{"from": role, "value": text} for role, text in messages]
    return _llava(conversations=turns, **changes)


def _boxed(*boxes: Any) -> dict[str, Any]:
    return _talk(("human", "<image>\nWhere?"), ("gpt", "<boxes>"), boxes=[list(boxes)])


NAN, INF = float("nan"), float("inf")
BROKEN = {
    "no conversations": ({"id": 1, "conversation": []}, "conversations", "'conversation'"),
    "not a list": (_llava(conversations="hi"), "conversations", "expected a list"),
    "empty": (_llava(conversations=[]), "conversations", "at least one user"),
    "not an object": (_llava(conversations=["hi"]), "conversations[0]", "expected an object"),
    "unknown role": (
        _talk(("humn", "<image>x"), ("gpt", "y")),
        "conversations[0].from",
        "did you mean 'human'",
    ),
    "no text": (_talk(("human", "<image>x"), ("gpt", " ")), "conversations[1].value", "not empty"),
    "assistant first": (_talk(("gpt", "y"), ("human", "<image>x")), "conversations[0]", "user to"),
    "two users": (_talk(("human", "<image>"), ("human", "x")), "conversations[1]", "assistant nex"),
    "no answer": (_talk(("human", "<image>x")), "conversations", "end with the assistant"),
    "late system": (
        _talk(("human", "<image>x"), ("system", "y"), ("gpt", "z")),
        "conversations",
        "at the start",
    ),
    "too few <image>": (
        _talk(("human", "x"), ("gpt", "y")),
        "image",
        "0 <image> in the text but 1",
    ),
    "too many <image>": (_talk(("human", "<image><image>"), ("gpt", "y")), "image", "2 <image>"),
    "<image> in answer": (
        _talk(("human", "x"), ("gpt", "<image>")),
        "conversations[1]",
        "no <image> in an answer",
    ),
    "bad image": (_llava(image=7), "image", "list of image paths"),
    "empty image": (_llava(image=""), "image", "path of an image file"),
    "bad image in list": (_llava(image=[None]), "image[0]", "path of an image file"),
    "url": (_llava(image="https://x.org/a.png"), "image", "local image file"),
    "escape": (_llava(image="../secret.png"), "image", "leads out of the image folder"),
    "hidden escape": (_llava(image="a/../../b.png"), "image", "leads out of the image folder"),
    "null byte": (_llava(image="a\x00b"), "image", "path of an image file"),
    "both images": (_llava(images=["one.png"]), "images", "got both"),
    "3 numbers": (_boxed([1, 2, 3]), "boxes[0][0]", "four finite numbers"),
    "5 numbers": (_boxed([1, 2, 3, 4, 5]), "boxes[0][0]", "four finite numbers"),
    "x2 < x1": (_boxed([0, 0, 1, 1], [5, 0, 4, 1]), "boxes[0][1]", "x1 <= x2"),
    "y2 < y1": (_boxed([0, 5, 1, 1]), "boxes[0][0]", "x1 <= x2"),
    "NaN": (_boxed([0, NAN, 1, 1]), "boxes[0][0]", "four finite numbers"),
    "infinity": (_boxed([0, 0, 1, INF]), "boxes[0][0]", "four finite numbers"),
    "huge": (_boxed([0, 0, 1, 10**400]), "boxes[0][0]", "four finite numbers"),
    "text number": (_boxed([0, 0, "1", 1]), "boxes[0][0]", "four finite numbers"),
    "true": (_boxed([0, 0, True, 1]), "boxes[0][0]", "four finite numbers"),
    "empty group": (_boxed(), "boxes[0]", "not empty"),
    "no <boxes>": (_llava(boxes=[[[0, 0, 1, 1]]]), "boxes", "0 <boxes> in the text but 1"),
    "no boxes": (_talk(("human", "<image>"), ("gpt", "<boxes>")), "boxes", "1 <boxes> in the text"),
    "box image": ({**_boxed([0, 0, 1, 1]), "box_image": 1}, "box_image", "index of one of 1 image"),
    "boxes, no image": (
        {
            "conversations": [
                {"from": "human", "value": "x"},
                {"from": "gpt", "value": "<boxes>"},
            ],
            "boxes": [[[0, 0, 1, 1]]],
        },
        "boxes",
        "got none",
    ),
    "bad id": (_llava(id=[1]), "id", "an id"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_conversations_are_named(tmp_path: Path, name: str) -> None:
    row, key, message = BROKEN[name]
    path = write_rows(tmp_path / "data.jsonl", [LLAVA, row])
    with pytest.raises(DataError) as caught:
        list(iter_samples(path, format="llava"))
    error = caught.value
    assert (error.file, error.line, error.key) == (str(path), 2, key)
    assert message in str(error)
    assert str(error).startswith(f"{path}:2: {key}: ")


def _with(base: dict[str, Any], place: str, **changes: Any) -> dict[str, Any]:
    """A copy of a COCO-like object with its first entry of list ``place`` changed."""
    first, *others = base[place]
    return {**base, place: [{**first, **changes}, *others]}


BROKEN_FILES = {
    "label": ([{**POPE, "label": "maybe"}], "label", "expected one of 'yes', 'no'"),
    "question": ([{**POPE, "text": ""}], "text", "not empty"),
    "question id": ([{**POPE, "question_id": None}], "question_id", "an id"),
    "xywh": ([{**REF, "bbox": [5, 5, -1, 2]}], "bbox", "sizes not negative"),
    "bbox": ([{**REF, "bbox": [5, 5, 2]}], "bbox", "four finite numbers"),
    "image": ([{k: v for k, v in REF.items() if k != "image"}], "image", "'image_id'"),
    "role": ([{"messages": [{"role": "tool", "content": "x"}]}], "messages[0].role", "one of"),
    "content": ([{"messages": [{"role": "user", "content": []}]}], "messages[0].content", "empty"),
    "part": (
        [{"messages": [{"role": "user", "content": [{"type": "audio"}]}]}],
        "messages[0].content[0].type",
        "expected one of 'image'",
    ),
    "image part": (
        [{"messages": [{"role": "user", "content": [{"type": "image"}]}]}],
        "messages[0].content[0]",
        "one more path in 'images'",
    ),
    "data url": (
        [
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:x"}}],
                    }
                ]
            }
        ],
        "messages[0].content[0].image_url",
        "local image file",
    ),
    "caption": (_with(CAPTIONS, "annotations", caption=3), "annotations[0].caption", "a text"),
    "no such image": (_with(CAPTIONS, "annotations", image_id=3), "annotations[0].image_id", "3"),
    "image id twice": (_with(CAPTIONS, "images", id=2), "images[1].id", "2 again"),
    "file name": (_with(CAPTIONS, "images", file_name=None), "images[0].file_name", "path"),
    "category": (_with(INSTANCES, "annotations", category_id=9), "annotations[0].category_id", "9"),
    "COCO box": (_with(INSTANCES, "annotations", bbox=[1, 2]), "annotations[0].bbox", "finite"),
}


@pytest.mark.parametrize(
    "row",
    [
        {**LLAVA, "id": None, "task": None, "boxes": None, "box_image": None, "images": None},
        {**POPE, "category": None},
        {**REF, "id": None, "split": None},
        {**QUESTION_ANSWER, "question_id": None, "id": None, "category": None, "tags": None},
        {**IMAGE_TEXT, "id": None, "conversations": None},
        {**OPENAI, "id": None, "conversations": None},
        {**SHAREGPT, "system": None, "id": None, "image": None},
    ],
)
def test_null_in_an_optional_column_counts_as_absent(tmp_path: Path, row: dict[str, Any]) -> None:
    absent = {key: value for key, value in row.items() if value is not None}
    both = [
        list(iter_samples(write_rows(tmp_path / "data.jsonl", [value]))) for value in (row, absent)
    ]
    assert both[0] == both[1] != []


def test_null_in_a_required_column_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.json", [LLAVA, {**LLAVA, "conversations": None}])
    with pytest.raises(DataError, match=r"entry 2: conversations: expected .*, got None"):
        read_samples(path)


HALF = "\ud83d"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"id": HALF}, "id"),
        ({"note": {"by": ["x", HALF]}}, "note.by[1]"),
        (
            {"conversations": [{"from": "human", "value": f"<image>{HALF}"}]},
            "conversations[0].value",
        ),
    ],
)
@pytest.mark.parametrize("lines", [True, False])
def test_half_a_character_is_named(
    tmp_path: Path, change: dict[str, Any], key: str, lines: bool
) -> None:
    whole = {**LLAVA, "note": "\N{GRINNING FACE}"}  # written as a pair, which is a whole one
    rows = [whole, {**LLAVA, **change}, whole]
    text = "".join(f"{json.dumps(row)}\n" for row in rows) if lines else json.dumps(rows)
    path = tmp_path / f"data.json{'l' if lines else ''}"
    path.write_text(text)
    samples, report = read_samples(path, skip_bad_rows=True)
    assert (len(samples), report.broken) == (2, 1)
    (error,) = report.errors
    assert (error.line if lines else error.entry, error.key) == (2, key)
    assert "got U+D83D, half of a character" in str(error)
    str(error).encode()


def test_half_a_character_in_an_object_is_named(tmp_path: Path) -> None:
    content = _with(CAPTIONS, "annotations", caption=f"A {HALF}")
    path = write_rows(tmp_path / "captions.json", content)
    with pytest.raises(DataError, match=r"captions\.json: annotations\[\d\].caption: .*U\+D83D"):
        read_samples(path)


def test_two_annotations_of_one_question_are_an_error(tmp_path: Path) -> None:
    """Which of them holds is not clear, so the question has none."""
    twice = {"annotations": [{**ANSWERS["annotations"][0], "question_type": t} for t in "abc"]}
    report = check_file(write_vqa(tmp_path, answers=twice), options=SourceOptions(str(tmp_path)))
    assert (report.samples, report.broken) == (0, 1)
    assert "annotations[1].question_id: 42 is there twice" in str(report.errors[0])


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_annotations_are_named(tmp_path: Path, name: str) -> None:
    content, key, message = BROKEN_FILES[name]
    path = write_rows(tmp_path / "data.json", content)
    report = check_file(path, options=SourceOptions(str(tmp_path)))
    assert report.broken >= 1
    assert report.errors[0].key == key
    assert message in str(report.errors[0])
    with pytest.raises(DataError) as caught:
        list(iter_samples(path))
    assert str(caught.value) == str(report.errors[0])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"multiple_choice_answer": ""}, "annotations[0].multiple_choice_answer"),
        ({"answers": []}, "annotations[0].answers"),
        ({"answers": [{"answer": 2}]}, "annotations[0].answers[0].answer"),
        ({"answers": ["2"]}, "annotations[0].answers[0]"),
        ({"question_id": None}, "annotations[0].question_id"),
        ({"question_id": 43}, "questions[0].question_id"),
    ],
)
def test_broken_vqa_answers_are_named(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    path = write_vqa(tmp_path, answers=_with(ANSWERS, "annotations", **changes))
    report = check_file(path, options=SourceOptions(str(tmp_path)))
    assert report.errors[0].key == key
    assert report.samples == 0


def test_a_broken_instance_leaves_its_image_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.json", _with(INSTANCES, "annotations", bbox=[1, 2]))
    samples, report = read_samples(path, skip_bad_rows=True)
    assert [sample.id for sample in samples] == ["2"]
    assert report.broken == 1


def test_vqa_answers_file_in_place_of_the_questions(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "annotations.json", ANSWERS)
    with pytest.raises(DataError, match="give the file of questions"):
        list(iter_samples(path))


def test_broken_lines_carry_their_number(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = json.dumps(LLAVA).encode()
    lines = [good, b"{broken", b"", b"[1, 2]", b'{"id": "caf\xe9"}', good, b"[" * 100_000]
    path.write_bytes(b"\n".join(lines) + b"\n")
    samples, report = read_samples(path, skip_bad_rows=True)
    assert len(samples) == report.samples == 2
    assert report.broken == 4
    assert [error.line for error in report.errors] == [2, 4, 5, 7]
    for error, part in zip(report.errors, ["not JSON", "object", "UTF-8", "JSON"], strict=True):
        assert part in str(error)
    assert "4 broken" in report.summary()
    assert f"{path}:2" in report.summary()


def test_reading_refuses_the_first_broken_row_unless_told_to_skip(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.json", [LLAVA, {**LLAVA, "image": 3}, LLAVA])
    with pytest.raises(DataError, match=r"data\.json, entry 2: image: "):
        read_samples(path)
    samples, report = read_samples(path, skip_bad_rows=True, limit=1)
    assert (len(samples), report.broken) == (1, 1)
    broken = write_rows(tmp_path / "all.json", [{**LLAVA, "image": 3}])
    with pytest.raises(DataError, match="no usable sample; the first of 1 broken rows"):
        read_samples(broken, format="llava", skip_bad_rows=True)


def test_check_lists_all_broken_rows_up_to_a_bound(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "one.png")
    rows = [LLAVA, *({**LLAVA, "image": f"{n}.png"} for n in range(30))]
    report = check_file(write_rows(tmp_path / "data.json", rows), max_listed=5)
    assert (report.samples, report.broken, len(report.errors)) == (1, 30, 5)
    assert [error.entry for error in report.errors] == [2, 3, 4, 5, 6]
    assert "no such image file" in str(report.errors[0])
    samples, _ = read_samples(tmp_path / "data.json")
    assert len(samples) == 31


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"not json", "is not JSON"),
        (b'"text"', "expected a JSON list or object"),
        (b'[{"a": 1},\n{"b": }]', r"data\.json:2: is not JSON"),
        (b'[1,\n"\xff"]', r"data\.json:2: is not UTF-8 \(byte 0xff\)"),
        (b"[" * 100_000, "is not"),
        (b"[]", "no readable record"),
        (b'[{"foo": 1}]', "its first keys: 'foo'"),
        (b'{"annotations": []}', "in no known format"),
    ],
)
def test_files_broken_as_a_whole(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        detect_format(path)
    report = check_file(path)
    assert (report.broken, report.samples) == (1, 0)


def test_missing_files_and_wrong_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(iter_samples(tmp_path / "absent.json"))
    path = write_rows(tmp_path / "data.json", [LLAVA])
    with pytest.raises(UsageError, match="did you mean 'llava'"):
        list(iter_samples(path, format="lava"))
    with pytest.raises(DataError, match="expected one JSON object for format 'vqa'"):
        list(iter_samples(path, format="vqa"))
    with pytest.raises(DataError, match="conversations"):
        list(iter_samples(write_rows(tmp_path / "other.json", [POPE]), format="llava"))
