"""A limit for programs that come with data, such as chat templates."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ending_within(seconds: float) -> Iterator[None]:
    """Stop a block after so many seconds of computing, where the system can: in the main thread.

    Raises:
        TimeoutError: it had not come to its end.
    """
    if not hasattr(signal, "SIGVTALRM") or threading.current_thread() != threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it has not come to an end after {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
