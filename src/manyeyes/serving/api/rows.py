"""Rows of a batch that is being generated: each has its own text, its own end, its own reader.

`generate` hands every step's tokens to a streamer, then asks its stopping criteria: a row that has
reached its length, one of its stop texts or its deadline, or whose reader has left, ends there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

Reason = Literal["stop", "length", "late", "gone"]
"""Why a row ended: the model or a stop text ended it; its length; its deadline; nobody reads it."""


class Row:
    """The answer to one request while it is written.

    Args:
        on_text: receives the text piece by piece, without any stop text, from its first letter on.
        stop: texts that end the answer. deadline: of ``time.monotonic``.
    """

    def __init__(
        self, on_text: Callable[[str], None], *, stop: Sequence[str] = (), deadline: float
    ) -> None:
        self._on_text, self._stop, self._deadline = on_text, tuple(stop), deadline
        self._gone = threading.Event()
        self._hold = max((len(text) for text in stop), default=1) - 1
        self._written, self._raw = 0, ""
        self._decode: DecodeStream | None = None
        self.room = 0
        self.tokens: list[int] = []
        self.ends: Collection[int] = ()
        self.text = ""
        self.reason: Reason | None = None

    def cancel(self) -> None:
        """Nobody reads this answer any more."""
        self._gone.set()

    @property
    def abandoned(self) -> Reason | None:
        """Why the row should end though the model has not ended it."""
        if self._gone.is_set():
            return "gone"
        return "late" if time.monotonic() > self._deadline else None

    def begin(self, tokenizer: Any, room: int, ends: Collection[int]) -> None:
        """Make ready for ``room`` tokens; ``ends``: tokens that end an answer."""
        self._tokenizer = tokenizer
        self._decode = DecodeStream([], skip_special_tokens=True)
        self.room, self.ends = room, ends

    def take(self, token: int) -> None:
        """Read one token."""
        if self._decode is None:
            return
        self.tokens.append(token)
        self._raw += self._decode.step(self._tokenizer._tokenizer, token) or ""
        cut = min((at for text in self._stop if (at := self._raw.find(text)) >= 0), default=-1)
        if cut >= 0:
            self._raw = self._raw[:cut]
        self.reason = self._end(token, cut >= 0)
        if self.reason is not None and cut < 0:
            whole = str(self._tokenizer.decode(self.tokens, skip_special_tokens=True))
            if whole.startswith(self._raw):  # a last character of which bytes are missing
                self._raw = whole
        self.text = self._raw.lstrip()
        upto = len(self.text) if self.reason else max(self._written, len(self.text) - self._hold)
        if upto > self._written:
            self._on_text(self.text[self._written : upto])
            self._written = upto

    def _end(self, token: int, cut: bool) -> Reason | None:
        if cut or token in self.ends:
            return "stop"
        return "length" if len(self.tokens) >= self.room else self.abandoned


class BatchStream(BaseStreamer):
    """Hands each row its tokens.

    Args:
        on_end: told the place of every row that has ended.
    """

    def __init__(self, rows: Sequence[Row], on_end: Callable[[int], None]) -> None:
        self.rows, self._on_end, self._prompt = rows, on_end, True

    def put(self, value: Tensor) -> None:
        """Take the prompts first, then a token of every row ``[B]`` at each step."""
        if self._prompt:
            self._prompt = False
            return
        tokens = zip(self.rows, value.reshape(-1).tolist(), strict=True)
        for place, (row, token) in enumerate(tokens):
            if row.reason is None:
                row.take(int(token))
                if row.reason is not None:
                    self._on_end(place)

    def end(self) -> None:
        """Nothing is left to do."""


class RowsEnd(StoppingCriteria):
    """Ends the rows that have a reason to end."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """True ``[B]`` where a row has ended."""
        ended = [row.reason is not None for row in self.rows]
        return torch.tensor(ended, device=input_ids.device)
