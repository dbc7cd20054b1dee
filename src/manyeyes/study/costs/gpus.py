"""GPUs by name: memory, arithmetic and bandwidth as their maker publishes them.

Sources: NVIDIA's data sheets of the H100 and H200 SXM (they give bfloat16 with sparsity, 1,979
TFLOPS, of which half is dense), of the A100 SXM with 40 and 80 GB (nvidia-a100-datasheet) and of
the L4 (242 TFLOPS with sparsity); the Ada architecture's white paper for the RTX 4090. bfloat16 on
tensor cores with float32 sums, without sparsity; float32 without tensor cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from manyeyes.errors import UsageError, nearest


@dataclass(frozen=True)
class Gpu:
    """``memory`` in bytes, ``bandwidth`` in bytes per second, operations per second by type.

    ``devices``: what CUDA calls it.
    """

    name: str
    memory: float
    bfloat16: float
    float32: float
    bandwidth: float
    devices: tuple[str, ...]


GPUS: Mapping[str, Gpu] = {
    "h100": Gpu("H100 SXM", 80e9, 989.4e12, 66.9e12, 3.35e12, ("NVIDIA H100 80GB HBM3",)),
    "h200": Gpu("H200 SXM", 141e9, 989.4e12, 66.9e12, 4.8e12, ("NVIDIA H200",)),
    "a100-80": Gpu("A100 SXM 80 GB", 80e9, 312e12, 19.5e12, 2.039e12, ("NVIDIA A100-SXM4-80GB",)),
    "a100-40": Gpu("A100 SXM 40 GB", 40e9, 312e12, 19.5e12, 1.555e12, ("NVIDIA A100-SXM4-40GB",)),
    "l4": Gpu("L4", 24e9, 121e12, 30.3e12, 300e9, ("NVIDIA L4",)),
    "4090": Gpu("RTX 4090", 24e9, 165.2e12, 82.6e12, 1.008e12, ("NVIDIA GeForce RTX 4090",)),
}


def get_gpu(name: str) -> Gpu:
    """Return the GPU called ``name``.

    Raises:
        UsageError: none is (naming the nearest).
    """
    if name not in GPUS:
        raise UsageError(f"unknown GPU {name!r}{nearest(name, GPUS)}; known: {', '.join(GPUS)}")
    return GPUS[name]


def this_gpu() -> Gpu | None:
    """Return the GPU of this machine, if it has one that is known here."""
    if not torch.cuda.is_available():
        return None
    device = torch.cuda.get_device_name()
    return next((gpu for gpu in GPUS.values() if device in gpu.devices), None)
