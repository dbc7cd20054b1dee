"""Quiet libraries: no progress bars of their own, and only errors in their logs."""

from __future__ import annotations

from typing import Any


def quiet_libraries(*, debug: bool) -> None:
    """Silence the bars and notes of transformers and the hub client; ``debug`` leaves the notes."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging

    logs: Any = logging
    disable_progress_bars()
    logs.disable_progress_bar()
    if not debug:
        logs.set_verbosity_error()
