"""64 requests at once: `manyeyes serve` beside vLLM with the same model, tokens per second.

COMM with CLIP and DINOv2 in front of a Llama of 4 blocks of width 512, float32, random weights, as
in ``serve_speed.py``. Every question has an image of its own; answers have 32 tokens. Both servers
are processes, asked in turn by the ``openai`` package with 64 threads. vLLM runs without
compilation. Run it in the environment of ``make vllm-test``:

    .venv-vllm/bin/python benchmarks/vllm_speed.py [--rounds 3] [--quick] [--json]
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import openai
from many_questions import build_comm
from pair import QUICK, Sizes, picture
from serve_speed import MIDDLE, NEW_TOKENS, picture_url
from timing import Clock, arguments, interleave, measured, ratio, show

from manyeyes.conversation.prompts import PROMPT_STYLES

REQUESTS, BATCH = 64, 8
OURS, THEIRS = "manyeyes serve", "vLLM"
WAIT = 300.0
"""Seconds that a server may take to start."""


def save_model(sizes: Sizes, folder: Path) -> None:
    """Save the model, its processor, and its prompt style for vLLM."""
    model, processor = build_comm(sizes)
    model.float()
    model.generation_config.eos_token_id = None  # every answer has its full length
    model.save_pretrained(folder, self_contained=True)
    processor.save_pretrained(folder)
    (folder / "style.jinja").write_text(str(PROMPT_STYLES[processor.prompt_style]))


@contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    """Start a server and yield the URL of its API once it answers."""
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    try:
        began = time.monotonic()
        while not answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.monotonic() - began > WAIT:
                raise SystemExit(f"did not start: {' '.join(command)}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    """Return whether a server answers there."""
    try:
        with urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ours(folder: Path, port: int) -> list[str]:
    """Return the command of our server."""
    command = [sys.executable, "-m", "manyeyes", "serve", str(folder), "--name", "m"]
    return [*command, "--port", str(port), "--batch", str(BATCH), "--queue", str(REQUESTS)]


def theirs(folder: Path, port: int) -> list[str]:
    """Return the command of vLLM's server."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "m", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--dtype", "float32", "--max-num-seqs", str(BATCH), "--enforce-eager"]
    style = str(folder / "style.jinja")
    return [*command, "--chat-template", style, "--chat-template-content-format", "string"]


class Client:
    """Asks one server; ``extra``: fields of a request that only it takes."""

    def __init__(self, url: str, sizes: Sizes, extra: dict[str, Any] | None = None) -> None:
        self.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)
        self.sizes, self.extra = sizes, extra
        self.seen = 0

    def ask(self, number: int) -> str:
        """Ask about a picture of that number; return the answer."""
        url = picture_url(picture(self.sizes, number))
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "w1 w2 w3 w4 w5 w6"},
        ]
        messages: Any = [{"role": "user", "content": parts}]
        reply = self.client.chat.completions.create(
            model="m", messages=messages, max_tokens=NEW_TOKENS, extra_body=self.extra
        )
        assert reply.usage is not None and reply.usage.completion_tokens == NEW_TOKENS
        return re.sub(r"\s+", " ", str(reply.choices[0].message.content)).strip()

    def all_at_once(self, requests: int = REQUESTS) -> list[str]:
        """Ask so many requests about pictures that it has not seen; return the answers."""
        numbers = range(self.seen, self.seen + requests)
        self.seen += requests
        with ThreadPoolExecutor(requests) as pool:
            return list(pool.map(self.ask, numbers))

    def timed(self) -> Clock:
        """Measure one round."""
        with measured() as clock:
            self.all_at_once()
        return clock


def main() -> None:
    """Measure and print."""
    options = arguments(str(__doc__).partition("\n")[0]).parse_args()
    sizes = QUICK if options.quick else MIDDLE
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_model(sizes, folder)
        clients = {}
        for name, command in ((OURS, ours), (THEIRS, theirs)):
            port = free_port()
            url = stack.enter_context(running(command(folder, port), port))
            extra = {"ignore_eos": True, "add_special_tokens": True, "temperature": 0}
            clients[name] = Client(url, sizes, extra if name == THEIRS else None)
        first = {name: client.all_at_once(BATCH) for name, client in clients.items()}
        same = sum(a == b for a, b in zip(first[OURS], first[THEIRS], strict=True))
        runs: dict[str, Callable[[], Clock]] = {n: client.timed for n, client in clients.items()}
        series = interleave(runs, REQUESTS * NEW_TOKENS, options.rounds or 3)
    equal = f"{same} of the first {BATCH} answers equal"
    title = f"{REQUESTS} requests at once, tokens per second; {equal}"
    ratios = {f"{THEIRS} / {OURS}": ratio(series[OURS], series[THEIRS])}
    show(title, series, ratios, "tokens/s", as_json=options.json)


if __name__ == "__main__":
    main()
