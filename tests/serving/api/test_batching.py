"""Which requests are answered together: they wait for each other only where that is worth it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from manyeyes.errors import RequestError
from manyeyes.serving.api import batching
from manyeyes.serving.api.batching import Waiting


@pytest.fixture
def waiting() -> Waiting[str]:
    """Words are answered together that begin alike."""
    return Waiting(size=6, batch=4, together=lambda first, other: first[0] == other[0])


@pytest.fixture
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch took a hundred seconds."""
    clock: Iterator[float] = iter(range(0, 10_000, 100))
    monkeypatch.setattr(batching.time, "monotonic", lambda: next(clock))


def put_later(waiting: Waiting[str], *entries: str) -> threading.Thread:
    """Put entries from another thread, one after the other."""

    def put() -> None:
        for entry in entries:
            time.sleep(0.05)
            waiting.put(entry)

    thread = threading.Thread(target=put)
    thread.start()
    return thread


def test_those_that_fit_the_first_go_with_it(waiting: Waiting[str]) -> None:
    for entry in ("a1", "b1", "a2", "a3", "a4", "a5"):
        waiting.put(entry)
    assert waiting.take() == ["a1", "a2", "a3", "a4"]
    assert waiting.take() == ["b1"]
    assert waiting.take() == ["a5"]


@pytest.mark.usefixtures("slow_answers")
def test_a_batch_waits_for_the_clients_of_the_last(waiting: Waiting[str]) -> None:
    for entry in ("a1", "a2", "b1"):
        waiting.put(entry)
    assert waiting.take() == ["a1", "a2"]
    putting = put_later(waiting, "b2", "b3")
    assert waiting.take() == ["b1", "b2", "b3"], "as many again, and the one that waited"
    putting.join()


@pytest.mark.usefixtures("slow_answers")
def test_a_single_client_never_waits(waiting: Waiting[str]) -> None:
    waiting.put("a1")
    assert waiting.take() == ["a1"]
    waiting.put("a2")
    putting = put_later(waiting, "a3")
    assert waiting.take() == ["a2"]
    putting.join()


def test_clients_that_do_not_come_back_are_waited_for_once(waiting: Waiting[str]) -> None:
    for entry in ("a1", "a2", "a3"):
        waiting.put(entry)
    assert waiting.take() == ["a1", "a2", "a3"]
    waiting.put("a4")
    before = time.monotonic()
    assert waiting.take() == ["a4"]
    assert time.monotonic() - before >= batching.SECONDS
    assert waiting._taken == 1


def test_what_waits_is_answered_when_the_server_ends(waiting: Waiting[str]) -> None:
    for entry in ("a1", "a2"):
        waiting.put(entry)
    waiting.take()
    waiting.put("a3")
    waiting.end()
    with pytest.raises(RequestError, match="shutting down"):
        waiting.put("a4")
    assert waiting.take() == ["a3"]
    assert waiting.take() is None


def test_a_full_queue_refuses(waiting: Waiting[str]) -> None:
    seen: list[int] = []
    full: Waiting[str] = Waiting(2, 4, lambda first, other: True, seen.append)
    full.put("a")
    full.put("b")
    with pytest.raises(RequestError, match="2 requests are waiting") as error:
        full.put("c")
    assert error.value.status == 429
    full.take()
    assert seen == [1, 2, 0]
