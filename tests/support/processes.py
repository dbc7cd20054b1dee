"""Other processes that hold a folder, and commands as processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from manyeyes.files import held

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def forked(work: Callable[[], None]) -> int:
    """Do ``work`` in a copy of this process; return its number."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    finally:
        os._exit(1)


@contextlib.contextmanager
def holder(folder: Path, *, beside: bool = False, child: bool = False) -> Iterator[int]:
    """Yield the number of a process that holds ``folder`` until the block ends, or it is killed.

    ``child``: it has a child of its own, which lives on.
    """
    ready, told = os.pipe()

    def hold() -> None:
        os.close(ready)
        with held(folder, beside=beside):
            if child:
                forked(lambda: _until_unheard(told))
            os.write(told, b"x")
            time.sleep(600)

    process = forked(hold)
    os.close(told)
    try:
        assert os.read(ready, 1) == b"x"
        yield process
    finally:
        os.close(ready)  # ends the child as well
        kill(process)


def _until_unheard(told: int) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    while True:
        time.sleep(0.2)
        os.write(told, b"x")


def kill(process: int) -> None:
    """End a child process at once, if it still runs, and wait for that."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def command(*words: object) -> subprocess.Popen[str]:
    """Start ``manyeyes`` with these words and ``--json``."""
    return subprocess.Popen(
        [sys.executable, "-m", "manyeyes", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )


def on_two_ranks(script: Path, *words: object) -> None:
    """Run a script on two CPU processes that torchrun starts; fail with what they said."""
    source = Path(__file__).parents[2] / "src"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(script), *map(str, words)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
