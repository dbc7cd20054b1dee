"""A plugin of pytest: the Python parts of torchvision beside a PyTorch for CPUs.

Its wheels on PyPI are linked to CUDA. Where their compiled operators cannot be loaded, the import
fails on two of them, and so do those of ``timm`` and ``transformers``, which call neither for what
is tested. They are declared here before anything else is imported.
"""

from __future__ import annotations

from torch.library import Library

LIBRARY = Library("torchvision", "FRAGMENT")

try:
    import torchvision  # noqa: F401
except RuntimeError:
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
