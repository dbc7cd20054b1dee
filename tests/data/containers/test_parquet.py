"""Parquet files with images: rows of any row format, images read one at a time."""

from __future__ import annotations

import builtins
import pickle
from pathlib import Path
from typing import Any

import pytest

from manyeyes.data.containers import parquet
from manyeyes.data.dataset import load_images
from manyeyes.data.files import check_file, detect_format, read_samples
from manyeyes.errors import DataError, UsageError
from manyeyes.records import PackedImage
from packed import CHAT, png

pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory-mapped copies go to a folder of the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    parquet.open_table.cache_clear()


def write(path: Path, rows: list[dict[str, Any]], *, plain: bool = False) -> Path:
    """A file as ``datasets`` writes it, or (plain) without its notes about features."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(rows)
    if not plain:
        import datasets

        table = datasets.Dataset.from_list(rows).data.table
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def cell(shade: int, name: str | None = None) -> dict[str, Any]:
    return {"bytes": png(shade), "path": name}


@pytest.mark.parametrize("plain", [True, False])
def test_conversations_with_images(tmp_path: Path, plain: bool) -> None:
    rows = [{"id": f"r{n}", "image": cell(n, f"{n}.png"), **CHAT} for n in range(5)]
    path = write(tmp_path / "train.parquet", rows, plain=plain)
    assert detect_format(path) == "llava"
    samples, report = read_samples(path)
    assert (report.samples, samples[3].id) == (5, "r3")
    assert samples[3].images == (f"{path}/3/3.png",)
    for number in (4, 0, 2):
        assert load_images(samples[number])[0].getpixel((0, 0)) == (number, 0, 0)
    (image,) = pickle.loads(pickle.dumps(samples[1])).images
    assert isinstance(image, PackedImage)
    assert image.read() == png(1)


def test_lists_of_images_and_empty_cells(tmp_path: Path) -> None:
    text = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pair = [{"role": "user", "content": "<image><image>"}, text[1]]
    rows = [
        {"images": [cell(1), cell(2)], "messages": pair},
        {"images": None, "messages": text},
        {"images": [], "messages": text},
    ]
    samples, _ = read_samples(write(tmp_path / "train.parquet", rows))
    assert [i.getpixel((0, 0))[0] for i in load_images(samples[0])] == [1, 2]
    assert samples[1].images == samples[2].images == ()
    assert samples[0].images[1] == f"{tmp_path}/train.parquet/0/images-1"


def test_images_of_one_name_in_one_row_stay_two_images(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "<image><image>"}, {"role": "assistant", "content": "Hi"}]
    rows = [{"images": [cell(1, "image.png"), cell(2, "image.png")], "messages": talk}]
    (sample,), _ = read_samples(write(tmp_path / "train.parquet", rows))
    assert [i.getpixel((0, 0))[0] for i in load_images(sample)] == [1, 2]
    assert len(set(sample.images)) == 2, "what is known of images is kept by their text"


def test_paths_without_bytes_start_at_the_image_folder(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": None, "path": "a/one.png"}, "caption": "A cube."},
        {"image": {"bytes": None, "path": "../two.png"}, "caption": "A ball."},
        {"image": None, "caption": "Nothing."},
    ]
    path = write(tmp_path / "captions.parquet", rows)
    samples, report = read_samples(path, image_root=tmp_path / "pics", skip_bad_rows=True)
    assert samples[0].images == (str(tmp_path / "pics/a/one.png"),)
    assert "leads out of the image folder" in str(report.errors[0])
    assert "image: is missing" in str(report.errors[1])
    assert check_file(path).broken == 3


def test_raw_bytes_in_a_column_called_image(tmp_path: Path) -> None:
    rows = [{"image": png(7), "question": "What?", "answer": "A cube."}]
    samples, report = read_samples(write(tmp_path / "vqa.parquet", rows))
    assert report.format == "question_answer"
    assert load_images(samples[0])[0].getpixel((0, 0)) == (7, 0, 0)


def test_shards(tmp_path: Path) -> None:
    for number in range(2):
        rows = [{"image": cell(number), "caption": f"Part {number}."}]
        write(tmp_path / f"train-0000{number}-of-00002.parquet", rows)
    samples, _ = read_samples(tmp_path / "train-{00000..00001}-of-00002.parquet")
    assert [sample.turns[-1].text for sample in samples] == ["Part 0.", "Part 1."]


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [{"image": cell(1), "caption": "A."}])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.parquet: is no readable parquet file"):
        read_samples(path)
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        read_samples(tmp_path / "gone.parquet")


def test_a_file_that_changes_later_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [{"image": cell(1), "caption": "A."}] * 3)
    samples, _ = read_samples(path)
    path.unlink()
    write(path, [{"picture": cell(1), "caption": "A."}])
    parquet.open_table.cache_clear()
    with pytest.raises(DataError, match="has changed"):
        samples[2].images[0].read()  # type: ignore[attr-defined]


def test_without_datasets_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "train.parquet", [{"image": cell(1), "caption": "A."}])
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'manyeyes\[parquet\]'"):
        read_samples(path)
