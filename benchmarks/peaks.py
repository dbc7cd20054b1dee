"""The most memory that one training step holds.

On an accelerator as its allocator says. On a CPU torch's profiler names every allocation and
release of its allocator, kernels' own included; their running sum stands on what was held before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

GIB = 2**30


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages, each once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from tensors_in(inner)


class PeakOfLastStep(TrainerCallback):
    """``bytes``: the most memory held during a run's last step, weights and optimizer included."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.bytes = trainer, 0
        self._profile: Any = None
        self._before = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != state.max_steps - 1:
            return
        if torch.accelerator.is_available():
            torch.accelerator.memory.reset_peak_memory_stats()
            return
        model, optimizer = self.trainer.model, self.trainer.optimizer
        states = [] if optimizer is None else list(tensors_in(optimizer.state_dict()["state"]))
        buffers = () if model is None else model.buffers()
        parameters = () if model is None else model.parameters()
        self._before = held_bytes([*parameters, *buffers, *states])
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._profile.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != state.max_steps:
            return
        if torch.accelerator.is_available():
            self.bytes = torch.accelerator.memory.max_memory_allocated()
            return
        self._profile.__exit__(None, None, None)
        events = self._profile.profiler.kineto_results.events()
        changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
        self.bytes = self._before + highest(size for _, size in sorted(changes))


def highest(changes: Iterable[int]) -> int:
    """The highest running sum of ``changes``, at least 0."""
    most = now = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most


def last_step_peak(trainer: Trainer) -> int:
    """Train, and return the bytes of the last step's peak."""
    callback = PeakOfLastStep(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(callback)
    trainer.train()
    trainer.remove_callback(callback)
    return callback.bytes
