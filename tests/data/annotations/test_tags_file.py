"""Tags files: written, read, joined with samples; shuffled, empty, broken and incomplete ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from manyeyes.data.annotations.tags import check_tags_file, read_tags, with_tags, write_tags
from manyeyes.data.files import read_samples
from manyeyes.data.mixture import fingerprint
from manyeyes.errors import DataError, UsageError
from manyeyes.recipes.blocks import DataSource
from manyeyes.recipes.sources import locate_source
from manyeyes.records import Sample, TagFeatures
from manyeyes.world.language.tags import TAGS, tags_of
from manyeyes.world.make import make_world
from manyeyes.world.sample import sample_scene

FOUND = (
    TagFeatures((("cat", "dog"), ()), ((0.91234567, 0.7), ())),
    TagFeatures((("sky",),), ((1.0,),)),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "tags.jsonl"
    assert write_tags(file, ["a.png", "deep/b.png", "/c.png"], FOUND) == 3
    first = json.loads(file.read_text().splitlines()[0])
    assert first == {"image": "a.png", "tags": ["cat", "dog"], "scores": [0.9123, 0.7]}
    assert read_tags(file, "images") == {
        "images/a.png": ("cat", "dog"),
        "images/deep/b.png": (),
        "/c.png": ("sky",),
    }


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield FOUND[0]
        raise DataError("a picture is broken")

    with pytest.raises(DataError, match="broken"):
        write_tags(tmp_path / "tags.jsonl", ["a.png", "b.png"], broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"tags": []}', r"tags.jsonl:1: image: is missing"),
        ('{"image": "a.png"}', r"tags.jsonl:1: tags: is missing"),
        ('{"image": "a.png", "tags": "cat"}', "tags: expected a list of texts"),
        ('{"image": "a.png", "tags": [1]}', "tags: expected a list of texts, got 1"),
        ('{"image": "a.png", "tags": []}\n{"image": "a.png", "tags": []}', ":2: .*is there twice"),
        ('{"image": "../a.png", "tags": []}', "leads out of the image folder"),
        ("[]", "expected an object"),
    ],
)
def test_broken_rows_say_where(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "tags.jsonl").write_text(lines + "\n")
    with pytest.raises(DataError, match=message):
        read_tags(tmp_path / "tags.jsonl", "images")


def test_every_broken_row_and_every_image_without_tags_is_told(tmp_path: Path) -> None:
    path, root = tmp_path / "tags.jsonl", tmp_path
    good = [f'{{"image": "{name}.png", "tags": []}}' for name in "ab"]
    path.write_text("\n".join([good[0], '{"image": "c.png", "tags": [1]}', good[0], good[1]]))
    report = check_tags_file(path, root)
    assert (report.format, report.samples, report.broken) == ("tags", 2, 2)
    assert [error.line for error in report.errors] == [2, 3]
    known = [Sample("s", (str(root / "b.png"), str(root / "c.png")), ())]
    lacking = check_tags_file(path, root, known).errors[-1]
    assert "has no tags of 1 of 2 images" in str(lacking)
    absent = check_tags_file(tmp_path / "none.jsonl", root)
    assert (absent.samples, absent.broken) == (0, 1)


def samples() -> list[Sample]:
    return [Sample("s", ("a", "b"), ()), Sample("t", (), ()), Sample("u", ("c",), ())]


def test_samples_get_the_tags_of_their_images() -> None:
    tags = {"a": ("1",), "b": (), "c": ("2", "3")}
    given = with_tags(samples(), tags, "given", file="f")
    assert [sample.tags for sample in given] == [(("1",), ()), (), (("2", "3"),)]
    empty = with_tags(samples(), {}, "empty", file="")
    assert [sample.tags for sample in empty] == [((), ()), (), ((),)]
    assert len({fingerprint(samples()), fingerprint(given), fingerprint(empty)}) == 3


def test_a_file_that_lacks_an_image_names_it() -> None:
    with pytest.raises(DataError, match=r"f: has no tags of 2 of 3 images, first 'b'"):
        with_tags(samples(), {"a": ()}, "given", file="f")


def test_shuffled_tags_are_those_of_other_images() -> None:
    tags = {str(number): (str(number),) for number in range(20)}
    every = [Sample("s", (name,), ()) for name in tags]
    moved = [s.tags[0][0] for s in with_tags(every, tags, "shuffled", file="f") if s.tags]
    assert sorted(moved) == sorted(tags)
    assert all(new != own for new, own in zip(moved, tags, strict=True))
    again = with_tags(every, tags, "shuffled", file="f", seed=1)
    assert moved == [s.tags[0][0] for s in with_tags(every, tags, "shuffled", file="f") if s.tags]
    assert moved != [s.tags[0][0] for s in again if s.tags]
    with pytest.raises(UsageError, match="cannot be shuffled"):
        with_tags(every[:1], {"0": ()}, "shuffled", file="f")


def test_a_recipes_source_names_its_tags_file(tmp_path: Path) -> None:
    data = tiny.save_data(tmp_path / "data", samples=3)
    lines = [{"image": f"{number}.png", "tags": [f"tag{number}"]} for number in range(3)]
    (data / "tags.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    every = [Sample(str(n), (str(data / f"{n}.png"),), ()) for n in range(3)]
    located = locate_source(DataSource(path="train.json", tags="tags.jsonl"), data)  # type: ignore[arg-type]
    assert [s.tags for s in located.tagged(every, 0)] == [((f"tag{n}",),) for n in range(3)]
    empty = locate_source(DataSource(path="train.json", tags={"use": "empty"}), data)  # type: ignore[arg-type]
    assert [s.tags for s in empty.tagged(every, 0)] == [((),)] * 3
    assert locate_source(DataSource(path="train.json"), data).tagged(every, 0) is every
    absent = locate_source(DataSource(path="train.json", tags="none.jsonl"), data)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such file"):
        absent.tagged(every, 0)


def test_the_world_writes_oracle_tags(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "w", images={"train": 3, "test": 2}, formats=["tags"]).folder
    tags = read_tags(folder / "tags" / "train.jsonl", folder / "images")
    assert [Path(path).name for path in tags] == ["000000.png", "000001.png", "000002.png"]
    for index, (path, names) in enumerate(tags.items()):
        assert Path(path).is_file()
        assert names == tags_of(sample_scene("train", index)) and set(names) <= set(TAGS)


@pytest.mark.parametrize(
    ("value", "tags"), [("cat, dog", (("cat", "dog"),)), (["cat"], (("cat",),)), ("", ((),))]
)
def test_lion_records_carry_their_own_tags(
    tmp_path: Path, value: object, tags: tuple[tuple[str, ...], ...]
) -> None:
    row = {"image": "a.png", "question": "Where?", "answer": "[0.1,0.2,0.3,0.4]"}
    lion = {**row, "category": "region", "tags": value}
    (tmp_path / "lion.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(lion)}\n")
    (plain, tagged), _ = read_samples(tmp_path / "lion.jsonl", image_root=tmp_path)
    assert (plain.task, plain.tags) == ("vqa", None)
    assert (tagged.task, tagged.tags) == ("region", tags)
    (tmp_path / "lion.jsonl").write_text(json.dumps({**lion, "tags": 3}) + "\n")
    with pytest.raises(DataError, match="tags: expected a list of texts, or one text, got 3"):
        read_samples(tmp_path / "lion.jsonl", image_root=tmp_path)
