"""Requests that should not be answered: each gets an error object, and the server stays up."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.serving.api.gate import Gate
from served import LIMITS, NAME, Server, ask, bomb, data_url, image, url_of

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
CHAT = "/v1/chat/completions"
DOT = data_url(Image.new("RGB", (4, 4)))


def talk(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": list(messages), **fields}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def shown(url: Any) -> dict[str, Any]:
    return talk(user([{"type": "image_url", "image_url": {"url": url}}, text("what?")]))


def text(words: Any) -> dict[str, Any]:
    return {"type": "text", "text": words}


def noise(width: int, height: int) -> str:
    return data_url(Image.effect_noise((width, height), 50).convert("RGB"))


def cut(kind: str) -> str:
    file = io.BytesIO()
    Image.effect_noise((60, 60), 50).convert("RGB").save(file, kind)
    return url_of(file.getvalue()[: len(file.getvalue()) // 2], kind)


EPS = url_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "png")
SVG = url_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg+xml")
PADDED = "data:image/png;base64," + base64.b64encode(b"x" * 30).decode()[:-2] + "=x"

BODIES: Mapping[str, Any] = {
    "no messages": {"model": NAME},
    "messages null": {"model": NAME, "messages": None},
    "messages empty": talk(),
    "messages a string": {"messages": "hello"},
    "messages numbers": {"messages": [1, 2]},
    "message without content": talk({"role": "user"}),
    "message without role": talk({"content": "hi"}),
    "content null": talk(user(None)),
    "content a number": talk(user(7)),
    "content empty": talk(user("")),
    "content blank": talk(user("  \n ")),
    "content empty list": talk(user([])),
    "unknown role": talk({"role": "tool", "content": "hi"}),
    "last is the assistant's": talk(user("hi"), {"role": "assistant", "content": "ho"}),
    "system alone": talk({"role": "system", "content": "hi"}),
    "system later": talk(user("hi"), {"role": "system", "content": "x"}, user("ho")),
    "image of the assistant": talk(
        user("hi"), {"role": "assistant", "content": [image(DOT)]}, user("ho")
    ),
    "unknown part": talk(user([{"type": "video_url", "video_url": {"url": DOT}}])),
    "audio": talk(user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])),
    "part without type": talk(user([{"text": "hi"}])),
    "text a number": talk(user([text(7)])),
    "placeholder in the text": talk(user("look: <image> there")),
    "box placeholder in the text": talk(user("what is at <boxes>?")),
    "placeholder of the assistant": talk(
        user("hi"), {"role": "assistant", "content": "<image>"}, user("ho")
    ),
    "half a character": talk(user("\ud800")),
    "too much text": talk(user("x" * 601)),
    "too much text in many turns": talk(*[user("word " * 20)] * 9),
    "tools": talk(user("hi"), tools=[{"type": "function", "function": {"name": "f"}}]),
    "functions": talk(user("hi"), functions=[{"name": "f"}]),
    "audio out": talk(user("hi"), audio={"voice": "alloy", "format": "wav"}),
    "modalities": talk(user("hi"), modalities=["text", "audio"]),
    "two answers": talk(user("hi"), n=2),
    "a million answers": talk(user("hi"), n=10**6),
    "logprobs": talk(user("hi"), logprobs=True),
    "json mode": talk(user("hi"), response_format={"type": "json_object"}),
    "penalty": talk(user("hi"), frequency_penalty=1.0),
    "bias": talk(user("hi"), logit_bias={"5": 100}),
    "unknown field": talk(user("hi"), max_token=5),
    "generation config": talk(user("hi"), generation_config='{"max_new_tokens": 100000}'),
    "template arguments": talk(user("hi"), chat_template_kwargs={"a": 1}),
    "no tokens": talk(user("hi"), max_tokens=0),
    "negative tokens": talk(user("hi"), max_tokens=-1),
    "a million tokens": talk(user("hi"), max_tokens=10**6),
    "a million completion tokens": talk(user("hi"), max_completion_tokens=10**6),
    "tokens a string": talk(user("hi"), max_tokens="5"),
    "tokens a fraction": talk(user("hi"), max_tokens=5.5),
    "tokens true": talk(user("hi"), max_tokens=True),
    "temperature below 0": talk(user("hi"), temperature=-1),
    "temperature above 2": talk(user("hi"), temperature=9),
    "temperature tiny": talk(user("hi"), temperature=1e-9),
    "temperature a list": talk(user("hi"), temperature=[1]),
    "top_p 0": talk(user("hi"), top_p=0),
    "top_p above 1": talk(user("hi"), top_p=1.1),
    "seed negative": talk(user("hi"), seed=-1),
    "seed too large": talk(user("hi"), seed=2**80),
    "stop empty": talk(user("hi"), stop=""),
    "stop many": talk(user("hi"), stop=["a"] * 5),
    "stop long": talk(user("hi"), stop="a" * 1000),
    "stream a word": talk(user("hi"), stream="perhaps"),
    "another model": talk(user("hi"), model="gpt-4"),
    "model a number": talk(user("hi"), model=4),
    "image without url": talk(user([{"type": "image_url", "image_url": {}}])),
    "image url a string": talk(user([{"type": "image_url", "image_url": DOT}])),
    "url a number": shown(7),
    "url empty": shown(""),
    "a path": shown("/etc/passwd"),
    "a relative path": shown("../secret.png"),
    "a file url": shown("file:///etc/passwd"),
    "an ftp url": shown("ftp://example.org/a.png"),
    "a web url": shown("https://example.org/a.png"),
    "a local url": shown("http://127.0.0.1:8000/v1/models"),
    "the address of a cloud's secrets": shown("http://169.254.169.254/latest/meta-data"),
    "broken base64": shown("data:image/png;base64,@@@@"),
    "bad padding": shown(PADDED),
    "empty base64": shown("data:image/png;base64,"),
    "no base64": shown("data:image/png,abc"),
    "data of a text": shown("data:text/html;base64,PGI+"),
    "no image": shown(url_of(b"hello, this is no picture")),
    "a program for a printer": shown(EPS),
    "a vector picture": shown(SVG),
    "half a PNG": shown(cut("png")),
    "a decompression bomb": shown(url_of(bomb(60_000, 60_000))),
    "a small bomb": shown(url_of(bomb(200, 200))),
    "an image without pixels": shown(url_of(bomb(0, 5))),
    "too many pixels": shown(noise(101, 100)),
    "a broken image behind a good one": talk(user([image(DOT), image(cut("png")), text("?")])),
    "200 images": talk(user([image(DOT)] * 200 + [text("what?")])),
    "images in many turns": talk(*[user([image(DOT), text("?")])] * 4),
    "a list": [1, 2, 3],
    "null": None,
    "a string": "hello",
}
RAW: Mapping[str, tuple[bytes, dict[str, str]]] = {
    "no JSON": (b"{", {}),
    "nothing": (b"", {}),
    "no UTF-8": (b'{"messages": "\xff"}', {}),
    "deeply nested": (b'{"messages": ' + b"[" * 50_000, {}),
    "a number of 100,000 digits": (b'{"seed": ' + b"9" * 100_000 + b"}", {}),
    "not a number": (
        json.dumps(talk(user("hi"), temperature=float("nan"))).encode(),
        {},
    ),
    "infinity": (json.dumps(talk(user("hi"), top_p=float("inf"))).encode(), {}),
    "a form": (b"messages=hi", {"content-type": "application/x-www-form-urlencoded"}),
    "text of a page of another site": (
        json.dumps(talk(user("hi"))).encode(),
        {"content-type": "text/plain"},
    ),
    "too large": (b" " * (2**18 + 1), {}),
    "far too large": (b" " * (2**22), {}),
    "another host's name": (json.dumps(talk(user("hi"))).encode(), {"host": "evil.example"}),
}
STATUS = {"too large": 413, "far too large": 413, "another host's name": 421, "another model": 404}


@pytest.fixture(scope="module")
def server(build: Callable[..., Built]) -> Server:
    return Server(*build(), own_hosts=("localhost",))


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[TestClient]:
    with TestClient(server.app, base_url="http://localhost") as client:
        yield client


def check(server: Server, reply: Any, name: str) -> None:
    assert reply.status_code == STATUS.get(name, 400), reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert 5 < len(error["message"]) < 400
    assert "Traceback" not in error["message"]
    assert server.lines[-1].startswith(str(reply.status_code)), "one line in the log"
    assert not server.faults


@pytest.mark.parametrize("name", BODIES)
def test_a_request_is_refused(server: Server, client: TestClient, name: str) -> None:
    lines = len(server.lines)
    body = json.dumps(BODIES[name]).encode()
    check(server, client.post(CHAT, content=body, headers=_headers()), name)
    assert len(server.lines) == lines + 1


@pytest.mark.parametrize("name", RAW)
def test_bytes_are_refused(server: Server, client: TestClient, name: str) -> None:
    body, headers = RAW[name]
    check(server, client.post(CHAT, content=body, headers={**_headers(), **headers}), name)


def test_a_prompt_that_is_too_long_for_the_model(build: Callable[..., Built]) -> None:
    server = Server(*build(), replace(LIMITS, text=10_000))
    client = TestClient(server.app, base_url="http://localhost")
    reply = client.post(CHAT, json=ask("x" * 3000))
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    streamed = client.post(CHAT, json=ask("x" * 3000, stream=True))
    assert streamed.status_code == 400
    server.engine.stop()


def test_the_server_is_up_and_its_memory_flat(
    server: Server, client: TestClient, pictures: Sequence[Image.Image]
) -> None:
    def everything() -> int:
        for body in BODIES.values():
            data = json.dumps(body).encode()
            assert client.post(CHAT, content=data, headers=_headers()).status_code >= 400
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = everything()
    after = everything()
    assert after - before < 64 * 1024, "kilobytes"
    assert client.get("/health").json() == {"status": "ok"}
    assert client.post(CHAT, json=ask("what?", data_url(pictures[0]))).status_code == 200


def test_a_key_is_asked_for(build: Callable[..., Built]) -> None:
    server = Server(*build(), key="secret-\u00e9")
    client = TestClient(server.app, base_url="http://localhost")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret-\u00e9"}):
        encoded = {k: v.encode() for k, v in headers.items()}
        for path in ("/v1/models", "/metrics"):
            reply = client.get(path, headers=encoded)
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/health").status_code == 200
    right = {"authorization": "Bearer secret-\u00e9".encode()}
    assert client.get("/v1/models", headers=right).status_code == 200
    server.engine.stop()


def test_a_client_that_never_ends_its_request(server: Server) -> None:
    gate = Gate(server.app.app, replace(server.engine.limits, seconds=0.2), server.metrics, print)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    asyncio.run(gate(scope, receive, send))
    assert sent[0]["status"] == 408
    assert "did not arrive" in json.loads(sent[1]["body"])["error"]["message"]


def _headers() -> dict[str, str]:
    return {"content-type": "application/json"}
