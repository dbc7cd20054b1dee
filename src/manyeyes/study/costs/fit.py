"""Whether a stage fits a GPU that is named, and how long a step takes there at least.

Source: ours; the time is that of a roofline (Williams et al. 2009): whichever takes longer, the
arithmetic at the published peak or the memory traffic at the published bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from manyeyes.study.costs.gpus import Gpu
from manyeyes.study.costs.memory import Memory
from manyeyes.study.costs.stage import StageCost

ASSUMPTION = (
    "time on a GPU: operations / published peak or bytes / published bandwidth, whichever is "
    "longer, without what GPUs send each other: a lower bound; memory: as published, of which the "
    "driver takes some"
)


@dataclass(frozen=True)
class Fit:
    """A stage on ``gpus`` GPUs of one kind.

    ``spare``: bytes that are left on each, less than 0 where it does not fit, by how the processes
    share the model; ``seconds``: per optimizer step.
    """

    gpu: str
    gpus: int
    memory: int
    spare: Mapping[str, int]
    seconds: float


def fit(cost: StageCost, gpu: Gpu, gpus: int) -> Fit:
    """Return how a stage, whose memory is counted, fits ``gpus`` GPUs."""
    ways = cost.ways or {"one process": next(iter(cost.memory.values()))}
    return Fit(
        gpu=gpu.name,
        gpus=gpus,
        memory=int(gpu.memory),
        spare={way: int(gpu.memory) - memory.total for way, memory in ways.items()},
        seconds=_seconds(cost, gpu, gpus),
    )


def _seconds(cost: StageCost, gpu: Gpu, gpus: int) -> float:
    (memory,) = cost.memory.values()
    peak = gpu.bfloat16 if cost.compute_dtype == "bfloat16" else gpu.float32
    times = math.ceil(cost.samples_per_step / (cost.batch_per_process * gpus))
    return max(
        cost.operations_per_step / gpus / peak,
        (times * _micro_traffic(memory) + _step_traffic(memory)) / gpu.bandwidth,
    )


def _micro_traffic(memory: Memory) -> int:
    """Bytes of a micro-batch: weights read forward and backward, activations written and read."""
    return 2 * (memory.weights + memory.gathered + memory.activations) + memory.gradients


def _step_traffic(memory: Memory) -> int:
    """Bytes of the optimizer: gradients read, its state and what learns read and written."""
    return memory.gradients + 2 * (memory.optimizer + memory.gradients)
