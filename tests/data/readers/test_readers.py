"""Every format: a good file becomes the expected samples."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from data_rows import (
    CAPTIONS,
    INSTANCES,
    LLAVA,
    OPENAI,
    POPE,
    REF,
    SHAREGPT,
    write_rows,
    write_vqa,
)
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import detect_format, iter_samples, read_samples
from manyeyes.errors import DataError
from manyeyes.records import Sample, Turn
from packed import make_tar


def _only(path: Path) -> Sample:
    (sample,) = iter_samples(path)
    return sample


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_llava(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"data{suffix}", [LLAVA])
    assert detect_format(path) == "llava"
    assert _only(path) == Sample(
        "a",
        (str(tmp_path / "one.png"),),
        (Turn("user", "<image>\nWhat is it?"), Turn("assistant", "A cube.")),
    )


def test_llava_boxes_go_to_their_turns(tmp_path: Path) -> None:
    row = {
        **LLAVA,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is at <boxes>?"},
            {"from": "gpt", "value": "Two cubes, <boxes> and <boxes>."},
        ],
        "boxes": [[[0, 0, 9, 9]], [[1, 1, 2, 2], [3, 3, 4, 4]], [[5, 5, 6, 6.5]]],
        "task": "regions",
    }
    sample = _only(write_rows(tmp_path / "data.json", [row]))
    assert sample.turns[0].boxes == (((0, 0, 9, 9),),)
    assert sample.turns[1].boxes == (((1, 1, 2, 2), (3, 3, 4, 4)), ((5, 5, 6, 6.5),))
    assert (sample.task, sample.turns[1].box_image) == ("regions", 0)


def test_llava_text_only_rows_and_lists_of_images(tmp_path: Path) -> None:
    text = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    several = {**LLAVA, "image": ["one.png"]}
    first, second = iter_samples(write_rows(tmp_path / "mixed.json", [text, several]))
    assert (first.id, first.images) == ("mixed:1", ())
    assert second.images == (str(tmp_path / "one.png"),)


def test_sharegpt(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", [SHAREGPT])
    assert detect_format(path) == "sharegpt"
    sample = _only(path)
    assert [turn.role for turn in sample.turns] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert sample.images == (str(tmp_path / "one.png"), str(tmp_path / "two.png"))


def test_openai_messages(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.json", [OPENAI])
    assert detect_format(path) == "openai"
    sample = _only(path)
    assert sample.turns[1].text == "<image>\nWhat is it?\n<image>"
    assert sample.images == (str(tmp_path / "one.png"), str(tmp_path / "two.png"))
    plain = {
        "images": ["one.png"],
        "messages": [
            {"role": "user", "content": "<image> What?"},
            {"role": "assistant", "content": [{"type": "text", "text": "A cube."}]},
        ],
    }
    sample = _only(write_rows(tmp_path / "plain.json", [plain]))
    assert [turn.text for turn in sample.turns] == ["<image> What?", "A cube."]


def test_coco_captions(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "captions.json", CAPTIONS)
    assert detect_format(path) == "coco_captions"
    samples = list(iter_samples(path))
    assert [sample.turns[1].text for sample in samples] == ["A cube.", "A ball.", "One cube."]
    assert samples[0].meta == {"image_id": 1, "references": ("A cube.", "One cube.")}
    assert samples[1].images == (str(tmp_path / "two.png"),)


def test_coco_instances(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "instances.json", INSTANCES)
    assert detect_format(path) == "coco_instances"
    first, second = iter_samples(path)
    assert first.turns[1].text == "ball <boxes>, cube <boxes>"
    assert first.turns[1].boxes == (((0, 0, 9.5, 9),), ((1, 2, 4, 6), (5, 5, 6, 6)))
    assert first.meta["labels"] == ("cube", "ball", "cube", "cube")
    assert first.meta["crowd"] == (False, False, False, True)
    assert second.turns[1].text == "none"
    assert second.meta["boxes"] == ()


def test_refcoco(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "refs.jsonl", [REF])
    assert detect_format(path) == "refcoco"
    sample = _only(path)
    assert sample.turns[0].text == "<image>\nWhere is red cube? Give its box."
    assert sample.turns[1] == Turn("assistant", "<boxes>", (((1, 2, 4, 6),),))
    assert sample.meta == {"expression": "red cube", "box": (1, 2, 4, 6), "image_id": 9}


def test_vqa_pair(tmp_path: Path) -> None:
    path = write_vqa(tmp_path)
    assert detect_format(path) == "vqa"
    sample = _only(path)
    assert sample.images == (str(tmp_path / "COCO_val2014_000000000008.jpg"),)
    assert sample.turns == (Turn("user", "<image>\nHow many?"), Turn("assistant", "2"))
    assert sample.meta["answers"] == ("2",) * 10
    assert (sample.meta["question_type"], sample.meta["answer_type"]) == ("how many", "number")


def test_vqa_image_names_and_questions_without_answers(tmp_path: Path) -> None:
    questions = [
        {"question_id": 1, "image_id": 5, "question": "What?", "image": "own.png"},
        {"question_id": 2, "image_id": 5, "question": "Who?"},
    ]
    path = write_rows(tmp_path / "questions.json", {"questions": questions})
    with pytest.raises(DataError, match="found no annotations beside it"):
        list(iter_samples(path))
    options = SourceOptions("pics", require_answers=False, image_name="{image_id:03d}.png")
    first, second = iter_samples(path, options=options)
    assert (first.images, second.images) == (("pics/own.png",), ("pics/005.png",))
    assert [turn.role for turn in first.turns] == ["user"]
    bad = SourceOptions("pics", require_answers=False, image_name="{picture}.png")
    with pytest.raises(DataError, match="does not fit image_id 5"):
        list(iter_samples(path, options=bad))


def test_pope_lines_in_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "coco_pope_random.json"
    path.write_text(json.dumps(POPE) + "\n" + json.dumps({**POPE, "label": "yes"}) + "\n")
    assert detect_format(path) == "pope"
    first, second = iter_samples(path)
    assert (first.turns[1].text, second.turns[1].text) == ("no", "yes")
    assert first.meta["label"] == "no"


def test_pretty_printed_and_single_row_files(tmp_path: Path) -> None:
    path = tmp_path / "pretty.json"
    path.write_text(json.dumps(CAPTIONS, indent=2), encoding="utf-8-sig")
    assert detect_format(path) == "coco_captions"
    assert detect_format(write_rows(tmp_path / "one.json", POPE)) == "pope"
    assert detect_format(write_rows(tmp_path / "single.json", SHAREGPT)) == "sharegpt"
    assert len(list(iter_samples(tmp_path / "one.json"))) == 1


def test_image_paths_resolve_against_the_image_root(tmp_path: Path) -> None:
    absolute = str(tmp_path / "elsewhere" / "x.png")
    rows = [LLAVA, {**LLAVA, "image": "a/../b.png"}, {**LLAVA, "image": absolute}]
    path = write_rows(tmp_path / "data.json", rows)
    samples = list(iter_samples(path, image_root=tmp_path / "pics"))
    expected = [str(tmp_path / "pics" / name) for name in ("one.png", "b.png")]
    assert [sample.images[0] for sample in samples] == [*expected, absolute]
    relative = list(iter_samples(path, image_root="."))
    assert relative[0].images == ("one.png",)
    with pytest.raises(DataError, match="leads out"):
        bad = write_rows(tmp_path / "bad.json", [{**LLAVA, "image": "../one.png"}])
        list(iter_samples(bad, image_root="."))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.tar"])
def test_an_error_that_is_kept_holds_no_file_open(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("tar"):
        make_tar(path, [("0.json", b"{}"), ("1.json", b"{}")])
    else:
        path.write_text("{}\n{}\n")
    for reading in (read_samples, lambda path, format: list(iter_samples(path, format=format))):
        with pytest.raises(DataError) as caught:
            reading(path, format="llava")
        assert caught.value.file == str(path)
        assert str(path) not in [file.path for file in psutil.Process().open_files()]


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), True, ["a", float("nan")], "", []])
def test_answers_that_nobody_can_give_are_named(tmp_path: Path, answer: object) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"image": "0.png", "question": "How many?", "answer": answer}]))
    with pytest.raises(DataError, match="expected a text, a number or a list of texts") as caught:
        read_samples(path, format="question_answer")
    assert caught.value.key == "answer"
