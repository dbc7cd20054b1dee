"""The command as a process of its own: clean stdout, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_runs import Trained

pytestmark = pytest.mark.long

COMMAND = [sys.executable, "-m", "manyeyes"]


def test_stdout_is_one_object_and_the_exit_code_tells(tmp_path: Path) -> None:
    broken = tmp_path / "rows.jsonl"
    broken.write_text('{"id": 1}\n{"id": 2}\n')
    done = subprocess.run(
        [*COMMAND, "check", str(broken), "comm/paper", "--json"], capture_output=True, text=True
    )
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert [target["ok"] for target in report["targets"]] == [False, True]
    assert "Traceback" not in done.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", str(trained.recipe), "--data", str(trained.data), "--out", str(out)]
    setting = ["--set", "training.max_steps=100000", "--set", "training.logging_steps=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*COMMAND, *words, *setting],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    log = out / "align" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_text()) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "continue with: manyeyes train" in stderr
    assert stderr.strip().endswith("--resume")
    assert list((out / "align").glob("checkpoint-*"))
