"""`manyeyes serve` as a process, asked by the real `openai` package."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("openai")
pytest.importorskip("fastapi")

import openai

from cli_runs import invoke
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from served import ask, data_url
from serving_process import Running

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


@pytest.fixture(scope="module")
def folder(build: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served") / "model"
    model, processor = build()
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    server = Running(folder, "--name", "tiny/model")
    yield server
    server.end(signal.SIGKILL)


@pytest.mark.slow
def test_the_page_in_a_browser(
    running: Running, pictures: Sequence[Image.Image], tmp_path: Path
) -> None:
    """A picture, two questions, an explanation, a broken picture; see ``page.mjs``."""
    found = subprocess.run(
        ["node", "-e", "import('playwright-core')"], capture_output=True, check=False
    )
    if found.returncode or not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Debian's chromium, node, and npm install playwright-core")
    pictures[0].save(tmp_path / "a.png")
    script = Path(__file__).with_name("page.mjs")
    words = ["node", script, running.url, tmp_path / "a.png", tmp_path / "b.png", "what?", "why?"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=True)
    assert "explain: manyeyes explain" in done.stdout
    assert "faults []" in done.stdout
    assert (tmp_path / "b.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_openai_package_asks_and_signals_drain(
    running: Running, pictures: Sequence[Image.Image]
) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny/model"]
    asked = ask("what?", *map(data_url, pictures[:2]), max_tokens=12)
    answer = client.chat.completions.create(**asked)
    pieces = [
        c.choices[0].delta.content for c in client.chat.completions.create(**asked, stream=True)
    ]
    assert "".join(filter(None, pieces)) == answer.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="more than"):
        client.chat.completions.create(**{**asked, "max_tokens": 10**6})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**asked, "model": "other"})
    long = {**ask("go on", max_tokens=400), "stream": True}
    stream = client.chat.completions.create(**long)
    begun = next(iter(stream))
    assert begun.choices[0].delta.role == "assistant"
    running.process.send_signal(signal.SIGTERM)
    rest = [chunk.choices[0].finish_reason for chunk in stream]
    assert rest[-1] in ("length", "stop"), "what had begun was answered to its end"
    client.close()
    assert running.end(signal.SIGTERM) == 0
    assert "stopped; everything asked was answered" in running.lines[-1]
    assert not any("Traceback" in line for line in running.lines)
    assert sum("200 POST /v1/chat/completions" in line for line in running.lines) == 3


def test_what_cannot_be_served_is_one_line(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        found = invoke("serve", folder, "--host", "127.0.0.1", "--port", port)
    assert found.exit_code == 2 and "in use" in found.stderr and "--port" in found.stderr
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for place, words in ((tmp_path, "'bert'"), (tmp_path / "none", "no such model folder")):
        found = invoke("serve", place, "--port", 0)
        assert found.exit_code == 1 and words in found.stderr
        assert "Traceback" not in found.stderr
    found = invoke("serve", folder, "--host", "192.0.2.1")  # an address of no machine
    assert found.exit_code == 2 and "cannot listen" in found.stderr
