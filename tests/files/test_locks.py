"""One process at a time works in a folder; the next one learns who does, and a kill frees it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from manyeyes.errors import InUseError, UsageError, WriteError
from manyeyes.files import held, wait_until_free
from manyeyes.files.locks import LOCK
from processes import holder, kill

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_a_second_process_learns_who_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with holder(out) as process, pytest.raises(InUseError) as caught, held(out):
        pass
    said = str(caught.value)
    assert said.startswith(f"{out} is in use by process {process} (") and "; since 20" in said
    assert isinstance(caught.value, UsageError) and caught.value.exit_code == 2


@pytest.mark.parametrize("child", [False, True])
def test_a_killed_process_holds_nothing(child: bool, tmp_path: Path) -> None:
    """Nor does a child of it, which lives a little longer."""
    with holder(tmp_path, child=child) as process:
        with pytest.raises(InUseError), held(tmp_path):
            pass
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert (tmp_path / LOCK).exists()
        with held(tmp_path):
            assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_is_free_again_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), held(tmp_path / "a" / "out"):
            raise KeyError
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_stays_where_something_was_put_into_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held(out):
        (out / "a").touch()
    assert [path.name for path in out.iterdir()] == ["a"]


def test_threads_and_links_are_kept_out_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with held(tmp_path / "out"), pytest.raises(InUseError, match="link is in use by process"):
        with held(tmp_path / "link"):
            pass


def test_a_lock_beside_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with holder(out, beside=True):
        assert not out.exists() and (tmp_path / ".out.lock").is_file()
        with pytest.raises(InUseError, match="out is in use"), held(out, beside=True):
            pass
        with held(tmp_path):
            pass


def test_waiting_for_another(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        threading.Timer(0.3, kill, (process,)).start()
        wait_until_free(tmp_path, seconds=60)
        with held(tmp_path):
            pass
    wait_until_free(tmp_path / "nothing", seconds=60)
    assert not (tmp_path / "nothing").exists()


def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / LOCK).write_text("")
        with pytest.raises(InUseError, match="in use by another process"), held(tmp_path):
            pass


def test_where_no_lock_can_be_made_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(WriteError, match="cannot be written: Is a directory"), held(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file: cannot be written"), held(tmp_path / "file"):
        pass
