"""Karpathy, GQA, Visual Genome, Shikra, plain rows: good files, and what is wrong with bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import data_rows as good
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import check_file, detect_format, iter_samples, read_samples
from manyeyes.errors import DataError
from manyeyes.records import Sample, Turn


def _read(path: Path, **options: Any) -> list[Sample]:
    return list(iter_samples(path, options=SourceOptions("pics", **options)))


def _error(path: Path, **options: Any) -> DataError:
    report = check_file(path, options=SourceOptions("pics", **options))
    assert report.broken == 1, report.errors
    return report.errors[0]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (good.KARPATHY, "karpathy"),
        (good.GQA, "gqa"),
        (good.REGIONS, "visual_genome"),
        (good.GENOME_QUESTIONS, "visual_genome"),
        ([good.IMAGE_TEXT], "image_text"),
        ([good.QUESTION_ANSWER], "question_answer"),
        ([good.SHIKRA], "shikra"),
        ([good.SHIKRA_REASONING], "shikra"),
        ([good.SHIKRA_SENTENCE], "shikra"),
        ([good.POINT_QUESTION], "shikra"),
        ([good.POINTING], "shikra"),
        ([{**good.LLAVA, "images": ["one.png"]}], "sharegpt"),
        ({**good.SHAREGPT}, "sharegpt"),
    ],
)
def test_detected_by_content(tmp_path: Path, content: Any, name: str) -> None:
    assert detect_format(good.write_rows(tmp_path / "data.json", content)) == name


def test_statements_with_labels_are_no_captions(tmp_path: Path) -> None:
    row = {"image": "one.png", "caption": "The cat is on the mat.", "label": 0}
    with pytest.raises(DataError, match="is in no known format"):
        detect_format(good.write_rows(tmp_path / "vsr.jsonl", [row]))


def test_karpathy(tmp_path: Path) -> None:
    path = good.write_rows(tmp_path / "dataset_coco.json", good.KARPATHY)
    first, second, third = _read(path)
    assert first.images == ("pics/val2014/COCO_val2014_000000000008.jpg",)
    assert (first.id, first.turns[-1].text, second.turns[-1].text) == ("4", "A cube.", "One cube .")
    assert first.meta["references"] == ("A cube.", "One cube .")
    assert third.images == ("pics/flickr.jpg",)
    assert third.meta["image_id"] == 1


def test_karpathys_train_takes_restval(tmp_path: Path) -> None:
    path = good.write_rows(tmp_path / "dataset_coco.json", good.KARPATHY)
    assert [sample.id for sample in _read(path, split="train")] == ["4", "5"]
    assert [sample.id for sample in _read(path, split="test")] == ["6"]
    error = _error(path, split="val")
    assert "holds nothing for split 'val'; splits: restval, test" in str(error)


def test_gqa_short_and_full_answers(tmp_path: Path) -> None:
    path = good.write_rows(tmp_path / "val_balanced_questions.json", good.GQA)
    (short,) = _read(path)
    assert short.turns == (
        Turn("user", "<image>\nWhat color is it?"),
        Turn("assistant", "red"),
    )
    assert (short.id, short.images) == ("001", ("pics/2354786.jpg",))
    assert short.meta["types"]["structural"] == "query"
    (full,) = _read(path, full_answer=True, image_name="gqa/{image_id}.png")
    assert full.turns[-1].text == "It is red."
    assert full.images == ("pics/gqa/2354786.png",)


def test_gqa_test_questions_have_no_answers(tmp_path: Path) -> None:
    row = {key: good.GQA["001"][key] for key in ("question", "imageId")}
    path = good.write_rows(tmp_path / "test_all_questions.json", {"001": row})
    assert "001.answer: is missing" in str(_error(path))
    (sample,) = _read(path, require_answers=False)
    assert [turn.role for turn in sample.turns] == ["user"]


def test_genome_regions_ask_for_the_phrase(tmp_path: Path) -> None:
    path = good.write_rows(tmp_path / "region_descriptions.json", good.REGIONS)
    (sample,) = _read(path)
    assert sample.turns == (
        Turn("user", "<image>\nWhat is at <boxes>?", (((1, 2, 4, 6),),)),
        Turn("assistant", "a red cube"),
    )
    assert (sample.id, sample.images) == ("70", ("pics/7.jpg",))


def test_genome_folders_come_from_image_data(tmp_path: Path) -> None:
    data = [{"image_id": 7, "url": "https://host/x/VG_100K_2/7.jpg", "coco_id": None}]
    good.write_rows(tmp_path / "image_data.json", data)
    path = good.write_rows(tmp_path / "question_answers.json", good.GENOME_QUESTIONS)
    (sample,) = _read(path)
    assert sample.images == ("pics/VG_100K_2/7.jpg",)
    good.write_rows(tmp_path / "image_data.json", [{**data[0], "image_id": 8}])
    assert "qas[0].image_id: expected an id of image_data.json, got 7" in str(_error(path))


def test_plain_rows(tmp_path: Path) -> None:
    (caption,) = _read(good.write_rows(tmp_path / "captions.jsonl", [good.IMAGE_TEXT]))
    assert (caption.id, caption.turns[-1].text, caption.task) == ("c", "A cube.", "caption")
    (answer,) = _read(good.write_rows(tmp_path / "qa.jsonl", [good.QUESTION_ANSWER]))
    assert (answer.id, answer.turns[0].text) == ("9", "<image>\nWhat?")


def test_shikra_conversation(tmp_path: Path) -> None:
    (sample,) = _read(good.write_rows(tmp_path / "train.jsonl", [good.SHIKRA]))
    assert sample.turns == (
        Turn("user", "What joins <boxes> in <image>?", (((0, 0, 2, 2), (1, 1, 3, 3)),)),
        Turn(
            "assistant",
            "A rope <boxes> at <points>, not <boxes>.",
            (((4, 4, 5, 5),), ((0, 0, 2, 2),)),
            points=(((2, 1),),),
        ),
    )


def test_shikra_without_an_image_placeholder_gets_one(tmp_path: Path) -> None:
    row = json.loads(json.dumps(good.SHIKRA).replace(" in <image>", ""))
    (sample,) = _read(good.write_rows(tmp_path / "train.jsonl", [row]))
    assert sample.turns[0].text == "<image>\nWhat joins <boxes>?"


def test_shikra_phrases_are_followed_by_their_boxes(tmp_path: Path) -> None:
    rows = [good.SHIKRA_REASONING, good.SHIKRA_SENTENCE]
    reasoning, sentence = _read(good.write_rows(tmp_path / "train.jsonl", rows))
    assert reasoning.turns[0].text == "<image>\nIs the cube <boxes> red?"
    assert reasoning.turns[1].text == "The cube <boxes> is beside a ball <boxes> . Yes."
    assert reasoning.turns[1].boxes == (((0, 0, 2, 2),), ((1, 1, 3, 3),))
    assert sentence.images == ("pics/36979.jpg",)
    assert sentence.turns[1].text == "A cube <boxes> on a table."


def test_shikra_questions_by_box_and_by_point(tmp_path: Path) -> None:
    rows = [good.POINT_QUESTION, good.POINTING]
    by_box, by_point, box, point = _read(good.write_rows(tmp_path / "train.jsonl", rows))
    assert (by_box.id, by_point.id) == ("train:1-box", "train:1-point")
    assert by_box.turns[0].boxes == (((0, 0, 2, 2),),)
    assert by_point.turns[0].points == (((1, 1.5),),)
    assert box.turns[0].text.count("<boxes>") == 2
    assert box.turns[1] == Turn("assistant", "<boxes>", (((1, 1, 3, 3),),))
    assert point.turns[1] == Turn("assistant", "<points>", points=(((2, 2),),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": []}, "target: expected an object"),
        ({"target": {"boxes": [[0, 0, 2, 2]]}}, "one of 1 targets, got 1"),
        ({"conversations": [{"from": "human", "value": "<boxes>"}]}, "1 in the text, 0 here"),
        ({"image": "../x.png"}, "leads out of the image folder"),
    ],
)
def test_broken_shikra_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = good.write_rows(tmp_path / "train.jsonl", [{**good.SHIKRA, **change}])
    report = check_file(path, format="shikra", options=SourceOptions("pics"))
    assert message in str(report.errors[0])


def test_points_of_our_own_rows_go_to_their_turns(tmp_path: Path) -> None:
    row = {
        **good.LLAVA,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is at <points>?"},
            {"from": "gpt", "value": "See <boxes>."},
        ],
        "boxes": [[[0, 0, 9, 9]]],
        "points": [[[1, 2], [3, 4]]],
    }
    (sample,) = _read(good.write_rows(tmp_path / "train.json", [row]))
    assert sample.turns[0].points == (((1, 2), (3, 4)),)
    error = _error(good.write_rows(tmp_path / "train.json", [{**row, "points": [[[1, 2, 3]]]}]))
    assert error.key == "points[0][0]"
    error = _error(good.write_rows(tmp_path / "train.json", [{**row, "points": []}]))
    assert "1 <points> in the text but 0 groups of points" in str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", [good.IMAGE_TEXT]),
        ("a.json", good.KARPATHY),
        ("b.json", good.CAPTIONS),
    ],
)
def test_captions_answer_the_prompt_of_their_source(
    tmp_path: Path, name: str, content: Any
) -> None:
    path = good.write_rows(tmp_path / name, content)
    for prompt, text in ((None, "Describe the image."), ("", ""), ("A photo of", "A photo of")):
        asked = {sample.turns[0].text for sample in _read(path, caption_prompt=prompt)}
        assert asked == {f"<image>\n{text}"}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_lacks_a_key_does_not_decide_the_format(tmp_path: Path, place: int) -> None:
    """A POPE question without its label was read as a caption, and all others with it."""
    rows = [{"question_id": n, "image": "a.png", "text": "Cat?", "label": "no"} for n in range(3)]
    del rows[place]["label"]
    path = tmp_path / "pope.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(DataError, match="label: is missing") as caught:
        read_samples(path)
    assert caught.value.line == place + 1
    path.write_text(json.dumps(rows[place]) + "\n")
    with pytest.raises(DataError, match="is in no known format"):
        read_samples(path)
