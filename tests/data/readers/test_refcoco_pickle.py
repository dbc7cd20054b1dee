"""RefCOCO's own files: samples per sentence, splits, and pickles that are more than data."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from manyeyes.data.containers.pickles import load_plain_pickle
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import check_file, detect_format, iter_samples
from manyeyes.errors import DataError

INSTANCES = {
    "images": [{"id": 5, "file_name": "COCO_train2014_000000000005.jpg"}],
    "annotations": [{"id": 50, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "cat"}],
}
REF = {
    "ref_id": 9,
    "ann_id": 50,
    "image_id": 5,
    "split": "val",
    "file_name": "COCO_train2014_000000000005_50.jpg",
    "sentences": [{"sent_id": 1, "sent": "left cat"}, {"sent_id": 2, "sent": "the caf\xe9 cat"}],
}


def _files(folder: Path, refs: Any, protocol: int = 2) -> Path:
    (folder / "instances.json").write_text(json.dumps(INSTANCES))
    path = folder / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_one_sample_per_sentence(tmp_path: Path, protocol: int) -> None:
    path = _files(tmp_path, [REF, {**REF, "split": "testA"}], protocol)
    assert detect_format(path) == "refcoco_pickle"
    samples = list(iter_samples(path, options=SourceOptions("/pics", split="val")))
    assert [sample.meta["expression"] for sample in samples] == ["left cat", "the café cat"]
    assert samples[0].images == ("/pics/COCO_train2014_000000000005.jpg",)
    assert samples[0].turns[1].boxes == (((1, 2, 4, 6),),)
    assert samples[0].meta["ref_id"] == 9
    assert len(list(iter_samples(path))) == 4


def test_texts_of_python_2(tmp_path: Path) -> None:
    path = _files(tmp_path, [])
    path.write_bytes(pickle.dumps([REF], 2).replace(b"left cat", b"left c\xe4t"))
    with pytest.raises(DataError, match="not a pickle of plain data"):
        list(iter_samples(path))  # the text is declared as UTF-8 and is not
    string = b"U\x08left c\xe4t"  # a byte string, as Python 2 wrote them
    data = pickle.dumps([REF], 2).replace(b"X\x08\x00\x00\x00left cat", string)
    path.write_bytes(data)
    assert next(iter_samples(path)).meta["expression"] == "left cät"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"ann_id": 51}, "refs[0].ann_id"),
        ({"image_id": 6}, "refs[0].image_id"),
        ({"sentences": None}, "refs[0].sentences"),
        ({"sentences": [{"sent_id": 1, "sent": ""}]}, "refs[0].sentences[0].sent"),
    ],
)
def test_broken_references_are_named(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    report = check_file(_files(tmp_path, [{**REF, **change}]), options=SourceOptions("."))
    assert report.broken == 1
    assert report.errors[0].key == key


def test_unknown_splits_name_the_known_ones(tmp_path: Path) -> None:
    path = _files(tmp_path, [REF])
    with pytest.raises(DataError, match="nothing for split 'test'; splits: val"):
        list(iter_samples(path, options=SourceOptions(".", split="test")))


class _Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_anything(tmp_path: Path) -> None:
    path = _files(tmp_path, [_Attack(tmp_path / "hacked")])
    with pytest.raises(DataError, match=r"it asks for posix\.mkdir"):
        detect_format(path)
    assert not (tmp_path / "hacked").exists()
    with pytest.raises(DataError, match="OrderedDict"):
        detect_format(_files(tmp_path, [OrderedDict(REF)]))


@pytest.mark.parametrize("data", [b"", b"not a pickle", b"\x80\x02]", b"\x80\x02}."])
def test_damaged_pickles(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(data)
    with pytest.raises(DataError, match="refs"):
        detect_format(path)
    with pytest.raises(DataError, match="no such file"):
        detect_format(tmp_path / "absent.p")


@pytest.mark.parametrize("key", [None, 1, (1, 2)])
def test_keys_that_are_no_texts_are_refused(key: object, tmp_path: Path) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([{"ref_id": 1, "sentences": [{key: 1}]}], protocol=2))
    with pytest.raises(DataError, match=re.escape(f"texts as keys, got {key!r}")):
        load_plain_pickle(path)
