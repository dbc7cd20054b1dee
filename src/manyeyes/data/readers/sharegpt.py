"""ShareGPT: ``{conversations: [{from, value}], images: [path, ...], system}``.

Like LLaVA but with a list of images under ``images`` and an optional ``system`` text; roles may be
called ``human`` or ``user``, ``gpt`` or ``assistant``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.data.readers.conversation import read_value_rows as read

__all__ = ["matches", "read"]


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``conversations`` and ``images``."""
    return "conversations" in record and "images" in record
