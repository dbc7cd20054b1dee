"""The OpenAI API over a tiny model: the answers of `generate`, images once, batches, streams."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("openai")

from fastapi.testclient import TestClient
from openai import OpenAI

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.conversation.boxes import format_boxes
from manyeyes.inference.seen_images import SeenImage
from manyeyes.records import Detection, Turn
from manyeyes.serving.api.engine import Job
from manyeyes.serving.api.handler import Handler
from manyeyes.serving.api.requests import Sampling, read_request
from manyeyes.serving.api.rows import Row
from served import LIMITS, NAME, Server, ask, data_url, image

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(build: Callable[..., Built]) -> Server:
    return Server(*build())


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[TestClient]:
    with TestClient(server.app, base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def urls(pictures: Sequence[Image.Image]) -> list[str]:
    return [data_url(picture) for picture in pictures]


def answer(server: Server, texts: Sequence[str], pictures: Sequence[Image.Image], n: int) -> str:
    """What `generate` alone says in a conversation."""
    roles = ("user", "assistant")
    turns = [Turn(roles[place % 2], text) for place, text in enumerate(texts)]  # type: ignore[arg-type]
    inputs = server.processor.answer_inputs([server.processor.prompt(turns)], list(pictures))
    sequences = server.model.generate(**inputs, max_new_tokens=n, do_sample=False)
    new = sequences[0, inputs["input_ids"].shape[1] :]
    return str(server.processor.tokenizer.decode(new, skip_special_tokens=True)).lstrip()


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_an_answer_is_that_of_generate(
    server: Server, client: TestClient, urls: list[str], pictures: Sequence[Image.Image]
) -> None:
    reply = client.post(CHAT, json=ask("what?", urls[0], max_tokens=12)).json()
    expected = answer(server, ["<image>\nwhat?"], pictures[:1], 12)
    choice = reply["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": expected}
    assert choice["finish_reason"] == "length" and reply["model"] == NAME
    assert reply["usage"]["completion_tokens"] == 12
    assert reply["usage"]["prompt_tokens"] + 12 == reply["usage"]["total_tokens"]
    assert reply["manyeyes"]["encoders"] == ["clip", "dinov2"]


def test_a_conversation_with_two_images_and_a_system_text(
    server: Server, client: TestClient, urls: list[str], pictures: Sequence[Image.Image]
) -> None:
    talk = [
        {"role": "user", "content": [{"type": "text", "text": "what?"}, image(urls[0])]},
        {"role": "assistant", "content": "a cat"},
        {"role": "user", "content": [image(urls[1]), {"type": "text", "text": "and this?"}]},
    ]
    reply = client.post(CHAT, json={"messages": talk, "max_tokens": 9}).json()
    texts = ["<image>\nwhat?", "a cat", "<image>\nand this?"]
    expected = answer(server, texts, pictures[:2], 9)
    assert reply["choices"][0]["message"]["content"] == expected
    alone = client.post(CHAT, json={"messages": [{"role": "user", "content": "hi"}]})
    assert alone.status_code == 200 and alone.json()["manyeyes"]["encoders"] == []
    told = [{"role": "system", "content": "Be brief."}, *talk]
    assert client.post(CHAT, json={"messages": told, "max_tokens": 9}).status_code == 200


def test_a_stream_holds_the_same_text(client: TestClient, urls: list[str]) -> None:
    asked = ask("what?", urls[0], max_tokens=12)
    whole = client.post(CHAT, json=asked).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = client.post(CHAT, json={**asked, **options})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *found, counts = events(streamed.text)
    pieces = [event["choices"][0]["delta"].get("content") or "" for event in found]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert sum(map(bool, pieces)) > 1
    assert found[-1]["choices"][0]["finish_reason"] == "length"
    assert "usage" not in found[-1] and "manyeyes" in found[-1]
    assert counts["choices"] == [] and counts["usage"] == whole["usage"]
    assert counts["usage"]["completion_tokens"] == 12
    without = events(client.post(CHAT, json={**asked, "stream": True}).text)
    assert len(without) == len(found) and not any("usage" in event for event in without)


def test_the_real_client_reads_the_counts_of_a_stream(client: TestClient, urls: list[str]) -> None:
    """As its documentation does: the chunk without choices holds the usage."""
    real = OpenAI(base_url="http://testserver/v1", api_key="none", http_client=client)
    asked = ask("what?", urls[0], max_tokens=12)
    whole = real.chat.completions.create(**asked)
    chunks = list(
        real.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    (counts,) = (chunk for chunk in chunks if not chunk.choices)
    assert counts is chunks[-1] and counts.usage == whole.usage
    assert not any(chunk.usage for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("stop", "said"), [((), "a cat sits"), (("sits",), "a cat "), (("\n",), "")]
)
def test_an_answer_begins_with_the_first_letter(
    stop: tuple[str, ...], said: str, server: Server
) -> None:
    """Blanks before it are left out, but a stop text is found among them."""
    pieces: list[str] = []
    tokenizer = server.processor.tokenizer
    tokens = tokenizer(" \n a cat sits", add_special_tokens=False).input_ids
    assert tokenizer.decode(tokens) == " \n a cat sits"
    row = Row(pieces.append, stop=stop, deadline=time.monotonic() + 60)
    row.begin(tokenizer, len(tokens), ())
    for token in tokens:
        if row.reason is None:
            row.take(token)
    assert ("".join(pieces), row.text) == (said, said)


def test_a_stop_text_ends_the_answer_and_is_left_out(client: TestClient, urls: list[str]) -> None:
    asked = ask("what?", urls[0], max_tokens=12)
    whole = client.post(CHAT, json=asked).json()["choices"][0]["message"]["content"]
    stop = whole[4:6]
    for stream in (False, True):
        reply = client.post(CHAT, json={**asked, "stop": stop, "stream": stream})
        if stream:
            found = events(reply.text)
            text = "".join(e["choices"][0]["delta"].get("content") or "" for e in found)
            reason = found[-1]["choices"][0]["finish_reason"]
        else:
            choice = reply.json()["choices"][0]
            text, reason = choice["message"]["content"], choice["finish_reason"]
        assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_eight_questions_on_one_image_encode_it_once(
    server: Server, client: TestClient, pictures: Sequence[Image.Image]
) -> None:
    new = data_url(pictures[1].rotate(90))
    before = [server.count(name) for name in ("images_encoded_total", "prefixes_read_total")]
    texts = [f"question {number}?" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        asked = [ask(text, new) for text in texts]
        replies = list(pool.map(lambda body: client.post(CHAT, json=body), asked))
    assert [reply.status_code for reply in replies] == [200] * 8
    for text, reply in zip(texts, replies, strict=True):
        expected = answer(server, [f"<image>\n{text}"], [pictures[1].rotate(90)], 8)
        assert reply.json()["choices"][0]["message"]["content"] == expected
    after = [server.count(name) for name in ("images_encoded_total", "prefixes_read_total")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]


def test_requests_that_wait_are_answered_together(server: Server, client: TestClient) -> None:
    before = server.count("batches_total")
    release = server.engine.call(lambda: time.sleep(0.5))
    with ThreadPoolExecutor(8) as pool:
        bodies = [ask(f"number {place}?", max_tokens=4 + place) for place in range(8)]
        replies = list(pool.map(lambda body: client.post(CHAT, json=body).json(), bodies))
    release.result()
    assert server.count("batches_total") - before <= 3
    for place, reply in enumerate(replies):
        expected = answer(server, [f"number {place}?"], [], 4 + place)
        assert reply["usage"]["completion_tokens"] <= 4 + place
        assert reply["choices"][0]["message"]["content"] == expected


def test_new_images_of_a_batch_are_encoded_together(
    server: Server,
    client: TestClient,
    pictures: Sequence[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = [picture.rotate(180) for picture in pictures]
    passes: list[int] = []
    own = server.model.encode

    def counted(**pixels: Any) -> Any:
        passes.append(len(next(iter(pixels.values()))))
        return own(**pixels)

    monkeypatch.setattr(server.model, "encode", counted)
    wait = server.engine.call(lambda: time.sleep(0.3))
    with ThreadPoolExecutor(3) as pool:
        bodies = [ask("what?", data_url(picture)) for picture in new]
        replies = list(pool.map(lambda body: client.post(CHAT, json=body).json(), bodies))
    wait.result()
    assert passes == [3]
    monkeypatch.undo()
    for picture, reply in zip(new, replies, strict=True):
        expected = answer(server, ["<image>\nwhat?"], [picture], 8)
        assert reply["choices"][0]["message"]["content"] == expected


def test_a_short_answer_does_not_wait_for_a_long_one(server: Server) -> None:
    handler = Handler(server.engine, NAME)
    short, long = (
        handler.job(read_request(ask("what?", max_tokens=tokens), LIMITS), lambda text: None)
        for tokens in (1, 30)
    )
    long_was_done: list[bool] = []
    short.done.add_done_callback(lambda _: long_was_done.append(long.done.done()))
    before = server.count("batches_total")
    wait = server.engine.call(lambda: time.sleep(0.2))
    server.engine.submit(short)
    server.engine.submit(long)
    wait.result()
    short.done.result()
    long.done.result()
    assert long_was_done == [False] and server.count("batches_total") - before == 1
    assert (len(short.row.tokens), len(long.row.tokens)) == (1, 30)


def test_sampling_with_a_seed_repeats(client: TestClient) -> None:
    asked = ask("tell me", temperature=1.5, seed=3, max_tokens=16)
    first, second = (client.post(CHAT, json=asked).json()["choices"] for _ in range(2))
    other = client.post(CHAT, json={**asked, "seed": 4}).json()["choices"]
    assert first == second != other


def test_a_full_queue_answers_429(build: Callable[..., Built], server: Server) -> None:
    full = Server(server.model, server.processor, replace(LIMITS, queue=2))
    hold = threading.Event()
    full.engine.call(hold.wait)
    client = TestClient(full.app, base_url="http://localhost")
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(client.post, CHAT, json=ask("hello")) for _ in range(6)]
        while sum(future.done() for future in futures) < 4:
            pass
        hold.set()
        codes = sorted(future.result().status_code for future in futures)
    assert codes == [200, 200, 429, 429, 429, 429]
    full.engine.stop()
    assert client.post(CHAT, json=ask("hello")).status_code == 503
    assert client.get("/health").status_code == 503


def test_other_paths(server: Server, client: TestClient) -> None:
    models = client.get("/v1/models").json()
    assert [entry["id"] for entry in models["data"]] == [NAME]
    assert client.get("/health").json() == {"status": "ok"}
    assert "manyeyes_images_encoded_total" in client.get("/metrics").text
    assert server.metrics.values()["manyeyes_requests_total 200"] >= 2
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text and "https://" not in page.text, "it loads nothing"
    for path in ("/load_model", "/reset", "/v1/completions", "/v1/responses", "/docs"):
        refused = client.post(path, json={})
        assert refused.status_code == 404 and "no such path" in refused.json()["error"]["message"]


def test_a_failure_in_a_batch_is_told_once_and_spares_the_others(
    server: Server, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = server.model.generate

    def failing(**inputs: Any) -> Any:
        text = server.processor.tokenizer.batch_decode(inputs["input_ids"])
        if any("break" in row for row in text):
            raise RuntimeError("broken")
        return own(**inputs)

    monkeypatch.setattr(server.model, "generate", failing)
    wait = server.engine.call(lambda: time.sleep(0.3))
    with ThreadPoolExecutor(3) as pool:
        bodies = [ask("fine?"), ask("break"), ask("also fine?")]
        replies = list(pool.map(lambda body: client.post(CHAT, json=body), bodies))
    wait.result()
    assert [reply.status_code for reply in replies] == [200, 500, 200]
    error = replies[1].json()["error"]
    assert error["type"] == "server_error" and "broken" not in error["message"]
    assert [str(fault) for fault in server.faults] == ["broken"]
    server.faults.clear()


def test_explanations_run_in_the_models_thread(server: Server, urls: list[str]) -> None:
    def explain(picture: Image.Image, text: str) -> str:
        return f"<p>{picture.size} {text}</p>"

    other = Server(server.model, server.processor, explain=explain)
    client = TestClient(other.app, base_url="http://localhost")
    found = client.post("/explain", json=ask("why?", urls[1]))
    assert found.text == "<p>(20, 12) why?</p>"
    assert client.post("/explain", json=ask("why?")).status_code == 400
    other.engine.stop()


def test_what_was_seen_stands_in_the_reply(server: Server) -> None:
    image = SeenImage((40, 20), None, {}, (Detection("cat", (1, 2, 3, 4), 0.5),), ("red",))
    row = Row(str, deadline=0.0)
    row.text = format_boxes([(10, 5, 20, 10)], style="shikra", width=40, height=20)
    job = Job((), ["d"], [None], [image], Sampling(), row)
    found = Handler(server.engine, NAME).seen(job)
    assert found["objects"] == [[{"name": "cat", "box": [1, 2, 3, 4]}]]
    assert found["tags"] == [["red"]]
    assert found["boxes"][0][0] == pytest.approx([10, 5, 20, 10], abs=0.1)
