"""``pretrain``: train one shipped vision part and write its folder and card."""

from __future__ import annotations

from manyeyes.world.pretrain.clip import ClipObjective
from manyeyes.world.pretrain.dino import DinoObjective
from manyeyes.world.pretrain.mae import MaeObjective

OBJECTIVES = {"clip": ClipObjective, "dinov2": DinoObjective, "mae": MaeObjective}
