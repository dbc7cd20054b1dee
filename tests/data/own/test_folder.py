"""A folder made of own files: what is held out, what leaks, and when it is made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from manyeyes.data.files import iter_samples
from manyeyes.data.own.folder import OwnData, OwnFiles, asked_of, prepare
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS


def picture(path: Path, place: int) -> None:
    """A square that stands elsewhere in every picture."""
    image = Image.new("RGB", (64, 48), (230, 230, 220))
    x, y = 4 + 9 * (place % 5), 3 + 11 * (place // 5)
    ImageDraw.Draw(image).rectangle((x, y, x + 14, y + 10), fill=(40 * (place % 6), 60, 120))
    image.save(path)


def talk(image: Any, question: str, answer: str, **more: Any) -> dict[str, Any]:
    count = len(image) if isinstance(image, list) else int(image is not None)
    lead = "<image>\n" * count
    said = [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": said, **more}


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    """Twelve pictures: 1 and 2 stand in one row, 11 is a smaller copy of 0, one row has none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(11):
        picture(folder / f"{number}.png", number)
    with Image.open(folder / "0.png") as first:
        first.resize((32, 24), Image.Resampling.BOX).save(folder / "11.jpg", quality=95)
    names = [f"{number}.png" for number in range(11)] + ["11.jpg"]
    rows = [
        talk(name, "Is it?", ("yes", "no")[at % 2], id=f"r{at}", room="a")
        for at, name in enumerate(names)
    ]
    rows.append(talk(["1.png", "2.png"], "Same?", "no", id="pair"))
    rows.append(talk(None, "2 + 2?", "4", id="text"))
    (tmp_path / "my.json").write_text(json.dumps(rows))
    return OwnFiles(train=(tmp_path / "my.json",), images=folder, share=0.3)


def sides(made: OwnData) -> tuple[set[str], set[str]]:
    found = []
    for name in ("train.jsonl", "test.jsonl"):
        samples = iter_samples(made.folder / name)
        found.append({Path(image).name for sample in samples for image in sample.images})
    return found[0], found[1]


def test_no_picture_and_no_copy_is_on_both_sides(files: OwnFiles, tmp_path: Path) -> None:
    seen = set()
    for seed in range(4):
        made = prepare(OwnFiles(**{**vars(files), "seed": seed}), tmp_path / f"own{seed}")
        train, test = sides(made)
        assert not train & test
        assert len(train) + len(test) == 12
        assert ({"0.png", "11.jpg"} <= train) or ({"0.png", "11.jpg"} <= test)
        assert ({"1.png", "2.png"} <= train) or ({"1.png", "2.png"} <= test)
        assert made.leaking_images == 0 and made.compared
        assert made.rows + made.test_rows == 14 and 2 <= made.test_rows <= 6
        assert "text" in {sample.id for sample in iter_samples(made.folder / "train.jsonl")}
        seen.add(frozenset(test))
    assert len(seen) > 1


def test_it_is_found_again_and_made_again_where_something_changed(
    files: OwnFiles, tmp_path: Path
) -> None:
    first = prepare(files, tmp_path / "own")
    stamp = (first.folder / "test.jsonl").stat().st_mtime_ns
    assert prepare(files, tmp_path / "own") == first
    assert (first.folder / "test.jsonl").stat().st_mtime_ns == stamp
    other = prepare(OwnFiles(**{**vars(files), "metric": "contains"}), tmp_path / "own")
    assert other.metrics == {"contains": sum(first.metrics.values())}
    assert sides(other) == sides(first)


def test_given_test_rows_are_asked_and_leaks_are_told(files: OwnFiles, tmp_path: Path) -> None:
    rows = [
        talk("0.png", "Is it?", "yes", id="copy of 11"),
        talk("5.png", "Is it?", "no", id="same"),
        talk("9.png", "Is it?", "no", id="new"),
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    train = [row for row in json.loads(files.train[0].read_text()) if row["id"] in ("r5", "r11")]
    files.train[0].write_text(json.dumps(train))
    made = prepare(OwnFiles(**{**vars(files), "test": tmp_path / "test.json"}), tmp_path / "own")
    leaks = {(Path(a).name, Path(b).name) for a, b in made.leaks}
    assert leaks == {("5.png", "5.png"), ("0.png", "11.jpg")}
    assert (made.leaking_images, made.test_images) == (2, 3)
    assert [Path(source.path) for source in made.sources] == [files.train[0]]
    assert made.benchmarks == {"question_answer": 3}
    asked = BENCHMARKS["question_answer"].items(made.folder, "test")
    assert [item.id for item in asked] == ["copy of 11", "same", "new"]
    assert (
        BENCHMARKS["question_answer"].baseline(asked, made.folder, "test").source == "train split"
    )


def test_metrics_references_and_keys_of_rows_come_along(files: OwnFiles, tmp_path: Path) -> None:
    row = talk(
        "3.png", "What?", "cat", id="a", metric="anls", references=["cat", "kitten"], room="b"
    )
    (tmp_path / "test.json").write_text(json.dumps([row]))
    made = prepare(OwnFiles(**{**vars(files), "test": tmp_path / "test.json"}), tmp_path / "own")
    (question,) = asked_of(made.folder / "test.jsonl").questions
    assert (question.metric, question.references) == ("anls", ("cat", "kitten"))
    assert question.keys["room"] == "b"


def test_what_cannot_be_used(files: OwnFiles, tmp_path: Path) -> None:
    out = tmp_path / "own"
    with pytest.raises(UsageError, match=r"'rogue'.*'rouge'"):
        prepare(OwnFiles(**{**vars(files), "metric": "rogue"}), out)
    with pytest.raises(UsageError, match="no such folder"):
        prepare(OwnFiles(**{**vars(files), "images": tmp_path / "nowhere"}), out)
    with pytest.raises(UsageError, match="between 0 and 1"):
        prepare(OwnFiles(**{**vars(files), "share": 1.5}), out)
    with pytest.raises(DataError, match="no such file"):
        prepare(OwnFiles(**{**vars(files), "train": (tmp_path / "absent.json",)}), out)
    assert files.images is not None
    (files.images / "4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png"):
        prepare(files, out)
    made = prepare(OwnFiles(**{**vars(files), "skip_bad_rows": True}), out)
    assert len(made.bad_rows) == 1 and "4.png" in made.bad_rows[0]
    files.train[0].write_text(json.dumps([talk("3.png", "a", "b"), talk("3.png", "c", "d")]))
    with pytest.raises(UsageError, match="cannot be split"):
        prepare(files, out)


def test_boxes_in_numbers_are_told_of_and_read_as_boxes_where_asked(
    files: OwnFiles, tmp_path: Path
) -> None:
    rows = [talk(f"{at}.png", "Where is it?", "[0.25,0.5,0.75,1.0]") for at in range(10)]
    (tmp_path / "my.json").write_text(json.dumps(rows))
    words = prepare(files, tmp_path / "words")
    assert set(words.metrics) == {"exact"} and words.number_answers == 10
    assert any("--text-boxes reads them as boxes" in note for note in words.notes())
    boxes = prepare(replace(files, text_boxes="lion"), tmp_path / "boxes")
    assert set(boxes.metrics) == {"iou"} and boxes.number_answers == 0
    first = next(iter_samples(boxes.folder / "train.jsonl")).turns[1]
    assert (first.text, first.boxes) == ("<boxes>", (((16.0, 24.0, 48.0, 48.0),),))
    pixels = [talk(f"{at}.png", "Where is it?", "[16, 24, 48, 48]") for at in range(10)]
    (tmp_path / "pixels.json").write_text(json.dumps(pixels))
    wrong = prepare(replace(files, train=(tmp_path / "pixels.json",), text_boxes="lion"), tmp_path)
    assert wrong.number_answers == 10
    assert any("10 answers are four numbers that are no boxes" in note for note in wrong.notes())
    given = replace(files, test=tmp_path / "my.json", text_boxes="lion")
    both = prepare(given, tmp_path / "given")
    assert [Path(source.path).name for source in both.sources] == ["train.jsonl"], "read once more"
    with pytest.raises(UsageError, match=r"no box style 'lions'.*'lion'"):
        prepare(replace(files, text_boxes="lions"), tmp_path / "none")
