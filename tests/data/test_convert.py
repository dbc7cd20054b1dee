"""Every writer's files come back as the same samples; images move as they should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import data_rows as good
from manyeyes.data.containers import parquet
from manyeyes.data.convert import convert_file
from manyeyes.data.dataset import load_images
from manyeyes.data.files import iter_samples
from manyeyes.data.writers import WRITERS
from manyeyes.data.writers.contract import extra_keys
from manyeyes.errors import DataError, UsageError
from manyeyes.records import Sample
from packed import CHAT, make_tar, png

ROWS: list[dict[str, Any]] = [
    {
        "id": "boxes",
        "image": "a/one.png",
        "task": "regions",
        "boxes": [[[0, 0, 9, 9]], [[1, 1, 2, 2], [3, 3, 4, 4.5]]],
        "points": [[[5, 5]]],
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is at <boxes>?"},
            {"from": "gpt", "value": "Two cubes <boxes>, at <points>. Ünïcode\n."},
        ],
    },
    {
        "id": "two",
        "image": ["a/one.png", "two.png"],
        "system": "Be brief.",
        "box_image": 1,
        "boxes": [[[0, 0, 1, 1]]],
        "conversations": [
            {"from": "human", "value": "<image><image> Where?"},
            {"from": "gpt", "value": "<boxes>"},
        ],
    },
    {
        "id": "text",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    },
]
FILES = {"llava": ("out.json", "out.jsonl"), "messages": ("out.json", "out.jsonl")}
WHOLE = [name for name, writer in WRITERS.items() if writer.whole]
CASES = [(name, file) for name in WHOLE for file in FILES.get(name, ("out.parquet",))]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a file of all kinds of rows, and its pictures."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "one.png").write_bytes(png(1))
    (tmp_path / "in" / "two.png").write_bytes(png(2))
    path = tmp_path / "in" / "train.json"
    path.write_text(json.dumps(ROWS), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory-mapped copies go to a folder of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    parquet.open_table.cache_clear()


def shades(sample: Sample) -> list[int]:
    return [int(picture.getpixel((0, 0))[0]) for picture in load_images(sample)]


def plain(sample: Sample) -> Sample:
    return replace(sample, images=())


@pytest.mark.parametrize(("to", "file"), CASES)
@pytest.mark.parametrize("embed", [True, False])
def test_samples_come_back(source: Path, tmp_path: Path, to: str, file: str, embed: bool) -> None:
    out = tmp_path / "out" / file
    report = convert_file(source, out, to, embed=embed)
    assert (report.samples, report.broken) == (3, 0)
    before, after = list(iter_samples(source)), list(iter_samples(out))
    assert [plain(sample) for sample in after] == [plain(sample) for sample in before]
    assert [shades(sample) for sample in after] == [[1], [1, 2], []]
    if to != "parquet" or not embed:
        assert [sample.images for sample in after] == [sample.images for sample in before]
    assert sorted(path.name for path in out.parent.iterdir()) == [file]


def talk(*turns: str, **more: Any) -> dict[str, Any]:
    said = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(turns)]
    return {"image": "a/one.png", "conversations": said, **more}


@pytest.mark.parametrize(
    ("to", "file", "format"),
    [("question_answer", "out.jsonl", "question_answer"), ("vqa", "my_questions.json", "vqa")],
)
def test_one_row_for_each_answer(source: Path, to: str, file: str, format: str) -> None:
    rows = [
        talk("<image>\nIs it?", "yes", "How many?", "2", id="a"),
        talk("What?", "cat", id="b", image="two.png"),
    ]
    rows[1]["conversations"][0]["value"] = "<image>\nWhat?"
    source.write_text(json.dumps(rows))
    out = source.parent / file
    convert_file(source, out, to)
    found = list(iter_samples(out, format=format))
    said = [(s.turns[0].text, s.turns[1].text, Path(s.images[0]).name) for s in found]
    assert said == [
        ("<image>\nIs it?", "yes", "one.png"),
        ("<image>\nHow many?", "2", "one.png"),
        ("<image>\nWhat?", "cat", "two.png"),
    ]


def test_referring_expressions_are_written_and_others_are_refused(source: Path) -> None:
    box = {"boxes": [[[1, 2, 4, 6]]]}
    row = talk("<image>\nWhere is the cat? Give its box.", "<boxes>", id="a", **box)
    source.write_text(json.dumps([row]))
    out = source.parent / "refs.jsonl"
    convert_file(source, out, "refcoco")
    (found,) = iter_samples(out, format="refcoco")
    assert (found.meta["expression"], found.meta["box"]) == ("the cat", (1, 2, 4, 6))
    assert found.turns == next(iter_samples(source)).turns
    with pytest.raises(DataError, match="'a': question–answer rows hold no boxes"):
        convert_file(source, source.parent / "qa.json", "question_answer")
    source.write_text(json.dumps([talk("<image>\nWhat?", "cat", id="b")]))
    with pytest.raises(DataError, match="'b': referring expressions are answered by one box"):
        convert_file(source, source.parent / "more.jsonl", "refcoco")


def test_answers_may_be_numbers_lists_and_about_several_images(source: Path) -> None:
    rows = [
        {"image": "two.png", "question": "How many?", "answer": 3},
        {"image": ["a/one.png", "two.png"], "question": "Which?", "answers": ["b", "a", "a"]},
        {"question": "2 + 2?", "answer": "4"},
    ]
    source.write_text(json.dumps(rows))
    number, several, text = iter_samples(source)
    assert number.turns[1].text == "3"
    assert (several.turns[0].text, several.turns[1].text) == ("<image>\n<image>\nWhich?", "a")
    assert several.meta["answers"] == ("b", "a", "a")
    assert text.images == () and text.turns[0].text == "2 + 2?"
    source.write_text(
        json.dumps([{"question": "q", "answer": "x"}, {"question": "q", "answer": True}])
    )
    with pytest.raises(DataError, match="expected a text, a number or a list of texts, got True"):
        list(iter_samples(source))


@pytest.mark.parametrize(("to", "file"), CASES)
def test_paths_start_at_the_image_folder(source: Path, tmp_path: Path, to: str, file: str) -> None:
    out = tmp_path / file
    convert_file(source, out, to, image_root=source.parent, embed=False)
    text = out.read_bytes()
    assert b"a/one.png" in text and str(tmp_path).encode() not in text
    moved = [sample.images for sample in iter_samples(out, image_root="elsewhere")]
    assert moved[1] == ("elsewhere/a/one.png", "elsewhere/two.png")


@pytest.mark.parametrize(("to", "file"), CASES)
@pytest.mark.parametrize("embed", [True, False])
def test_images_out_of_containers(tmp_path: Path, to: str, file: str, embed: bool) -> None:
    members = []
    for number in range(3):
        members += [(f"p/{number}.png", png(number))]
        members += [(f"p/{number}.json", json.dumps(CHAT).encode())]
    tar = make_tar(tmp_path / "train.tar", members)
    out = tmp_path / "out" / file
    convert_file(tar, out, to, embed=embed)
    assert [shades(sample) for sample in iter_samples(out)] == [[0], [1], [2]]
    saved = sorted(str(path.relative_to(out.parent)) for path in out.parent.rglob("*.png"))
    held = to == "parquet" and embed
    assert saved == ([] if held else [f"out_images/train/p/{number}.png" for number in range(3)])


def test_images_out_of_parquet_get_safe_names(tmp_path: Path) -> None:
    rows = [{"image": png(5), "caption": "A."}]
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    convert_file(tmp_path / "in.parquet", tmp_path / "out.json", "llava")
    (sample,) = iter_samples(tmp_path / "out.json")
    assert sample.images == (str(tmp_path / "out_images/in/0/image.png"),)
    rows = [{"image": {"bytes": png(6), "path": "../../../evil"}, "caption": "A."}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "evil.parquet")
    convert_file(tmp_path / "evil.parquet", tmp_path / "b.json", "llava")
    (sample,) = iter_samples(tmp_path / "b.json")
    assert sample.images == (str(tmp_path / "b_images/evil/0/evil.png"),)


def test_any_reader_feeds_any_writer(tmp_path: Path) -> None:
    files = {
        "captions.json": good.CAPTIONS,
        "instances.json": good.INSTANCES,
        "gqa.json": good.GQA,
        "refs.json": [good.REF],
        "karpathy.json": good.KARPATHY,
        "regions.json": good.REGIONS,
        "shikra.json": [good.SHIKRA, good.POINTING],
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
        before = list(iter_samples(tmp_path / name))
        for to, file in CASES[:3]:
            out = tmp_path / to / f"{name}-{file}"
            convert_file(tmp_path / name, out, to)
            after = list(iter_samples(out))
            assert [replace(s, meta={}) for s in after] == [replace(s, meta={}) for s in before]


def test_broken_rows_stop_or_are_named(source: Path, tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[1], "conversations": []}, ROWS[2]]
    source.write_text(json.dumps(rows))
    out = tmp_path / "out.json"
    with pytest.raises(DataError, match=r"train\.json, entry 2: conversations"):
        convert_file(source, out, "llava")
    assert not out.exists() and list(tmp_path.glob(".out*")) == []
    report = convert_file(source, out, "llava", skip_bad_rows=True)
    assert (report.samples, report.broken) == (2, 1)
    assert len(list(iter_samples(out))) == 2


def test_unreadable_images_leave_no_file_behind(source: Path, tmp_path: Path) -> None:
    (source.parent / "two.png").unlink()
    with pytest.raises(DataError, match=r"sample 'two': .*two\.png: no such file"):
        convert_file(source, tmp_path / "out.parquet", "parquet")
    assert list(tmp_path.glob("*out.parquet*")) == []


@pytest.mark.parametrize(
    ("to", "file", "message"),
    [
        ("lava", "out.json", "did you mean 'llava'"),
        ("llava", "out.parquet", "ends in .json or .jsonl"),
        ("parquet", "out.json", "ends in .parquet"),
        ("llava", "in/train.json", "exists"),
    ],
)
def test_wrong_usage(source: Path, tmp_path: Path, to: str, file: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert_file(source, tmp_path / file, to)


def test_boxes_in_several_images_have_no_form(source: Path) -> None:
    (sample,) = (s for s in iter_samples(source) if s.id == "two")
    system, user, last = sample.turns
    other = replace(user, boxes=last.boxes, box_image=0)
    with pytest.raises(DataError, match="'two': its boxes lie in several images"):
        extra_keys(replace(sample, turns=(system, other, last)))
