"""The real lmms-eval asks `manyeyes serve` by its model `openai`: run with ``make lmms-eval-test``.

Without lmms-eval, or without what the server needs, these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_runs import invoke, the_object
from serving_process import Running

NEEDED = ("lmms_eval", "fastapi", "uvicorn", "prometheus_client")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("ignore"),  # of the harness and what it imports
]

NAME = "tiny/model"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    running = Running(model, "--name", NAME)
    yield running
    running.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def asked(server: Running, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What lmms-eval's command found by asking the server."""
    out = tmp_path_factory.mktemp("lmms-served")
    command = [sys.executable, "-m", "lmms_eval", "eval", "--model", "openai", "--model_args"]
    command += [f"model={NAME},base_url={server.url}/v1,api_key=none,num_concurrent=4"]
    command += ["--include_path", str(tasks), "--tasks", "manyeyes_pope,manyeyes_vqa"]
    command += ["--batch_size", "1", "--output_path", str(out), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command, env={**os.environ, **offline}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = out.rglob("*_results.json")
    found: dict[str, Any] = json.loads(file.read_text())["results"]
    return found


@pytest.mark.parametrize("name", ["pope", "vqa"])
def test_lmms_eval_scores_the_served_model_as_manyeyes_evaluate_does(
    name: str, asked: dict[str, Any], model: Path, data: Path, tmp_path: Path
) -> None:
    command = ["evaluate", model, "--benchmark", name, "--data", data, "--split", "val"]
    here = the_object(invoke(*command, "--json", "--out", tmp_path))["benchmarks"][name]["model"]
    there = asked[f"manyeyes_{name}"]
    for metric, value in here["metrics"].items():
        assert there[f"{metric},none"] == value, metric
    assert there["parse_failures,none"] == here["parse_failures"]
    assert 0 < here["metrics"]["accuracy"] < 100


def test_the_server_answered_every_request(server: Running, asked: dict[str, Any]) -> None:
    with urllib.request.urlopen(f"{server.url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    counted = [line.split() for line in lines if line.startswith("manyeyes_requests_total")]
    by_status = {name: float(value) for name, value in counted}
    assert asked and set(by_status) == {'manyeyes_requests_total{status="200"}'}, by_status
