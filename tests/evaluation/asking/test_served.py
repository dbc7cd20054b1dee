"""A model behind an API in the same evaluation: the same score as asked here."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

pytest.importorskip("openai")
pytest.importorskip("fastapi")

import uvicorn

from cli_runs import invoke, the_object
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import RequestError, UsageError
from manyeyes.evaluation.asking import served
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.asking.served import Address, ServedModel, image_url, parse_address
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.files import Source
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.records import Turn
from served import LIMITS, NAME, Server

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


@pytest.fixture(scope="module")
def built(build: Callable[..., Built]) -> Built:
    return build()


@pytest.fixture(scope="module")
def url(built: Built) -> Iterator[str]:
    """Our own server, listening in a thread."""
    server = Server(*built, LIMITS.__class__())
    config = uvicorn.Config(server.app, port=0, log_config=None, access_log=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"
    running.should_exit = True
    thread.join()


def test_our_server_scores_as_the_model_itself(
    built: Built, url: str, world: Path, tmp_path: Path
) -> None:
    names = ["vqa", "rec"]
    arguments = (names, world, "val")
    here = evaluate(ModelPredictor(*built), *arguments, tmp_path / "here", limit=4)
    command = ["evaluate", f"openai:{url}#{NAME}", "--data", world, "--split", "val", "--json"]
    options = ["--limit", 4, "--out", tmp_path / "there", "--prices", 1.0, 2.0]
    there = the_object(invoke(*command, *options, *[w for name in names for w in ("-b", name)]))
    for name in names:
        for kind in ("model", "text_only", "majority"):
            assert there["benchmarks"][name][kind] == here["benchmarks"][name][kind], (name, kind)
    used = there["served"]
    assert 4 < used["requests"] <= sum(2 * here["benchmarks"][name]["n"] for name in names)
    assert used["cost"] == (used["prompt_tokens"] + 2 * used["completion_tokens"]) / 1e6 > 0
    again = the_object(invoke(*command, *options, *[w for name in names for w in ("-b", name)]))
    assert again["served"]["requests"] == 0, "answers are kept"
    assert again["benchmarks"] == there["benchmarks"]


def test_a_served_model_judges_and_is_judged(
    built: Built, url: str, world: Path, tmp_path: Path
) -> None:
    evaluate(ModelPredictor(*built), ["vqa"], world, "val", tmp_path, limit=4, text_only=False)
    rows = list(map(json.loads, (tmp_path / "predictions-vqa.jsonl").read_text().splitlines()))
    sample = [json.dumps({**row, "right": True, "prediction": "so"}) + "\n" for row in rows]
    (tmp_path / "marked.jsonl").write_text("".join(sample))
    command = ["evaluate", f"openai:{url}#{NAME}", "--data", world, "--split", "val", "-b", "vqa"]
    command += ["--limit", 4, "--out", tmp_path / "there", "--json"]
    told = the_object(invoke(*command, "--marked", tmp_path / "marked.jsonl"))
    assert "give --judge" in told["error"]["message"]
    found = the_object(invoke(*command, "--judge", f"openai:{url}#{NAME}"))
    judged = found["judge"]["benchmarks"]["vqa"]
    assert judged["n"] == 4 and 0 <= judged["right"] <= 100
    assert judged["unclear"] > 0, "a model without any training says neither yes nor no"


def test_score_asks_a_served_model_the_questions_of_the_files(
    built: Built, url: str, world: Path, tmp_path: Path
) -> None:
    evaluate(ModelPredictor(*built), ["vqa"], world, "val", tmp_path / "here", text_only=False)
    files = get_benchmark("vqa").paths(Source(world, "val"))
    word = f"openai:{url}#{NAME}"
    command = ["score", "vqa", "--predictions", tmp_path / "here" / "predictions-vqa.jsonl"]
    command += ["--annotations", *files, "--against", word, "--json"]
    told = the_object(invoke(*command))
    assert "give their folder, --images" in told["error"]["message"]
    command += ["--images", world, "--out", tmp_path / "there"]
    found = the_object(invoke(*command))
    assert found["against"] == {key: found[key] for key in found["against"]}
    compared = found["comparison"]["metrics"]["accuracy"]
    assert compared["difference"] == 0 and compared["n"] == found["n"]
    assert found["served"]["requests"] > 0 and found["served"]["refused"] == {}
    assert the_object(invoke(*command))["served"]["requests"] == 0, "answers are kept"


class Moody(BaseHTTPRequestHandler):
    """Answers with a status for each question's text, a second time well."""

    asked: ClassVar[Counter[str]] = Counter()
    bodies: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append(body)
        text = body["messages"][0]["content"][-1]["text"]
        self.asked[text] += 1
        status = int(text) if text.isdigit() and self.asked[text] < 2 else 200
        if text.startswith("always "):
            status = int(text.removeprefix("always "))
        message = {"role": "assistant", "content": f"said {text}"}
        answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        answer |= {"id": "1", "created": 0, "model": "m", "object": "chat.completion"}
        found = answer if status == 200 else {"error": {"message": f"no {text}"}}
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def moody() -> Iterator[ServedModel]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    Moody.asked.clear()
    Moody.bodies.clear()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    model = ServedModel(Address(f"http://127.0.0.1:{server.server_port}/v1", "m"), retries=2)
    yield model
    model.close()
    server.shutdown()
    thread.join()
    server.server_close()


def question(text: str) -> Item:
    return Item(text, "", text, (), "")


def test_every_image_and_turn_of_a_question_is_sent(moody: ServedModel, tmp_path: Path) -> None:
    names = [str(tmp_path / f"{shade}.png") for shade in (1, 2)]
    for shade, name in enumerate(names):
        Image.new("RGB", (20, 10), (shade, 0, 0)).save(name)
    asked = Item("i", names[0], "Which differs?", ("x",), "c", more_images=(names[1],))
    before = (Turn("user", "Is <image> like <image>?"), Turn("assistant", "no"))
    boxed = replace(asked, before=before, prompt="In <boxes>?", boxes=(((0, 0, 10, 10),),))
    assert moody.answer([asked], with_images=True) == ["said Which differs?"]
    moody.answer([boxed], with_images=True)
    moody.answer([asked], with_images=False)
    images = [{"type": "image_url", "image_url": {"url": image_url(name)}} for name in names]
    assert images[0] != images[1]

    def text(said: str) -> dict[str, str]:
        return {"type": "text", "text": said}

    several, talk, blind = ([m["content"] for m in body["messages"]] for body in Moody.bodies)
    assert several == [[*images, text("Which differs?")]]
    first = [text("Is "), images[0], text(" like "), images[1], text("?")]
    assert talk == [first, [text("no")], [text("In [0.000,0.250,0.500,0.750]?")]]
    assert [m["role"] for m in Moody.bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert blind == [[text("Which differs?")]]


def test_what_fails_for_now_is_asked_again(moody: ServedModel) -> None:
    texts = ["429", "500", "503", "hello"]
    found = moody.answer([question(text) for text in texts], with_images=False)
    assert found == [f"said {text}" for text in texts]
    assert Moody.asked == {"429": 2, "500": 2, "503": 2, "hello": 1}


def test_what_is_refused_is_wrong_and_listed(moody: ServedModel, tmp_path: Path) -> None:
    found = moody.answer([question("always 400"), question("hello")], with_images=False)
    assert found == ["", "said hello"]
    assert Moody.asked["always 400"] == 1
    assert list(moody.usage.refused) == ["always 400"]
    assert "no always 400" in moody.usage.refused["always 400"]
    served.remembered(tmp_path, moody.usage.refused)
    assert list(served.remembered(tmp_path, {"new": "x"})) == ["always 400", "new"]


def test_what_was_answered_before_a_failure_is_kept(
    moody: ServedModel, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, failing = moody._ask, [True]

    def ask(item: Item, with_images: bool) -> str:
        if failing[0] and item.prompt.endswith("2"):
            raise RequestError("gone", status=503)
        return own(item, with_images)

    monkeypatch.setattr(moody, "_ask", ask)
    items = [question(f"number {place}") for place in range(4)]
    with pytest.raises(RequestError, match="1 of 4 questions were not answered: gone") as failure:
        moody.answer(items, with_images=False)
    assert dict(failure.value.answers) == {p: f"said number {p}" for p in (0, 1, 3)}  # type: ignore[attr-defined]
    plan = (["vqa"], world, "val", tmp_path)
    counted = []

    def flaky(item: Item, with_images: bool) -> str:
        counted.append(item.id)
        if len(counted) == 3:
            raise RequestError("gone", status=503)
        return "yes"

    monkeypatch.setattr(moody, "_ask", flaky)
    with pytest.raises(RequestError):
        evaluate(moody, *plan, limit=6, text_only=False)
    evaluate(moody, *plan, limit=6, text_only=False)
    assert len(counted) == 7, "only the one that failed was asked again"


@pytest.mark.parametrize(
    ("text", "status"), [("always 401", 401), ("always 404", 404), ("always 500", 500)]
)
def test_a_server_that_does_not_answer_ends_the_run(
    moody: ServedModel, text: str, status: int
) -> None:
    with pytest.raises(RequestError, match=f"answered {status}") as failure:
        moody.answer([question(text)], with_images=False)
    assert failure.value.status == status


def test_nobody_there() -> None:
    model = ServedModel(Address("http://127.0.0.1:9/v1", "m"), retries=0)
    with pytest.raises(RequestError, match="Connection error"):
        model.answer([question("hello")], with_images=False)
    model.close()


@pytest.mark.parametrize(
    "word", ["openai:", "openai:http://h/v1", "openai:h#m", "openai:ftp://h#m"]
)
def test_addresses(word: str) -> None:
    with pytest.raises(UsageError, match="openai:http://HOST/v1#MODEL"):
        parse_address(word)
    assert parse_address("openai:https://h:1/v1/#a/b#c") == Address("https://h:1/v1", "a/b#c")
