"""Only ordinary files are opened, and only images are copied: pipes, devices, secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data_rows import LLAVA
from manyeyes.data.containers.tables import table_rows
from manyeyes.data.convert import convert_file
from manyeyes.data.exclusion import read_exclusion
from manyeyes.data.feature_store import content_id
from manyeyes.data.files import check_file, read_samples
from manyeyes.errors import DataError, ImageError
from manyeyes.images.reading import image_size, load_image

SECRET = b"-----BEGIN PRIVATE KEY-----"


def pipe(folder: Path, name: str) -> Path:
    path = folder / name
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".tar", ".parquet", ".p", ".txt"])
def test_a_pipe_in_place_of_a_data_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = pipe(tmp_path, f"train{suffix}")
    report = check_file(path)
    assert (report.samples, report.broken) == (0, 1)
    assert str(report.errors[0]) == f"{path}: is a pipe or a device; expected an ordinary file"
    with pytest.raises(DataError, match="is a pipe or a device"):
        read_samples(path, skip_bad_rows=True)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(table_rows(path, ())),
        lambda path: read_exclusion([str(path)]),
        lambda path: content_id(str(path)),
        lambda path: load_image(str(path)),
        lambda path: image_size(str(path)),
        lambda path: check_file(path.parent / "rows.json"),
    ],
)
def test_pipes_are_opened_nowhere(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = pipe(tmp_path, "one.txt")
    (tmp_path / "rows.json").write_text(json.dumps([{**LLAVA, "image": "one.txt"}]))
    try:
        found = read(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert getattr(found, "broken", 0) == 1


def rows(folder: Path, image: str) -> Path:
    Image.new("RGB", (2, 2)).save(folder / "good.png")
    path = folder / "rows.json"
    talk = [{**LLAVA, "id": name, "image": name} for name in ("good.png", image)]
    path.write_text(json.dumps(talk))
    return path


@pytest.mark.parametrize("kind", ["secret", "device", "pipe", "missing", "empty"])
def test_parquet_holds_images_and_nothing_else(tmp_path: Path, kind: str) -> None:
    """A row may name any file of the machine."""
    image = tmp_path / kind
    if kind == "secret":
        image.write_bytes(SECRET)
    elif kind == "device":
        image = Path("/dev/zero")
    elif kind == "pipe":
        pipe(tmp_path, kind)
    elif kind == "empty":
        image.touch()
    source, out = rows(tmp_path, str(image)), tmp_path / "out.parquet"
    with pytest.raises(ImageError, match=rf"sample '{image}': {image}: "):
        convert_file(source, out, "parquet")
    assert not out.exists()
    report = convert_file(source, out, "parquet", skip_bad_rows=True)
    assert (report.samples, report.broken) == (1, 1)
    assert str(image) in str(report.errors[0])
    assert SECRET not in out.read_bytes()
    (sample,), _ = read_samples(out)
    assert load_image(sample.images[0]).size == (2, 2)
