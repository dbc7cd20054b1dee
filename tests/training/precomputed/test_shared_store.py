"""One folder of encoder outputs for many runs: what is shared, what is not, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.feature_store import FeatureStore
from manyeyes.data.files import read_samples
from manyeyes.data.mixture import Mixture
from manyeyes.errors import DataError, UsageError, WriteError
from manyeyes.images.reading import load_image
from manyeyes.recipes import model_config
from manyeyes.training.precomputed import encoder_store, features
from manyeyes.training.precomputed.encoder_store import GB, StorePlace
from manyeyes.training.precomputed.features import FeatureDataset, cached_dataset

CPU = torch.device("cpu")
Pair = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


def build(block: dict[str, Any], seed: int = 0) -> Pair:
    """A model of frozen encoders and its processor."""
    config = model_config(block)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config, seed=seed, dtype=torch.float32)
    model.encoders.requires_grad_(False)
    return model, processor


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    folder = tiny.save_data(tmp_path_factory.mktemp("data"), samples=5)
    return Mixture([read_samples(folder / "train.json")[0]], None, 0, mode="concatenate")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """(encoder, images) of every call of an encoder that fills a store."""
    calls: list[tuple[str, int]] = []
    encode = features._encode

    def note(model: Any, processor: Any, paths: Any, names: Any, stores: Any) -> Any:
        calls.extend((name, len(paths)) for name in names)
        return encode(model, processor, paths, names, stores)

    monkeypatch.setattr(features, "_encode", note)
    yield calls


def store(
    pair: Pair, mixture: Mixture, folder: Path, max_gb: float = 1.0, **options: Any
) -> FeatureDataset | None:
    place = StorePlace(folder, max_gb, shared=options.pop("shared", True))
    dtype = options.pop("dtype", torch.float32)
    return cached_dataset(mixture, *pair, place, dtype=dtype, device=CPU)


def levels(block: dict[str, Any], name: str, wanted: list[int]) -> dict[str, Any]:
    """The block with other levels of one encoder, which gets another name as well."""
    changed = [
        {**e, "levels": wanted, "name": f"my-{name}"} if e["name"] == name else e
        for e in block["encoders"]
    ]
    return {**block, "encoders": changed}


def test_arms_share_what_they_have_in_common(
    parts: Path, mixture: Mixture, tmp_path: Path, encoded: list[tuple[str, int]]
) -> None:
    block = tiny.model_block(parts)
    store(build(block), mixture, tmp_path)
    assert encoded == [("clip", 5), ("dinov2", 5)]
    encoded.clear()
    deep = levels(tiny.model_block(parts, encoders=("clip",)), "clip", [3])
    found = store(build(deep, seed=7), mixture, tmp_path)
    assert encoded == [], "another name, fusion seed and one of the levels: nothing to compute"
    assert found is not None and found[0]["features_my-clip"].shape == (1, 1, 16, 16)
    store(build(levels(block, "dinov2", [2, 3, 4])), mixture, tmp_path)
    assert encoded == [("my-dinov2", 5)]


def test_a_new_level_writes_that_level_alone(parts: Path, mixture: Mixture, tmp_path: Path) -> None:
    block = tiny.model_block(parts, encoders=("dinov2",))
    store(build(block), mixture, tmp_path)
    before = sum(path.stat().st_size for path in tmp_path.glob("*/*.bin"))
    store(build(levels(block, "dinov2", [2, 3, 4])), mixture, tmp_path)
    after = sum(path.stat().st_size for path in tmp_path.glob("*/*.bin"))
    assert before == 2 * 5 * 16 * 16 * 4
    assert after - before == 5 * 16 * 16 * 4


def test_other_weights_do_not_share(
    parts: Path, mixture: Mixture, tmp_path: Path, encoded: list[tuple[str, int]]
) -> None:
    block = tiny.model_block(parts, encoders=("clip",))
    store(build(block), mixture, tmp_path / "store")
    other = tiny.save_clip(tmp_path / "other", seed=5)
    block["encoders"][0]["checkpoint"] = str(other)
    store(build(block), mixture, tmp_path / "store")
    assert encoded == [("clip", 5), ("clip", 5)]


@pytest.mark.parametrize(
    "change",
    [{"normalization": "half"}, {"final_norm": True}, {"keep_prefix": True}, {"image_size": 24}],
)
def test_what_changes_the_features_is_part_of_the_key(
    parts: Path,
    mixture: Mixture,
    tmp_path: Path,
    encoded: list[tuple[str, int]],
    change: dict[str, Any],
) -> None:
    block = tiny.model_block(parts, encoders=("dinov2",))
    store(build(block), mixture, tmp_path)
    block["encoders"][0].update(change)
    store(build(block), mixture, tmp_path)
    assert len(encoded) == 2


def test_architecture_and_geometry_are_part_of_the_key(
    parts: Path, mixture: Mixture, tmp_path: Path, encoded: list[tuple[str, int]]
) -> None:
    block = tiny.model_block(parts, encoders=("clip",))
    store(build(block), mixture, tmp_path)
    store(build({**block, "geometry": "squash"}), mixture, tmp_path)
    model, processor = build(block)
    model.encoders["clip"].backbone.config.hidden_act = "relu"  # same weights, other function
    store((model, processor), mixture, tmp_path)
    assert len(encoded) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_features_are_the_encoders_bit_for_bit(
    parts: Path, mixture: Mixture, tmp_path: Path, dtype: torch.dtype
) -> None:
    block = tiny.model_block(parts)
    block["encoders"][1]["keep_prefix"] = True
    model, processor = build(block)
    found = store((model, processor), mixture, tmp_path, dtype=dtype)
    assert found is not None
    paths = features.unique_images(mixture)
    pixels = processor.pixels([load_image(path) for path in paths])
    for name in ("clip", "dinov2"):
        lower = dtype == torch.bfloat16
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
            direct = model.encoders[name](pixels[f"pixel_values_{name}"])
        stored = found.stores[name].read([found.ids[path] for path in paths])
        for index, level in enumerate(direct.levels):
            expected = torch.cat([*direct.prefix[index : index + 1], level], dim=1).to(dtype)
            assert torch.equal(stored[:, index].view(torch.uint8), expected.view(torch.uint8))


def test_a_mean_of_levels_is_stored_as_one(parts: Path, mixture: Mixture, tmp_path: Path) -> None:
    block = tiny.model_block(parts)
    block["fusion"] = {"name": "comm", "merge": "mean"}
    model, processor = build(block)
    found = store((model, processor), mixture, tmp_path)
    assert found is not None
    paths = features.unique_images(mixture)
    ids = [found.ids[path] for path in paths]
    stored = {f"features_{name}": found.stores[name].read(ids) for name in found.stores}
    assert {value.shape[1] for value in stored.values()} == {1}
    with torch.no_grad():
        expected = model.encode_images(**processor.pixels([load_image(path) for path in paths]))
        reduced = model.encode_images(**stored)
    assert expected.tokens is not None and reduced.tokens is not None
    assert torch.equal(expected.tokens, reduced.tokens)


def test_a_killed_writer_leaves_a_usable_store(
    parts: Path, mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = build(tiny.model_block(parts, encoders=("clip",)))
    monkeypatch.setattr(features, "CHUNK", 2)
    write, calls = FeatureStore.write, []

    def die(self: FeatureStore, ids: Any, tensor: Any) -> int:
        calls.append(ids)
        if len(calls) == 5:  # two of three levels of the second chunk are written
            raise KeyboardInterrupt
        return write(self, ids, tensor)

    monkeypatch.setattr(FeatureStore, "write", die)
    with pytest.raises(KeyboardInterrupt):
        store(pair, mixture, tmp_path)
    monkeypatch.undo()
    found = store(pair, mixture, tmp_path)
    whole = store(pair, mixture, tmp_path / "whole")
    assert found is not None and whole is not None
    for index in range(5):
        assert torch.equal(found[index]["features_clip"], whole[index]["features_clip"])
    sizes = [
        sum(path.stat().st_size for path in place.glob("*/*.bin"))
        for place in (tmp_path, tmp_path / "whole")
    ]
    assert sizes[0] == sizes[1], "nothing is written twice"


def test_damaged_features_are_refused_and_computed_anew(
    parts: Path, mixture: Mixture, tmp_path: Path, encoded: list[tuple[str, int]]
) -> None:
    pair = build(tiny.model_block(parts, encoders=("clip",)))
    found = store(pair, mixture, tmp_path)
    assert found is not None
    right = [row["features_clip"] for row in map(found.__getitem__, range(5))]
    shard = next(iter(tmp_path.glob("*/*.bin")))
    shard.write_bytes(b"\x7f" + shard.read_bytes()[1:])
    damaged = store(pair, mixture, tmp_path)
    assert damaged is not None
    with pytest.raises(DataError, match="is damaged: not what its checksum says"):
        [damaged[index] for index in range(5)]
    again = store(pair, mixture, tmp_path)
    assert again is not None and encoded == [("clip", 5), ("clip", 5)]
    assert all(torch.equal(again[n]["features_clip"], right[n]) for n in range(5))


def test_no_room_is_refused_before_anything_is_written(
    parts: Path,
    mixture: Mixture,
    tmp_path: Path,
    encoded: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = build(tiny.model_block(parts, encoders=("clip",)))
    size = 3 * 5 * 16 * 16 * 4 / GB
    with pytest.raises(UsageError, match=r"would hold .* its limit is .*--max-gb"):
        store(one, mixture, tmp_path, max_gb=0.9 * size)
    assert encoded == [] and not list(tmp_path.glob("*/*.bin"))
    store(one, mixture, tmp_path, max_gb=size)
    both = build(tiny.model_block(parts))
    with pytest.raises(UsageError, match="would hold"):
        store(both, mixture, tmp_path, max_gb=size)
    assert len(encoded) == 1, "the limit is that of the folder, not of one run"
    store(one, mixture, tmp_path, max_gb=0.1 * size)  # what is there may be read under any limit
    usage = (100, 90, 10)
    monkeypatch.setattr(encoder_store.shutil, "disk_usage", lambda path: _Usage(*usage))
    with pytest.raises(UsageError, match="the disk has"):
        store(both, mixture, tmp_path)
    with caplog.at_level(logging.WARNING, logger="manyeyes"):
        assert store(both, mixture, tmp_path, shared=False) is None
    assert "feature store is off for 5 images: the disk has" in caplog.text


class _Usage:
    def __init__(self, total: int, used: int, free: int) -> None:
        self.total, self.used, self.free = total, used, free


def test_a_disk_that_fills_up_is_named_and_nothing_is_lost(
    parts: Path, mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = build(tiny.model_block(parts, encoders=("clip",)))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    one = build(levels(tiny.model_block(parts, encoders=("clip",)), "clip", [1]))
    store(one, mixture, tmp_path)
    # the descriptions of two more stores are small enough; their features are not
    opened = [s.folder for s in _open(pair, tmp_path).stores]
    assert len(opened) == 3
    monkeypatch.setattr("manyeyes.files.replacing.os.fsync", full)
    with pytest.raises(WriteError, match="the disk is full"):
        store(pair, mixture, tmp_path)
    monkeypatch.undo()
    found = store(pair, mixture, tmp_path)
    assert found is not None and found[4]["features_clip"].shape == (1, 3, 16, 16)


def _open(pair: Pair, folder: Path) -> Any:
    return features.open_store(*pair, "clip", StorePlace(folder, 1.0), torch.float32)


def test_a_trained_encoder_is_left_out_with_a_message(
    parts: Path, mixture: Mixture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = build(tiny.model_block(parts))
    model.encoders["clip"].requires_grad_(True)
    with caplog.at_level(logging.WARNING, logger="manyeyes"):
        found = store((model, processor), mixture, tmp_path)
    assert "feature store is off for encoder 'clip': it is trained" in caplog.text
    assert found is not None
    row = found[0]
    assert {"pixel_values_clip", "features_dinov2"} <= set(row)
    assert not {"features_clip", "pixel_values_dinov2"} & set(row)
    model.encoders["dinov2"].requires_grad_(True)
    assert store((model, processor), mixture, tmp_path) is None


def test_the_size_is_said_before_anything_is_written(
    parts: Path, mixture: Mixture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = build(tiny.model_block(parts, encoders=("clip",)))
    with caplog.at_level(logging.INFO, logger="manyeyes"):
        store(pair, mixture, tmp_path)
        store(pair, mixture, tmp_path)
    first, second = [r.getMessage() for r in caplog.records if "features of" in r.getMessage()]
    assert first.startswith("features of 5 images: 1.54e-05 GB, of which 1.54e-05 GB are to be")
    assert second.startswith("features of 5 images: 1.54e-05 GB, of which 0 GB are to be")
