"""Pictures opened before anything depends on them: each once, in threads, named in their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.data import opened_images
from manyeyes.data.files import check_file, read_samples
from manyeyes.data.opened_images import ImageOpener, open_images
from manyeyes.errors import DataError
from packed import make_tar, png


def save(folder: Path, count: int, *, cut: tuple[int, ...] = ()) -> Path:
    """Rows of one picture each; the pictures ``cut`` have a good header and no more."""
    rows: list[dict[str, Any]] = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("RGB", (40, 40), (index, 0, 0)).save(path)
        if index in cut:
            path.write_bytes(path.read_bytes()[:60])
        talk = [{"from": "human", "value": "<image>\nhi"}, {"from": "gpt", "value": "yes"}]
        rows.append({"id": f"s{index}", "image": path.name, "conversations": talk})
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder / "rows.json"


@pytest.mark.parametrize("workers", [1, 3])
def test_every_image_is_opened_once_whatever_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    save(tmp_path, 6, cut=(1, 4))
    paths = [str(tmp_path / f"{index}.png") for index in (0, 1, 1, 2, 3, 4, 5, 6)]
    opened: list[str] = []
    load = opened_images.load_image

    def note(path: str) -> Any:
        opened.append(path)
        return load(path)

    monkeypatch.setattr(opened_images, "load_image", note)
    monkeypatch.setattr(opened_images, "_CHUNK", 3)
    told: list[tuple[int, int]] = []
    found = open_images(paths, max_workers=workers, progress=lambda *n: told.append(n))
    assert list(found) == [paths[1], paths[5], paths[7]]
    assert found[paths[1]].startswith(f"{paths[1]}: is damaged")
    assert found[paths[7]] == f"{paths[7]}: no such file"
    assert sorted(opened) == sorted(set(paths))
    assert told == [(3, 7), (6, 7), (7, 7)]
    opener = ImageOpener()
    opened.clear()
    assert [list(opener(paths[:3])), list(opener(paths[1:]))] == [[paths[1]], list(found)]
    assert sorted(opened) == sorted(set(paths))


def test_rows_of_unreadable_pictures_are_broken_rows(tmp_path: Path) -> None:
    path = save(tmp_path, 5, cut=(1, 3))
    samples, report = read_samples(path, skip_bad_rows=True, open_images=open_images)
    assert [sample.id for sample in samples] == ["s0", "s2", "s4"]
    assert (report.samples, report.broken, report.images, report.unreadable) == (3, 2, 5, 2)
    assert [(error.entry, error.key) for error in report.errors] == [(2, "image"), (4, "image")]
    assert f"got {tmp_path / '1.png'}: is damaged" in str(report.errors[0])
    assert "2 broken; 2 unreadable images; first: " in report.summary()
    with pytest.raises(DataError, match=r"rows\.json, entry 2: image: .*1\.png: is damaged"):
        read_samples(path, open_images=open_images)
    _, unopened = read_samples(path, skip_bad_rows=True)
    assert (unopened.samples, unopened.broken, unopened.images) == (5, 0, 0)


def test_a_limit_counts_rows_that_can_be_read(tmp_path: Path) -> None:
    path = save(tmp_path, 6, cut=(0, 2))
    samples, report = read_samples(path, skip_bad_rows=True, limit=3, open_images=open_images)
    assert [sample.id for sample in samples] == ["s1", "s3", "s4"]
    assert (report.broken, report.images) == (2, 5)


def test_check_opens_missing_cut_and_packed_pictures(tmp_path: Path) -> None:
    path = save(tmp_path, 5, cut=(1,))
    (tmp_path / "3.png").unlink()
    report = check_file(path, tmp_path)
    assert (report.samples, report.broken, report.images, report.unreadable) == (3, 2, 4, 1)
    assert [error.entry for error in report.errors] == [2, 4]
    text = json.dumps({"caption": "a cube"}).encode()
    members = [("a.png", png(1)), ("a.json", text), ("b.png", png(2)[:50]), ("b.json", text)]
    packed = check_file(make_tar(tmp_path / "train.tar", members))
    assert (packed.samples, packed.broken, packed.images, packed.unreadable) == (1, 1, 2, 1)
    assert "train.tar, entry 2: image: expected an image that can be read" in str(packed.errors[0])


def test_nothing_readable_is_one_error(tmp_path: Path) -> None:
    path = save(tmp_path, 2, cut=(0, 1))
    with pytest.raises(DataError, match=r"the first of 2 broken rows: .*, entry 1: im"):
        read_samples(path, skip_bad_rows=True, open_images=open_images)
