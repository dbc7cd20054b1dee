"""Files and folders appear whole or not at all, and nothing of anybody else's is lost."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from manyeyes import files
from manyeyes.errors import UsageError, WriteError
from manyeyes.files import (
    MARK,
    UNFINISHED,
    check_mark,
    check_outputs,
    check_rows,
    marked_folder,
    naming,
    remove_folder,
    remove_unfinished,
    write_bytes,
    write_json,
    write_text,
    written_file,
    written_folder,
)
from processes import forked, kill

BIG = 1 << 14


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the operating system refuse to write more than ``size`` bytes into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)


def content(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def fill(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


@pytest.fixture(params=["exchanged", "renamed", "mounted"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The three ways in which a folder takes the place of another."""
    if request.param == "renamed":
        monkeypatch.setattr(files.replacing, "_exchange", lambda one, other: False)
    if request.param == "mounted":
        monkeypatch.setattr(files.replacing, "_cannot_move", lambda place: place.is_dir())
    return str(request.param)


def test_a_file_is_old_or_new_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old ü")
    with pytest.raises(KeyError), written_file(path) as aside:
        aside.write_text("half")
        assert path.read_text(encoding="utf-8") == "old ü"
        raise KeyError
    assert content(tmp_path) == {"deep/a.txt": "old ü"}
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full (No space left on device)"),
        (errno.EDQUOT, "the disk quota is used up (Disk quota exceeded)"),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
def test_a_refusal_says_why_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    write_text(tmp_path / "a.txt", "old")
    refuse(monkeypatch, number)
    with pytest.raises(WriteError) as caught:
        write_text(tmp_path / "a.txt", "new")
    assert str(caught.value).startswith(f"{tmp_path / 'a.txt'}: ") and said in str(caught.value)
    assert content(tmp_path) == {"a.txt": "old"}


def test_libraries_that_hide_the_number_are_understood(tmp_path: Path) -> None:
    writers: list[Callable[[Path], None]] = [
        lambda folder: save_file({"a": torch.zeros(BIG)}, folder / "a.safetensors"),
        lambda folder: torch.save(torch.zeros(BIG), folder / "a.pt"),
        lambda folder: (folder / "a").write_bytes(bytes(BIG)) and None,
    ]
    for write in writers:
        with (
            pytest.raises(WriteError, match=r"/m: cannot be written: .*before is unchanged$"),
            largest_file(1 << 10),
            written_folder(tmp_path / "m") as aside,
        ):
            write(aside)
        assert not list(tmp_path.iterdir())


def test_errors_about_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), naming(tmp_path / "a"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(RuntimeError, match=r"^ours$"), naming(tmp_path / "a"):
        raise RuntimeError("ours")


def test_what_is_no_file_or_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="folder: cannot be written: it exists and is not a file"):
        write_bytes(tmp_path / "folder", b"")
    with pytest.raises(WriteError, match="/dev/null: cannot be written"):
        write_bytes("/dev/null", b"")
    with (
        pytest.raises(WriteError, match=r"e: .*not a folder"),
        written_folder(tmp_path / "file"),
    ):
        pass
    with pytest.raises(WriteError, match=r"a\.txt: cannot be written: File exists: .*/file;"):
        write_text(tmp_path / "file" / "a.txt", "")
    assert content(tmp_path) == {"file": "mine"}


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "real.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"
    assert (tmp_path / "real.txt").stat().st_mode & 0o777 == 0o640


def test_files_of_a_folder_are_as_readable_as_the_user_asks(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_folder(tmp_path / "m") as aside:
            save_file({"a": torch.zeros(2)}, aside / "a.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "m" / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, way: str) -> None:
    for number in ("1", "2"):
        with written_folder(tmp_path / "m") as aside:
            assert not any(aside.iterdir())
            fill(aside, **{"always": number, f"only{number}": "x"})
    assert content(tmp_path) == {"m/always": "2", "m/only2": "x"}
    assert os.listdir(tmp_path) == ["m"]


def test_files_that_are_not_ours_stay(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    fill(folder, config="old", stale="old", thesis="mine")
    fill(folder / "sub", words="old", notes="mine")
    (folder / "link").symlink_to("thesis")
    with written_folder(folder, ours=lambda name: name == "stale") as aside:
        fill(aside, config="new")
        (aside / "sub").mkdir()
        fill(aside / "sub", words="new")
    assert content(folder) == {
        "config": "new",
        "thesis": "mine",
        "link": "mine",
        "sub/words": "new",
        "sub/notes": "mine",
    }
    assert (folder / "link").is_symlink() and os.listdir(tmp_path) == ["m"]


def test_an_error_leaves_all_files_of_a_set_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    fill(folder, a="old", b="old", c="old")
    rename, calls = Path.rename, iter(range(100))
    last = {"exchanged": 0, "renamed": 1, "mounted": 4}[way]

    def refused(self: Path, target: Path) -> Path:
        if next(calls) == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    if way == "exchanged":
        monkeypatch.setattr(files.replacing, "_exchange", lambda one, other: one.rename(other))
    with pytest.raises(WriteError, match="the disk is full"), written_folder(folder) as aside:
        fill(aside, a="new", b="new", c="new")
    assert content(tmp_path) == {"m/a": "old", "m/b": "old", "m/c": "old"}


def test_the_current_folder_can_be_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, thesis="mine")
    with written_folder(".", ours=lambda name: False) as aside:
        fill(aside, a="new")
    assert content(Path()) == {"thesis": "mine", "a": "new"}


def swap(folder: Path, told: int) -> None:
    for number in itertools.count():
        with written_folder(folder) as aside:
            fill(aside, **dict.fromkeys("abcdef", str(number)))
        os.write(told, b"x")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_kill_at_any_moment_leaves_one_whole_set(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    for turn in range(6):
        ready, told = os.pipe()
        process = forked(lambda told=told: swap(folder, told))  # type: ignore[misc]
        for _ in range(turn + 1):
            os.read(ready, 1)
        kill(process)
        found = content(folder)
        assert sorted(found) == list("abcdef") and len(set(found.values())) == 1
        os.close(ready)
        os.close(told)
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["m"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    alive = written_file(tmp_path / "alive")
    aside = alive.__enter__()
    aside.write_text("")
    host, number = aside.name.split(".")[2].split("-")[0], dead.pid
    gone = tmp_path / f".m.{host}-{number}-0{UNFINISHED}"
    gone.mkdir()
    fill(gone, a="half")
    (tmp_path / f".f.{host}-{number}-1{UNFINISHED}").write_text("half")
    far = tmp_path / f".f.{'0' * 8}-{number}-1{UNFINISHED}"
    far.write_text("of another machine")
    fill(tmp_path, **{"mine.unfinished": "mine", ".hidden": "mine"})
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(aside.name, far.name, "mine.unfinished", ".hidden")
    }
    os.utime(far, (0, 0))
    remove_unfinished(tmp_path)
    assert not far.exists() and aside.exists()


def test_a_folder_without_our_mark_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert check_mark(folder) == frozenset() == check_mark(tmp_path / "none")
    fill(folder, thesis="mine")
    with pytest.raises(UsageError, match=r"model would be replaced, but .*move it away"):
        check_mark(folder)
    with pytest.raises(UsageError), marked_folder(folder):
        raise AssertionError("refused before anything is written")
    for broken in ("{", "[]", '{"files": 3}'):
        (folder / MARK).write_text(broken)
        with pytest.raises(UsageError):
            check_mark(folder)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError):
        check_mark(tmp_path / "file")


def test_a_marked_folder_is_made_again_and_keeps_what_others_put_there(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with marked_folder(folder) as aside:
        fill(aside, config="1", old="1")
    fill(folder, thesis="mine")
    with marked_folder(folder) as aside:
        fill(aside, config="2")
    left = content(folder)
    assert json.loads(left.pop(MARK))["files"] == ["config", MARK]
    assert left == {"config": "2", "thesis": "mine"}


def test_a_removed_folder_is_gone_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    fill(folder, a="x")
    with monkeypatch.context() as patch:
        patch.setattr(files.replacing.shutil, "rmtree", lambda *_, **__: None)  # killed here
        remove_folder(folder)
    assert not folder.exists()
    with pytest.raises(WriteError, match="m: cannot be removed: No such file"):
        remove_folder(folder)


def test_outputs_beside_a_record_of_ours_are_replaced_and_others_are_not(tmp_path: Path) -> None:
    def check() -> None:
        check_outputs(tmp_path, "records/study.json", ("arms",), "table.md", "report.html")

    check()
    fill(tmp_path, **{"report.html": "mine"})
    with pytest.raises(UsageError, match=r"report\.html would be replaced"):
        check()
    (tmp_path / "records").mkdir()
    for text in ("", "{}", "[]", "{", "[" * 100_000):
        (tmp_path / "records" / "study.json").write_text(text)
        with pytest.raises(UsageError, match=r"study\.json would be replaced"):
            check()
    (tmp_path / "records" / "study.json").write_text('{"arms": 1}')
    check()


def test_rows_of_ours_are_replaced_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    check_rows(path, ("id", "key"))
    for text, ours in (('{"id": 1, "key": 2}\nx', True), ('{"id": 1}\n', False), ("", False)):
        path.write_text(text)
        if ours:
            check_rows(path, ("id", "key"))
        else:
            with pytest.raises(UsageError, match=r"rows\.jsonl would be replaced"):
                check_rows(path, ("id", "key"))
