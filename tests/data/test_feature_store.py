"""The feature store: exact bits, crash safety, limits, and keys that keep features apart."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
import torch

from manyeyes.data import feature_store
from manyeyes.data.feature_store import FeatureStore, content_id
from manyeyes.errors import DataError, UsageError, WriteError

KEY = {"encoder": "clip@abc", "preprocessing": "pad-336", "levels": "1-24"}


def _store(root: Path, dtype: torch.dtype = torch.float32, **options: float) -> FeatureStore:
    return FeatureStore(root, KEY, (2, 3, 4), dtype, **options)


def _features(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 2, 3, 4, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_features_come_back_bit_for_bit_in_any_order(tmp_path: Path, dtype: torch.dtype) -> None:
    features = _features(5, dtype)
    if dtype.is_floating_point:
        features[0, 0, 0] = torch.tensor([float("nan"), -0.0, float("inf"), 1e-40]).to(dtype)
    written = _store(tmp_path, dtype).write(list("abc"), features[:3])
    assert written == 3 * 24 * dtype.itemsize
    _store(tmp_path, dtype).write(list("de"), features[3:])
    store = _store(tmp_path, dtype)
    order = [3, 0, 4, 4, 1]
    read = store.read(["abcde"[index] for index in order])
    assert (read.dtype, read.shape) == (dtype, (5, 2, 3, 4))
    assert torch.equal(read.view(torch.uint8), features[order].view(torch.uint8))
    assert len(store) == 5
    assert "a" in store


def test_missing_names_each_id_once_in_order(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write(["b"], _features(1))
    assert store.missing(["c", "b", "a", "c"]) == ["c", "a"]
    with pytest.raises(DataError, match="2 of 3 images are not stored, as 'c'"):
        store.read(["c", "b", "a"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_a_row_without_images_reads_features_of_none(tmp_path: Path, dtype: torch.dtype) -> None:
    store = _store(tmp_path, dtype)
    store.write(["b"], _features(1, dtype))
    read = store.read([])
    assert (read.dtype, read.shape) == (dtype, (0, 2, 3, 4))
    assert torch.cat([read, store.read(["b"])]).shape == (1, 2, 3, 4)


@pytest.mark.parametrize("change", ["encoder", "preprocessing", "levels"])
def test_another_key_is_another_store(tmp_path: Path, change: str) -> None:
    _store(tmp_path).write(["a"], _features(1))
    other = FeatureStore(tmp_path, {**KEY, change: "x"}, (2, 3, 4), torch.float32)
    assert other.missing(["a"]) == ["a"]
    assert _store(tmp_path, torch.bfloat16).missing(["a"]) == ["a"]
    assert _store(tmp_path).missing(["a"]) == []


@pytest.mark.parametrize("damage", ["half data", "no data", "half index", "no index", "temporary"])
def test_half_written_shards_do_not_count_and_are_rebuilt(tmp_path: Path, damage: str) -> None:
    store = _store(tmp_path)
    store.write(["a", "b"], _features(2))
    (data,) = store.folder.glob("*.bin")
    index = data.with_suffix(".json")
    if damage == "half data":
        os.truncate(data, data.stat().st_size // 2)
    elif damage == "no data":
        data.unlink()
    elif damage == "half index":
        os.truncate(index, index.stat().st_size // 2)
    elif damage == "no index":
        index.unlink()
    else:
        index.rename(index.with_name(f"{index.name}.77.tmp"))
    again = _store(tmp_path)
    assert again.missing(["a", "b"]) == ["a", "b"]
    again.write(["a", "b"], _features(2))
    assert torch.equal(_store(tmp_path).read(["a", "b"]), _features(2))


def test_a_crash_between_data_and_index_leaves_no_half_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)
    store.write(["a"], _features(1))
    replace = Path.replace

    def die_at_index(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".json":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", die_at_index)
    with pytest.raises(WriteError, match=r"\.json: .*the disk is full"):
        store.write(["b"], _features(1))
    monkeypatch.undo()
    again = _store(tmp_path)
    assert again.missing(["a", "b"]) == ["b"]
    assert torch.equal(again.read(["a"]), _features(1))


def test_a_full_disk_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"\.bin: cannot be written: the disk is full"):
        store.write(["a"], _features(1))
    assert [path.name for path in store.folder.iterdir()] == ["store.json"]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


def shard_of(store: FeatureStore, image_id: str) -> Path:
    return store.folder / f"{store._places[image_id][0]}.bin"


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
def test_a_damaged_shard_is_found_when_it_is_first_read(tmp_path: Path, damage: str) -> None:
    writer = _store(tmp_path)
    writer.write(["a", "b"], _features(2))
    writer.write(["c"], _features(1))
    store, path = _store(tmp_path), shard_of(writer, "a")
    if damage == "a bit":
        flip_a_bit(path)
    elif damage == "cut":
        os.truncate(path, path.stat().st_size - 100)
    else:
        path.unlink()
    assert torch.equal(store.read(["c"]), _features(1))
    with pytest.raises(DataError, match=r"\.bin: is damaged: .* its 2 images are computed anew"):
        store.read(["b"])
    assert store.missing(["a", "b", "c"]) == ["a", "b"]
    again = _store(tmp_path)
    assert again.missing(["a", "b", "c"]) == ["a", "b"]
    again.write(["a", "b"], _features(2))
    assert torch.equal(_store(tmp_path).read(["b", "a"]), _features(2)[[1, 0]])


def test_a_shard_is_compared_once_however_often_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image_id in "abc":
        _store(tmp_path).write([image_id], _features(1))
    store = _store(tmp_path)
    monkeypatch.setattr(feature_store, "_OPEN_SHARDS", 1)
    crc32, compared = feature_store.zlib.crc32, []
    monkeypatch.setattr(feature_store.zlib, "crc32", lambda x: compared.append(1) or crc32(x))
    for _ in range(3):
        store.read(["a", "b", "c"])
    assert len(compared) == 3


def test_a_shard_that_another_process_writes_again_is_waited_for(tmp_path: Path) -> None:
    """Two processes computed the same images, with other last bits."""
    store, other = _store(tmp_path), _store(tmp_path)
    store.write(["a"], _features(1))
    index = shard_of(store, "a").with_suffix(".json")
    other.write(["a"], _features(1) + 1)
    written = index.read_bytes()
    index.unlink()  # the moment between the other's two files
    back = threading.Timer(0.3, index.write_bytes, [written])
    back.start()
    assert torch.equal(store.read(["a"]), _features(1) + 1)
    back.join()


def test_the_limit_is_checked_before_writing(tmp_path: Path) -> None:
    store = _store(tmp_path, max_gb=200e-9)
    assert store.estimate_bytes(2) == 192
    store.write(["a", "b"], _features(2))
    with pytest.raises(UsageError, match="beyond max_gb"):
        store.write(["c"], _features(1))
    assert len(list(store.folder.glob("*.bin"))) == 1


def test_other_processes_writes_are_seen_after_refresh(tmp_path: Path) -> None:
    first, second = _store(tmp_path), _store(tmp_path)
    first.write(["a"], _features(1))
    assert second.missing(["a"]) == ["a"]
    second.refresh()
    assert torch.equal(second.read(["a"]), _features(1))


OF_ANOTHER_MACHINE = ".x.bin.00000000-7-0.unfinished"


def test_what_killed_processes_left_is_swept_when_old(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write(["a"], _features(1))
    for name in (OF_ANOTHER_MACHINE, "orphan.bin", "young.bin"):
        (store.folder / name).write_bytes(b"half")
        if name != "young.bin":
            os.utime(store.folder / name, (0, 0))
    for path in store.folder.glob("*.json"):
        os.utime(path.with_suffix(".bin"), (0, 0)) if path.name != "store.json" else None
    names = {path.name for path in _store(tmp_path).folder.iterdir()}
    assert "young.bin" in names
    assert not names & {OF_ANOTHER_MACHINE, "orphan.bin"}
    assert torch.equal(_store(tmp_path).read(["a"]), _features(1))


def test_more_shards_than_open_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "_OPEN_SHARDS", 2)
    store, features = _store(tmp_path), _features(5)
    for index in range(5):
        store.write([str(index)], features[index : index + 1])
    assert torch.equal(store.read(list("0123401234")), features.repeat(2, 1, 1, 1))
    assert len(store._maps) == 2


@pytest.mark.parametrize(
    ("ids", "features"),
    [
        (["a"], torch.zeros(2, 2, 3, 4)),
        (["a"], torch.zeros(1, 2, 3, 5)),
        (["a"], torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)),
        (["a", "a"], torch.zeros(2, 2, 3, 4)),
        ([], torch.zeros(0, 2, 3, 4)),
    ],
)
def test_features_that_do_not_fit_are_refused(
    tmp_path: Path, ids: list[str], features: torch.Tensor
) -> None:
    store = _store(tmp_path)
    with pytest.raises(UsageError, match="expected"):
        store.write(ids, features)
    assert len(store) == 0


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be used"):
        _store(tmp_path / "file")
    with pytest.raises(UsageError, match="at least 1"):
        FeatureStore(tmp_path, KEY, (0, 3), torch.float32)
    store = _store(tmp_path)
    (store.folder / "store.json").write_text(json.dumps({"key": {}}))
    with pytest.raises(DataError, match="another key"):
        _store(tmp_path)


def test_content_ids_follow_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    assert content_id(path) == content_id(b"abc") != content_id(b"abd")
    assert content_id(b"abc").startswith("ba7816bf")
    with pytest.raises(DataError, match="no such file"):
        content_id(tmp_path / "none.png")
