"""Training objectives: named intermediates to a scalar. One file per objective."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.losses.contract import Objective
from manyeyes.losses.detection import DETECTION
from manyeyes.losses.itc import ITC
from manyeyes.losses.itg import ITG
from manyeyes.losses.itm import ITM
from manyeyes.losses.next_token import NEXT_TOKEN
from manyeyes.losses.reconstruction import RECONSTRUCTION

OBJECTIVES: Mapping[str, Objective] = {
    "detection": DETECTION,
    "itc": ITC,
    "itg": ITG,
    "itm": ITM,
    "next_token": NEXT_TOKEN,
    "reconstruction": RECONSTRUCTION,
}
"""Objective by the name recipes use."""
