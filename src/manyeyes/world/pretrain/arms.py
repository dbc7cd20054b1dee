"""The arms whose starts ship: the recipe of each, and what of its model a start leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """``recipe``: whose last model the start is for. ``settings``: changes of that model, as for
    ``--set``; what they switch off is learnt by the recipe's own stages."""

    recipe: str
    settings: tuple[str, ...] = ()


ARMS: Mapping[str, Arm] = {
    "clip": Arm("clip/world"),
    "clip-levels": Arm("clip/world-levels"),
    "clip-twice": Arm("clip/world-twice"),
    "comm": Arm("comm/world"),
    "concat": Arm("concat/world"),
    "dinov2": Arm("dinov2/world"),
    "dinov2-linear": Arm("dinov2/world-linear"),
    "lion": Arm("lion/world", ("model.bridge.adapters=null", "model.bridge.tags=none")),
    "mr-mllm": Arm("mr-mllm/world-features-only", ("model.fusion.refine=false",)),
    "mr-mllm-scene": Arm("mr-mllm/world-no-perception"),
    "qformer": Arm("qformer/world"),
    "xformer": Arm("xformer/world"),
    "xformer-clip-layer": Arm("xformer/world-clip-layer"),
    "xformer-concat": Arm("xformer/world-concat"),
    "xformer-early": Arm("xformer/world-early"),
}
"""Every arm by the name of its start."""
