"""Damaged data files: each is a named error, or exactly the samples that stand in it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import data_rows as rows
from attacks import damaged_bytes, mutated, strict_json, within
from manyeyes.data.files import read_samples
from manyeyes.errors import DataError, ManyEyesError
from manyeyes.records import Sample


def several(row: dict[str, Any], count: int = 5) -> list[dict[str, Any]]:
    """Rows that differ in their ids and in the first text that is said."""
    found = []
    for number in range(count):
        one = json.loads(json.dumps(row).replace("What", f"{number}: what"))
        key = "question_id" if "question_id" in one else "id"
        found.append({**one, key: number + 10})
    return found


FILES: dict[str, Callable[[], Any]] = {
    "llava.json": lambda: several(rows.LLAVA),
    "llava.jsonl": lambda: several(rows.LLAVA),
    "sharegpt.json": lambda: several(rows.SHAREGPT),
    "messages.jsonl": lambda: several(rows.OPENAI),
    "pope.jsonl": lambda: several(rows.POPE),
    "refs.jsonl": lambda: several(rows.REF),
    "captions.json": lambda: rows.CAPTIONS,
    "instances.json": lambda: rows.INSTANCES,
}
ROWS = frozenset(name for name in FILES if name not in ("captions.json", "instances.json"))
"""Files of rows that have nothing to do with each other."""


def text_of(name: str, content: Any) -> str:
    if name.endswith("l"):
        return "".join(f"{json.dumps(row)}\n" for row in content)
    return json.dumps(content, indent=1)


def parsed(name: str, data: bytes) -> Any:
    """What stands in a file; ValueError where it is no JSON, or not UTF-8."""
    text = data.decode("utf-8-sig")
    if name.endswith("l"):
        return [strict_json(line) for line in text.split("\n") if line.strip()]
    return strict_json(text)


def read(path: Path) -> list[Sample]:
    """The samples of a file, without what depends on its name."""
    with within(20.0):
        samples, _ = read_samples(path, image_root="images")
    return [replace(sample, meta={}) for sample in samples]


def refusal(path: Path) -> str | None:
    """Why a file cannot be read, by an error that names it; None where it can."""
    try:
        read(path)
    except ManyEyesError as error:
        assert isinstance(error, DataError) and error.file == str(path), error
        assert str(error) and "\ufffd" not in str(error)
        return str(error)
    return None


def texts(value: Any) -> Iterator[str]:
    """All texts inside JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from texts(member)


def check_sane(sample: Sample, said: set[str]) -> None:
    """Every turn is a text, and comes out of the file."""
    for turn in sample.turns:
        assert isinstance(turn.text, str)
        core = turn.text.replace("<image>", "").replace("<boxes>", "").strip()
        assert any(core in one or one.strip() in core for one in said), turn


def attack_bytes(name: str, seed: int, times: int, folder: Path) -> int:
    """Damage a file's bytes; return how often it was refused."""
    random_, refused = random.Random(f"{name} {seed}"), 0
    content = FILES[name]()
    whole = text_of(name, content).encode()
    path, clean = folder / name, folder / "clean" / name
    clean.parent.mkdir()
    for _ in range(times):
        data, what = damaged_bytes(whole, random_)
        path.write_bytes(data)
        said = refusal(path)
        refused += said is not None
        try:
            found = parsed(name, data)
        except (ValueError, RecursionError):
            assert said is not None, f"{name}: {what}"
            continue
        clean.write_text(text_of(name, found), "utf-8", "surrogatepass")
        if said is None:
            assert read(path) == read_again(clean, path), f"{name}: {what}"
        elif found:
            assert refusal(clean) is not None, f"{name}: {what}: {said}"
    return refused


def read_again(clean: Path, path: Path) -> list[Sample]:
    """The samples of the same content, written anew."""
    assert clean.name == path.name
    return read(clean)


def attack_rows(name: str, seed: int, times: int, folder: Path) -> int:
    """Change one row of a file; the others must come out as before, or none at all."""
    random_, refused = random.Random(f"{name} {seed}"), 0
    content = FILES[name]()
    path = folder / name
    path.write_text(text_of(name, content))
    before = read(path)
    for _ in range(times):
        place = random_.randrange(len(content)) if name in ROWS else 0
        changed, what = mutated(content[place] if name in ROWS else content, random_)
        new = [*content[:place], changed, *content[place + 1 :]] if name in ROWS else changed
        path.write_text(text_of(name, new), "utf-8", "surrogatepass")
        said = refusal(path)
        if said is not None:
            refused += 1
            continue
        after = read(path)
        if name in ROWS:
            assert len(after) == len(before), f"{name}: {what}"
            others = [i for i in range(len(before)) if i != place]
            assert [after[i] for i in others] == [before[i] for i in others], f"{name}: {what}"
            check_sane(after[place], set(texts(changed)))
    return refused


@pytest.mark.parametrize("name", sorted(FILES))
def test_damaged_bytes(name: str, tmp_path: Path) -> None:
    assert attack_bytes(name, 0, 15, tmp_path) > 3


@pytest.mark.parametrize("name", sorted(FILES))
def test_changed_rows(name: str, tmp_path: Path) -> None:
    assert attack_rows(name, 0, 20, tmp_path) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILES))
def test_many_damages(name: str, tmp_path: Path) -> None:
    refused = attack_bytes(name, 1, 200, tmp_path), attack_rows(name, 1, 300, tmp_path)
    assert min(refused) > 3
    print(f"{name}: refused {refused[0]} of 200 damages, {refused[1]} of 300 changed rows")
