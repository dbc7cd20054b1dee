"""Callbacks of every stage: JSONL log, progress bar, final save, Ctrl-C as a request to stop."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed
from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from manyeyes import files
from manyeyes.layers.feature_scales import watch_scales

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class JsonlLog(TrainerCallback):
    """Write every log entry as one JSON line; a resumed run drops lines of steps it will repeat."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        kept = [line for line in lines if 0 < _step(line) <= state.global_step]
        files.write_bytes(self.path, b"".join(line + b"\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            with files.naming(self.path), self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


class ScaleCheck(TrainerCallback):
    """Warns once, at a stage's first batch with images, of encoders that differ in size.

    On the first process alone; see ``watch_scales``.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            watch_scales(kwargs["model"].fusion, lambda text: logger.warning("%s", text))


class SaveAtEnd(TrainerCallback):
    """Save after the last step whatever the save strategy: the next stage starts from there."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = True


class StageProgress(ProgressCallback):
    """The usual bar, on stderr only: figures stand beside it instead of on stdout."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.4g}")


class ReportSteps(TrainerCallback):
    """Tell a caller that draws its own progress: ``report(stage, steps done, steps in all)``."""

    def __init__(self, stage: str, report: Callable[[str, int, int], None]) -> None:
        self.stage, self.report = stage, report

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.report(self.stage, state.global_step, state.max_steps)


class StopOnSignal(TrainerCallback):
    """On Ctrl-C or SIGTERM finish the step, save, and stop; a second Ctrl-C stops at once.

    With several processes all stop at the same step. ``stopped`` tells whether it happened.
    """

    def __init__(self) -> None:
        self.asked = self.stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._any_rank_asked(args) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.restore()
            raise KeyboardInterrupt
        self.asked = True

    def _any_rank_asked(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self.asked
        flag = torch.tensor(float(self.asked), device=args.device)
        distributed.all_reduce(flag)
        return bool(flag > 0)


def _step(line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1  # a line that a kill cut short
