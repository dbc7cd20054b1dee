"""What a command writes, and where: results on stdout, everything else on stderr.

With ``--json`` stdout holds exactly one JSON object, also when the command fails. What libraries
print goes to stderr; progress bars appear only on a terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from manyeyes.checkpoints.trust import trusting_command
from manyeyes.cli.terminal import HarmlessConsole, escaped_json, harmless
from manyeyes.errors import ManyEyesError
from manyeyes.lines import duration_text

INTERRUPTED = 130
"""Exit code after Ctrl-C (128 + SIGINT)."""

PIPE_WIDTH = 120
"""Columns of tables that go to a file or another program."""

Report = Callable[[str, int, int | None], None]
"""Called as ``report(label, done, total)``; ``total`` None = not known."""


class Output:
    """The two streams of one run of a command.

    Args:
        stdout: where results go. as_json: write one JSON object instead of tables and text.
    """

    def __init__(self, stdout: TextIO, *, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = stdout
        # processes of one training job share a terminal: only the first of them writes
        self._quiet = int(os.environ.get("RANK", "0")) != 0
        width = None if stdout.isatty() else PIPE_WIDTH
        quiet = as_json or self._quiet
        self.screen = HarmlessConsole(file=stdout, highlight=False, quiet=quiet, width=width)
        self.log = HarmlessConsole(stderr=True, highlight=False)
        self._written = False

    def show(self, *things: RenderableType) -> None:
        """Print tables or text for people on stdout; nothing with ``--json``."""
        for thing in things:
            self.screen.print(thing)

    def line(self, text: str) -> None:
        """Print one unwrapped line of plain text on stdout; nothing with ``--json``."""
        self.screen.print(escape(text), soft_wrap=True)

    def write(self, text: str) -> None:
        """Write a piece of a model's text to stdout at once; nothing with ``--json``.

        Control characters are left out: a model must not steer the terminal.
        """
        if not (self.as_json or self._quiet):
            self._stdout.write(harmless(text))
            self._stdout.flush()

    def note(self, text: str) -> None:
        """Print one unwrapped line of plain text on stderr."""
        if not self._quiet:
            self.log.print(escape(text), soft_wrap=True)

    def result(self, values: Mapping[str, Any]) -> None:
        """Write the command's JSON object to stdout; nothing without ``--json``."""
        if not self.as_json or self._quiet:
            return
        if self._written:
            raise RuntimeError("a command writes one JSON object")
        text = _one_object(values, self._stdout.encoding or "utf-8")
        self._written = True
        self._stdout.write(text)
        self._stdout.flush()

    def complain(self, error: Exception) -> str:
        """Say in one red line on stderr what went wrong; return the line."""
        message = message_of(error)
        self.log.print(f"[bold red]error:[/bold red] {escape(message)}", soft_wrap=True)
        return message

    def fail(self, error: Exception) -> None:
        """``complain``, and with ``--json`` write the error as the object on stdout."""
        self.complain(error)
        self.tell(error)

    def tell(self, error: Exception) -> None:
        """With ``--json``, write ``error`` as the object on stdout, unless there is one already."""
        if not self._written:
            self.result(error_object(error))

    def interrupted(self, reason: str, resume: str | None) -> None:
        """Say that Ctrl-C was heard, and with which command to go on."""
        parts = ["interrupted", *([reason] if reason else [])]
        parts += [f"continue with: {resume}"] if resume else []
        self.note("; ".join(parts))
        if not self._written:
            self.result({"error": {"type": "KeyboardInterrupt", "message": parts[-1]}})

    @contextlib.contextmanager
    def progress(self) -> Iterator[Report]:
        """Yield a function that moves progress bars, one per label.

        Off a terminal it writes a line now and then, with the time that is left.
        """
        if not self.log.is_terminal:
            yield (lambda label, done, total: None) if self._quiet else PlainProgress(self.note)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.log, disable=self._quiet, transient=True) as bars:
            tasks: dict[str, Any] = {}

            def report(label: str, done: int, total: int | None) -> None:
                if label not in tasks:
                    tasks[label] = bars.add_task(escape(label), total=total)
                bars.update(tasks[label], completed=done, total=total)

            yield report

    @contextlib.contextmanager
    def status(self, label: str) -> Iterator[Callable[[str], None]]:
        """Yield a function that shows one changing line of text; silent off a terminal."""
        if self._quiet or not self.log.is_terminal:
            yield lambda text: None
            return
        with self.log.status(escape(label)) as line:
            yield lambda text: line.update(escape(f"{label}: {text}"))


class PlainProgress:
    """Progress as lines of a log: the first after half a minute, then one every half minute.

    Args:
        note: writes a line. clock: seconds, for tests.
    """

    EVERY = 30.0

    def __init__(
        self, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.note, self.clock = note, clock
        self.said = clock()
        self.begun: dict[str, tuple[float, int]] = {}

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """Take note of how far ``label`` is; say it if it is time."""
        now = self.clock()
        started, first = self.begun.setdefault(label, (now, done))
        if now - self.said < self.EVERY:
            return
        self.said = now
        text = f"{label}: {done:,}" + ("" if total is None else f" of {total:,}")
        if total is not None and first < done < total:
            left = (now - started) / (done - first) * (total - done)
            text += f", about {duration_text(left)} left"
        self.note(text)


@contextlib.contextmanager
def session(
    *, as_json: bool, debug: bool, resume: str | None = None, trust: bool = False
) -> Iterator[Output]:
    """Run a command's body: errors become one line and an exit code, prints go to stderr.

    A mistake in the program keeps its traceback, and with ``--json`` is the object all the same.

    Args:
        as_json, debug: the options of the same names; ``debug`` adds the traceback.
        resume: after Ctrl-C, the command that goes on where this one stopped.
        trust: model folders may run Python files of their own.

    Raises:
        typer.Exit: 1 or 2 after a deliberate error, 130 after Ctrl-C.
    """
    output = Output(sys.stdout, as_json=as_json)
    with (
        contextlib.redirect_stdout(sys.stderr),
        _short_warnings(output),
        trusting_command(trust),
    ):
        try:
            yield output
        except KeyboardInterrupt as error:
            output.interrupted(str(error), resume)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if not _is_expected(error):
                output.tell(error)
                raise
            if debug:
                output.note(traceback.format_exc())
            output.fail(error)
            raise typer.Exit(getattr(error, "exit_code", 1)) from error


def _is_expected(error: Exception) -> bool:
    """Tell what can go wrong in use (input, disk, memory) from mistakes in the program."""
    out_of_memory = type(error).__name__ == "OutOfMemoryError"  # torch's; it may not be loaded yet
    return isinstance(error, ManyEyesError | OSError | MemoryError) or out_of_memory


def message_of(error: Exception) -> str:
    """Return what ``error`` says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def error_object(error: Exception) -> dict[str, Any]:
    """Return the JSON object that stands for ``error``: type, message, and where, when known."""
    places = {key: getattr(error, key, None) for key in ("file", "line", "entry", "key")}
    found = {key: value for key, value in places.items() if isinstance(value, str | int)}
    return {"error": {"type": type(error).__name__, "message": message_of(error), **found}}


def _one_object(values: Mapping[str, Any], encoding: str) -> str:
    """Return the line to write; what ``encoding`` has no letters for is escaped."""
    plain = jsonable(values)
    text = json.dumps(plain, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeError:
        text = json.dumps(plain, ensure_ascii=True)
    return escaped_json(text) + "\n"


def jsonable(value: Any) -> Any:
    """Return ``value`` as JSON data: dataclasses and paths unfolded, non-finite numbers as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


@contextlib.contextmanager
def _short_warnings(output: Output) -> Iterator[None]:
    """Print each warning as one yellow line, without the source line it came from."""
    before = warnings.showwarning

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        output.log.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
