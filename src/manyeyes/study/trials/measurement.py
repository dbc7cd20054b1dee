"""Time and memory of one trial, as far as this machine can tell."""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from manyeyes.images.reading import load_image
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor

_GIB = 2.0**30
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_REPEATS = 5
WARM_UP = 2
"""Steps of a stage that its pace leaves out."""


class Pace:
    """Seconds per optimizer step of every stage, from a training run's ``progress`` calls."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    def step(self, stage: str, done: int, total: int) -> None:
        """Note that a step was finished now."""
        self._times.setdefault(stage, []).append(time.monotonic())

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> median seconds of a step, for stages with enough steps to tell."""
        found = {}
        for stage, times in self._times.items():
            kept = times[min(WARM_UP, max(0, len(times) - 2)) :]
            steps = [later - sooner for sooner, later in itertools.pairwise(kept)]
            if steps:
                found[stage] = statistics.median(steps)
        return found


def forget_peak() -> None:
    """Start to measure the largest memory anew, where the system allows it (Linux, CUDA)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_gib() -> float:
    """Return the largest memory since `forget_peak`: of the CUDA device, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / _GIB
    try:
        lines = _STATUS.read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) * 1024 / _GIB
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB


@torch.inference_mode()
def encode_ms(
    model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor, images: Sequence[str]
) -> float:
    """Return milliseconds from one image file to what the language model reads of it.

    The mean over ``images`` encoded together; the median of five such batches.
    """
    model.eval()
    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        encoded = EncodedImages(model, processor, [load_image(path) for path in images])
        questions = ["?"] * len(images) if processor.reads_questions else []
        encoded.shown(range(len(images)), questions)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 1000.0 * statistics.median(times[1:]) / len(images)
