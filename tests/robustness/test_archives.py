"""Damaged archives: a named error, or every picture beside its own words, none of them lost."""

from __future__ import annotations

import json
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks import damaged_bytes, mutated, within
from manyeyes.data.containers import parquet
from manyeyes.data.containers.pickles import load_plain_pickle
from manyeyes.data.files import read_samples
from manyeyes.errors import DataError, ImageError, ManyEyesError
from manyeyes.images.reading import load_image
from manyeyes.records import PackedImage, Sample
from packed import make_tar, png

COUNT = 6
Members = list[tuple[str, bytes]]


def words(number: int) -> str:
    return f"This is the square of shade {number * 10}."


def row(number: int) -> dict[str, object]:
    return {
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": words(number)},
        ]
    }


def members() -> Members:
    found: Members = []
    for number in range(COUNT):
        found.append((f"{number:03d}.png", png(number * 10)))
        found.append((f"{number:03d}.json", json.dumps(row(number)).encode()))
    return found


def read(path: Path) -> list[Sample]:
    with within(20.0):
        samples, _ = read_samples(path)
    return samples


def check_pairs(samples: list[Sample], said: str, *, complete: bool) -> None:
    """Whole words stand beside the picture that they were written with, or a damaged one."""
    numbers = {words(number): number for number in range(COUNT)}
    shown = {png(number * 10): number for number in range(COUNT)}
    for sample in samples:
        (image,) = sample.images
        assert isinstance(image, PackedImage), said
        number = numbers.get(sample.turns[-1].text)
        beside = shown.get(image.read())
        assert None in (number, beside) or number == beside, said
        try:
            load_image(image)
        except ImageError:
            continue
    assert not complete or len(samples) == COUNT, said


def attack_bytes(path: Path, seed: int, times: int) -> int:
    """Damage an archive's bytes; return how often it was refused."""
    random_, refused = random.Random(f"{path.name} {seed}"), 0
    whole = path.read_bytes()
    for _ in range(times):
        data, what = damaged_bytes(whole, random_)
        path.write_bytes(data)
        parquet.open_table.cache_clear()
        try:
            samples = read(path)
        except ManyEyesError as error:
            assert isinstance(error, DataError) and str(error.file).startswith(str(path)), what
            refused += 1
            continue
        check_pairs(samples, f"{path.name}: {what}", complete=True)
    return refused


def moved(found: Members, random_: random.Random) -> Members:
    found.insert(random_.randrange(len(found)), found.pop(random_.randrange(len(found))))
    return found


def twice(found: Members, random_: random.Random) -> Members:
    return [*found, random_.choice(found)]


def renamed(found: Members, random_: random.Random) -> Members:
    place = random_.randrange(len(found))
    names = ["../x.png", "/x.png", "x", ".png", "\x1b[2J.png", random_.choice(found)[0], "a\\b.png"]
    found[place] = (random_.choice(names), found[place][1])
    return found


def dropped(found: Members, random_: random.Random) -> Members:
    del found[random_.randrange(len(found))]
    return found


def emptied(found: Members, random_: random.Random) -> Members:
    place = random_.randrange(len(found))
    found[place] = (found[place][0], b"")
    return found


def changed(found: Members, random_: random.Random) -> Members:
    place = 1 + 2 * random_.randrange(COUNT)
    new, _ = mutated(json.loads(found[place][1]), random_)
    found[place] = (found[place][0], json.dumps(new).encode())
    return found


CHANGES: dict[str, Callable[[Members, random.Random], Members]] = {
    "moved": moved,
    "twice": twice,
    "renamed": renamed,
    "dropped": dropped,
    "emptied": emptied,
    "changed": changed,
}


def attack_members(name: str, seed: int, times: int, folder: Path) -> int:
    """Change the members of a tar; return how often it was refused."""
    random_, refused = random.Random(f"{name} {seed}"), 0
    for _ in range(times):
        path = make_tar(folder / "rows.tar", CHANGES[name](members(), random_))
        try:
            samples = read(path)
        except ManyEyesError as error:
            assert isinstance(error, DataError) and error.file == str(path)
            refused += 1
            continue
        with tarfile.open(path) as tar:
            names = tar.getnames()
        images = [sample for sample in samples if sample.images]
        check_pairs(images, f"{name}: {names}", complete=False)
        assert len(samples) >= COUNT - 1 - (name == "renamed"), names
    return refused


def test_damaged_tars(tmp_path: Path) -> None:
    assert attack_bytes(make_tar(tmp_path / "rows.tar", members()), 0, 40) > 3


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_tars_of_other_members(name: str, tmp_path: Path) -> None:
    attack_members(name, 0, 8, tmp_path)


def attack_pickle(seed: int, times: int, folder: Path) -> int:
    random_, refused = random.Random(seed), 0
    content = [{"ref_id": n, "sentences": [{"sent": words(n)}], "split": "val"} for n in range(5)]
    path = folder / "refs.p"
    for number in range(times):
        data, what = damaged_bytes(pickle.dumps(content, protocol=number % 5), random_)
        path.write_bytes(data)
        try:
            with within(20.0):
                found = load_plain_pickle(path)
        except DataError as error:
            assert error.file == str(path)
            refused += 1
            continue
        assert is_plain(found), what
    return refused


def is_plain(value: object) -> bool:
    """Whether nothing but data came out of a pickle, however deep."""
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, bytes, bytearray, bool, int, float, complex)


def test_damaged_pickles(tmp_path: Path) -> None:
    assert attack_pickle(0, 60, tmp_path) > 20


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    pyarrow = pytest.importorskip("pyarrow")
    parquets = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{**row(n), "image": {"bytes": png(n * 10), "path": None}} for n in range(COUNT)]
    path = tmp_path / "rows.parquet"
    parquets.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path


def test_damaged_parquet(table: Path) -> None:
    assert attack_bytes(table, 0, 6) > 1


@pytest.mark.slow
def test_many_damaged_archives(table: Path, tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "rows.tar", members())
    refused = {
        "tar": attack_bytes(tar, 1, 1000),
        "pickle": attack_pickle(1, 1000, tmp_path),
        "parquet": attack_bytes(table, 1, 150),
        **{name: attack_members(name, 1, 100, tmp_path) for name in CHANGES},
    }
    assert min(refused[name] for name in ("tar", "pickle", "parquet")) > 3
    print(f"refused: {refused}")
