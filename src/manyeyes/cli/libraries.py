"""Quiet libraries: no progress bars of their own, and only errors in their logs; ours are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class _Notes(logging.Handler):
    """Hands every message to a function."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.note = note

    def emit(self, record: logging.LogRecord) -> None:
        self.note(record.getMessage())


def show_log(note: Callable[[str], None]) -> None:
    """Hand what the package itself logs to ``note``, in place of an earlier one."""
    log = logging.getLogger("manyeyes")
    log.handlers = [handler for handler in log.handlers if not isinstance(handler, _Notes)]
    log.addHandler(_Notes(note))
    log.setLevel(logging.INFO)


def quiet_libraries(*, debug: bool) -> None:
    """Silence the bars and notes of transformers and the hub client; ``debug`` leaves the notes."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging

    logs: Any = logging
    disable_progress_bars()
    logs.disable_progress_bar()
    if not debug:
        logs.set_verbosity_error()
