"""Tokens per second over HTTP: one client and eight, beside plain ``generate``.

COMM with CLIP and DINOv2 in front of a Llama of 4 blocks of width 512, float32, random weights.
Every question has an image that nobody saw before; answers have 32 tokens. The server and its
clients run in this process, the clients with the ``openai`` package.

    python benchmarks/serve_speed.py [--rounds 3] [--quick] [--json]
"""

from __future__ import annotations

import base64
import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import openai
import torch
import uvicorn
from many_questions import build_comm
from pair import QUICK, Sizes
from PIL import Image
from timing import Clock, arguments, interleave, measured, ratio, show

from manyeyes.inference.seen_images import Sight
from manyeyes.records import Turn
from manyeyes.serving.api.app import build_app
from manyeyes.serving.api.engine import Engine
from manyeyes.serving.api.limits import Limits
from manyeyes.serving.api.metrics import Metrics

MIDDLE = Sizes(
    vision_width=192,
    vision_layers=4,
    vision_heads=3,
    width=512,
    layers=4,
    heads=8,
    kv_heads=4,
    inner=1408,
    vocabulary=16_000,
)
NEW_TOKENS, CLIENTS = 32, 8
PLAIN, ONE, MANY = "generate", "one client", f"{CLIENTS} clients"


class Contest:
    """One model, asked directly and over HTTP."""

    def __init__(self, sizes: Sizes, url: str, model: Any, processor: Any) -> None:
        self.sizes, self.model, self.processor = sizes, model, processor
        self.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        self.number = itertools.count()

    def picture(self) -> Image.Image:
        """A picture that nobody has seen."""
        side = self.sizes.image_size
        noise = np.random.default_rng(next(self.number)).integers(0, 256, (side, side, 3), np.uint8)
        return Image.fromarray(noise)

    def text(self) -> str:
        """A question of some words."""
        return "w1 w2 w3 w4 w5 w6"

    @torch.inference_mode()
    def plain(self, questions: int) -> int:
        """Ask by ``generate``; return the number of tokens."""
        tokens = 0
        for _ in range(questions):
            prompt = self.processor.prompt([Turn("user", f"<image>\n{self.text()}")])
            inputs = self.processor.answer_inputs([prompt], [self.picture()])
            found = self.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            tokens += found.shape[1] - inputs["input_ids"].shape[1]
        return tokens

    def ask(self, _: int = 0) -> int:
        """Ask the server one question; return the number of tokens."""
        parts = [
            {"type": "image_url", "image_url": {"url": picture_url(self.picture())}},
            {"type": "text", "text": self.text()},
        ]
        messages: Any = [{"role": "user", "content": parts}]
        reply = self.client.chat.completions.create(
            model="m", messages=messages, max_tokens=NEW_TOKENS
        )
        assert reply.usage is not None
        return reply.usage.completion_tokens

    def over_http(self, questions: int, clients: int) -> int:
        """Ask by so many clients at a time."""
        with ThreadPoolExecutor(clients) as pool:
            return sum(pool.map(self.ask, range(questions)))

    def timed(self, ask: Callable[[], int], questions: int) -> Callable[[], Clock]:
        """A measured call; every answer must have its full length."""

        def run() -> Clock:
            with measured() as clock:
                tokens = ask()
            assert tokens == questions * NEW_TOKENS, "an answer ended early"
            return clock

        return run


def picture_url(picture: Image.Image) -> str:
    """Return a picture as a data URL."""
    file = io.BytesIO()
    picture.save(file, "png", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@contextmanager
def serving(model: Any, processor: Any) -> Iterator[str]:
    """Run a server in a thread and yield the URL of its API."""
    engine = Engine(Sight(model, processor), Limits(batch=CLIENTS), Metrics())
    app = build_app(engine, "m")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


def main() -> None:
    """Measure and print."""
    options = arguments(str(__doc__).partition("\n")[0]).parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else MIDDLE
    model, processor = build_comm(sizes)
    model.float()
    model.generation_config.eos_token_id = None  # every answer has its full length
    questions = 8 if options.quick else 24
    with serving(model, processor) as url:
        contest = Contest(sizes, url, model, processor)
        contest.ask()
        ways: dict[str, Callable[[], int]] = {
            PLAIN: lambda: contest.plain(questions),
            ONE: lambda: contest.over_http(questions, 1),
            MANY: lambda: contest.over_http(questions, CLIENTS),
        }
        runs = {name: contest.timed(way, questions) for name, way in ways.items()}
        rounds = options.rounds or (2 if options.quick else 5)
        series = interleave(runs, questions * NEW_TOKENS, rounds)
        contest.client.close()
    ratios = {
        f"{ONE} / {PLAIN}": ratio(series[PLAIN], series[ONE]),
        f"{MANY} / {ONE}": ratio(series[ONE], series[MANY]),
    }
    title = f"{questions} questions, tokens per second"
    show(title, series, ratios, "tokens/s", as_json=options.json)


if __name__ == "__main__":
    main()
