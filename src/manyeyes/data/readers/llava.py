"""LLaVA: ``{id, image, conversations: [{from: human | gpt, value}]}``, as JSON list or lines.

``image`` is a path or a list of paths; rows without it are text only. See ``conversation`` for the
optional keys ``boxes``, ``points``, ``box_image`` and ``task``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.data.readers.conversation import read_value_rows as read

__all__ = ["matches", "read"]


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``conversations``, without ShareGPT's ``images`` and Shikra's ``target``."""
    return "conversations" in record and "images" not in record and "target" not in record
