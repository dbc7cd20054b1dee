"""Trials one after another, or several at a time in processes of one thread each.

A trial waits while a stage that it has in common with another is being trained for that one.
Ctrl-C, or SIGTERM, lets every running trial save and stop. A trial that fails, or whose process is
killed, does not stop the others; failures are told at once, and together at the end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

import torch
from transformers.utils import logging

from manyeyes.errors import ManyEyesError
from manyeyes.study.trials.arms import Progress
from manyeyes.study.trials.asked import AskedArm, ask_arm
from manyeyes.study.trials.planned import PlannedTrial, run_trial
from manyeyes.study.trials.shared_stages import open_stages

Task = PlannedTrial | AskedArm

Finished = Callable[[Task], None]
"""Called after each trial whose record is written."""

EXPECTED = (ManyEyesError, OSError, MemoryError, torch.OutOfMemoryError)
"""What can go wrong in one trial (input, disk, memory) and need not end the others."""

Failed = Callable[[Task, str], None]
"""Called at once when a trial fails, with the reason."""


def run_trials(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    finished: Finished | None = None,
    failed: Failed | None = None,
) -> None:
    """Run all tasks; with ``jobs`` > 1 that many at a time, in processes of their own.

    Raises:
        ManyEyesError: some trials failed; names each, and the others are finished.
        KeyboardInterrupt: stopped; every trial can be continued.
    """
    failures: dict[str, str] = {}
    if jobs == 1:
        for task in tasks:
            try:
                run_task(task, progress)
            except EXPECTED as error:
                failures[task.title] = str(error) or type(error).__name__
                _tell_failure(failed, task, failures[task.title])
            else:
                _tell(finished, task)
    else:
        failures = _Pool(list(tasks), jobs, progress, finished, failed).run()
    if failures:
        said = "; ".join(f"{title}: {reason}" for title, reason in failures.items())
        raise ManyEyesError(
            f"{len(failures)} of {len(tasks)} trials failed; the same command tries them again "
            f"and keeps the others. {said}"
        )


def run_task(task: Task, progress: Progress | None = None) -> None:
    """Train and examine, or only ask."""
    if isinstance(task, AskedArm):
        ask_arm(task, progress)
    else:
        run_trial(task, progress)


@dataclass
class _Running:
    task: Task
    process: SpawnProcess
    pipe: Connection
    failure: str | None = None
    done: bool = False


@dataclass
class _Pool:
    """Processes at work, and the tasks that wait for one."""

    waiting: list[Task]
    jobs: int
    progress: Progress | None
    finished: Finished | None
    failed: Failed | None = None
    running: list[_Running] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def run(self) -> dict[str, str]:
        """Return title -> reason of the trials that failed."""
        try:
            while self.waiting or self.running:
                while len(self.running) < self.jobs and (task := self._next()) is not None:
                    self.waiting.remove(task)
                    self.running.append(_start(task))
                self._listen()
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            for one in self.running:
                one.process.kill()
                one.process.join()
        return self.failures

    def _next(self) -> Task | None:
        """The first task none of whose stages is just being trained for another, or None."""
        busy = {key for one in self.running for key in open_stages(one.task.run, one.task.stages)}
        for task in self.waiting:
            if not busy.intersection(open_stages(task.run, task.stages)):
                return task
        return None

    def _listen(self) -> None:
        """Wait until a process says something or ends, and take note of it."""
        by_pipe = {one.pipe: one for one in self.running}
        for pipe in wait(list(by_pipe)):
            one = by_pipe[pipe]  # type: ignore[index]
            try:
                kind, *rest = one.pipe.recv()
            except EOFError:
                self._end(one)
                continue
            if kind == "progress" and self.progress is not None:
                self.progress(*rest)
            elif kind == "failure":
                one.failure = rest[0]
            elif kind == "done":
                one.done = True

    def _end(self, one: _Running) -> None:
        one.process.join()
        self.running.remove(one)
        if one.done:
            _tell(self.finished, one.task)
        else:
            code = one.process.exitcode or 0
            killed = f"its process was killed (signal {-code})" if code < 0 else f"exit code {code}"
            self.failures[one.task.title] = one.failure or killed
            _tell_failure(self.failed, one.task, self.failures[one.task.title])

    def _stop(self) -> None:
        """Ask every process once to save and end, and wait for them; a second Ctrl-C kills them."""
        for one in self.running:
            one.process.terminate()
        for one in self.running:
            one.process.join()
        self.running = []


def _start(task: Task) -> _Running:
    context: SpawnContext = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, theirs, _Told.here()))
    process.start()
    theirs.close()
    return _Running(task, process, ours)


@dataclass(frozen=True)
class _Told:
    """What transformers tells in a process: from which level on, and whether with bars."""

    level: int
    bars: bool

    @classmethod
    def here(cls) -> _Told:
        return cls(logging.get_verbosity(), logging.is_progress_bar_enabled())

    def apply(self) -> None:
        logging.set_verbosity(self.level)
        if not self.bars:
            logging.disable_progress_bar()


def _work(task: Task, pipe: Connection, told: _Told) -> None:
    """The body of a process: one trial, its progress and its failure told through ``pipe``."""
    told.apply()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is the parent's, which asks us to stop
    signal.signal(signal.SIGTERM, _interrupt)
    _die_with_parent()
    torch.set_num_threads(1)

    def say(*words: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            pipe.send(words)

    try:
        run_task(task, lambda *step: say("progress", *step))
        say("done")
    except KeyboardInterrupt:
        say("failure", "stopped")
    except EXPECTED as error:
        say("failure", str(error) or type(error).__name__)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    """Save and stop when the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _tell_failure(failed: Failed | None, task: Task, reason: str) -> None:
    if failed is not None:
        failed(task, reason)


def _tell(finished: Finished | None, task: Task) -> None:
    if finished is not None:
        finished(task)
