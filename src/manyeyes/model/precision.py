"""Whether bfloat16 pays where a run computes.

On CPUs without bfloat16 instructions PyTorch emulates them: a 1024 x 1024 product took 100 times
as long as in float32 (AMD EPYC with AVX2, 2 threads, torch 2.13), while on CPUs with AVX512-BF16 or
AMX it takes a quarter of the time. So the choice is the machine's, not the recipe's.
"""

from __future__ import annotations

import functools
import platform

import torch

CPU = torch.device("cpu")


def bfloat16_pays(device: torch.device | None = None) -> bool:
    """Whether bfloat16 is computed natively on ``device``; None = where training would run."""
    place = device or torch.accelerator.current_accelerator(check_available=True)
    if place is None or place.type == "cpu":
        return _cpu_has_bfloat16()
    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def autocast(device: torch.device) -> torch.autocast:
    """Return a context that computes in bfloat16 where it pays and in float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device))


def computed_in(device: torch.device) -> str:
    """Return how ``autocast`` computes on ``device``, in words."""
    return "bf16 autocast" if bfloat16_pays(device) else "fp32"


@functools.cache
def _cpu_has_bfloat16() -> bool:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
