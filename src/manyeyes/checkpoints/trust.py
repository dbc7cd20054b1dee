"""Whether code that lies in a model folder may run. It may not, unless somebody says so.

A folder of ``transformers`` can name Python files of its own under ``auto_map``. They are run only
within ``trusting(True)``: the option ``--trust-remote-code`` of a command, or the argument
``trust_remote_code=True`` of ``from_pretrained``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

VARIABLE = "MANYEYES_TRUST_REMOTE_CODE"
"""Set to 1 in the environment by the option, so that processes which a command starts know it."""

_SAID: ContextVar[bool | None] = ContextVar("trust_remote_code", default=None)


def trusts_remote_code() -> bool:
    """Return what every Auto class must be given as ``trust_remote_code``."""
    said = _SAID.get()
    return os.environ.get(VARIABLE) == "1" if said is None else said


@contextmanager
def trusting(said: bool | None) -> Iterator[None]:
    """Trust, or do not trust, within a block of this thread; None = as before."""
    token = _SAID.set(_SAID.get() if said is None else bool(said))
    try:
        yield
    finally:
        _SAID.reset(token)


@contextmanager
def trusting_command(said: bool) -> Iterator[None]:
    """Trust within a block if ``said``, in this process and in those that it starts."""
    before = os.environ.get(VARIABLE)
    if said:
        os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if said and before is None:
            del os.environ[VARIABLE]
        elif said and before is not None:
            os.environ[VARIABLE] = before
