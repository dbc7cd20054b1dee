"""What waits for the model, and which of it is answered together.

    entries ─queue→ the first, with those behind it that fit → one batch

A batch takes whatever waits when the one before it ends. The clients of that one are then only
about to ask again: a batch that took the first of them would leave the others to the next. So it
waits until as many are there again, but only for a small share of the time that the last batch
took. A single client never waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from manyeyes.errors import RequestError

Entry = TypeVar("Entry")

SHARE, SECONDS = 0.1, 0.01
"""How long a batch may wait for the clients of the last one: this share of the time that it took,
or so many seconds if those are more."""


class Waiting(Generic[Entry]):
    """A queue from which batches are taken; any thread may put, one thread takes.

    Args:
        size: entries that may wait. batch: entries of one batch. together: whether the second may
            be answered with the first. on_change: told how many wait.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        together: Callable[[Entry, Entry], bool],
        on_change: Callable[[int], None] = lambda waiting: None,
    ) -> None:
        self._size, self._batch = size, batch
        self._together, self._on_change = together, on_change
        self._entries: deque[Entry] = deque()
        self._change = threading.Condition()
        self._ending = False
        self._taken = 0
        self._taken_at = 0.0

    @property
    def ending(self) -> bool:
        """Whether nothing more is accepted."""
        return self._ending

    def put(self, entry: Entry) -> None:
        """Put an entry at the end.

        Raises:
            RequestError: 429 when too many wait; 503 after ``end``.
        """
        with self._change:
            if self._ending:
                raise RequestError("the server is shutting down", status=503)
            if len(self._entries) >= self._size:
                raise RequestError(
                    f"{len(self._entries)} requests are waiting; try again later",
                    status=429,
                    code="rate_limit_exceeded",
                )
            self._entries.append(entry)
            self._on_change(len(self._entries))
            self._change.notify()

    def end(self) -> None:
        """Accept nothing more; what waits can still be taken."""
        with self._change:
            self._ending = True
            self._change.notify()

    def take(self) -> list[Entry] | None:
        """Wait for the next batch; None = it has ended and nothing is left."""
        with self._change:
            self._gather(time.monotonic() - self._taken_at)
            self._change.wait_for(lambda: self._entries or self._ending)
            if not self._entries:
                return None
            found = self._first_batch()
            self._on_change(len(self._entries))
            self._taken, self._taken_at = len(found), time.monotonic()
        return found

    def _gather(self, seconds: float) -> None:
        """Wait for the clients of the last batch, when their answers took ``seconds``."""
        if self._taken < 2:
            return
        enough = min(len(self._entries) + self._taken, self._batch)
        self._change.wait_for(
            lambda: len(self._entries) >= enough or self._ending,
            timeout=max(SHARE * seconds, SECONDS),
        )

    def _first_batch(self) -> list[Entry]:
        first = self._entries.popleft()
        others = [entry for entry in self._entries if self._together(first, entry)]
        for entry in others[: self._batch - 1]:
            self._entries.remove(entry)
        return [first, *others[: self._batch - 1]]
