"""Values that layers inside a language model read besides their input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class Inside(Generic[T]):
    """One such value: a keyword of the model's ``forward``, or given to a block of code.

    Training passes it as the keyword, because checkpointed layers run again after the block;
    ``generate`` needs the block, because it refuses keywords that ``forward`` does not name. (Of
    the two kinds of checkpointing only the default, non-reentrant one takes keywords with
    gradients.)
    """

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        self._given: ContextVar[T | None] = ContextVar(keyword, default=None)

    @contextmanager
    def given(self, value: T | None) -> Iterator[None]:
        """Let every layer that runs inside the block read ``value``."""
        token = self._given.set(value)
        try:
            yield
        finally:
            self._given.reset(token)

    def read(self, passed: T | None) -> T | None:
        """Return what was ``passed`` as the keyword, else what the block gives."""
        return self._given.get() if passed is None else passed
