"""Helpers of the robustness tests: run a command on damaged input, judge how it ends, mutate JSON.

A command must end by itself, with its result or with one of manyeyes' own errors.
"""

from __future__ import annotations

import copy
import json
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from cli_runs import invoke
from manyeyes import errors

OWN = frozenset(
    name
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.ManyEyesError)
)
"""Names of the errors that manyeyes raises on purpose."""

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "0", "-1", "\x00", "\ud83d", "../..", "a" * 5000, "<image>", "{{ x }}", "%s"),
    *([], {}, [1], [[]], ["x"], {"x": 1}, {"name": "x"}, {"name": []}, [None], [{}]),
)
"""Values to put where others belong."""


class Hang(BaseException):
    """A command did not end in time. No ``Exception``, so that nothing can swallow it."""


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code and the object that it wrote with ``--json``."""

    code: int
    report: dict[str, Any]

    @property
    def error(self) -> str:
        """The message of the error; empty = it ended well."""
        return str(self.report.get("error", {}).get("message", ""))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``Hang`` in a block that takes longer."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(*words: object, seconds: float = 30.0, stdin: str | None = None) -> End:
    """Run a command with ``--json`` and check that it ends as a command may end."""
    with within(seconds):
        result = invoke(*words, "--json", stdin=stdin)
    said = f"{words}\n{result.stdout[-500:]}\n{result.stderr[-1500:]}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(said) from result.exception
    assert result.exit_code in (0, 1, 2), said
    assert "Traceback" not in result.stderr, said
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    if "error" in report:
        assert result.exit_code != 0, said
        assert report["error"]["type"] in OWN, said
        assert report["error"]["message"], said
    return End(result.exit_code, report)


def mutated(value: Any, random_: random.Random) -> tuple[Any, str]:
    """Return a copy of JSON data with one change at a random place, and what was changed."""
    changed = copy.deepcopy(value)
    holder, key = random_.choice(list(_places(changed)))
    kind = random_.choice(("drop", "put", "put", "put", "double", "swap"))
    where = f"{kind} {key!r}"
    if kind == "drop":
        del holder[key]
    elif kind == "double" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind == "swap":
        _, other = random_.choice(list(_places(value)))
        source, place = random_.choice(list(_places(value)))
        holder[key] = copy.deepcopy(source[place])
        where += f" for {place!r} ({other!r})"
    else:
        holder[key] = copy.deepcopy(random_.choice(STRANGE))
        where += f" = {str(holder[key])[:40]!r}"
    return changed, where


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside JSON data."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list) and value[key]:
            yield from _places(value[key])


def damaged_bytes(data: bytes, random_: random.Random) -> tuple[bytes, str]:
    """Return ``data`` cut, changed or with a piece doubled, never as it was, and what was done."""
    kind = random_.choice(("cut", "flip", "zero", "double", "insert"))
    place = random_.randrange(len(data)) if data else 0
    size = random_.randint(1, max(1, min(64, len(data) - place)))
    piece = data[place : place + size]
    new = {
        "cut": b"",
        "flip": bytes(byte ^ random_.randrange(1, 256) for byte in piece),
        "zero": bytes(size),
        "double": piece + piece,
        "insert": random_.randbytes(size) + piece,
    }[kind]
    rest = b"" if kind == "cut" else data[place + size :]
    changed = data[:place] + new + rest
    if changed == data:  # zeros in the place of zeros
        return damaged_bytes(data, random_)
    return changed, f"{kind} {size} at {place}"


def strict_json(text: str) -> Any:
    """Parse JSON; ValueError also where a key stands twice in one object."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)
