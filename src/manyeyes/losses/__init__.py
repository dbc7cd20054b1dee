"""Training objectives: named intermediates to a scalar. One file per objective."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.losses.contract import Objective
from manyeyes.losses.next_token import NEXT_TOKEN

OBJECTIVES: Mapping[str, Objective] = {
    "next_token": NEXT_TOKEN,
}
"""Objective by the name recipes use."""
