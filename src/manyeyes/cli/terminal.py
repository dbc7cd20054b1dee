"""What reaches a terminal: text from data never steers it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but tab and newline, changes of direction, halves of characters."""


def harmless(text: str) -> str:
    """Return a text without what a terminal obeys; an escape sequence loses its first character."""
    return _STEERING.sub("", text)


def escaped_json(text: str) -> str:
    """Return JSON in which everything that a terminal obeys is written as ``\\uXXXX``."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class HarmlessConsole(Console):
    """A console whose colours and bars work, and whose texts are `harmless`."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as ``rich`` does; segments that are no controls of its own are cleaned."""
        for segment in super().render(renderable, options):
            if segment.control or _STEERING.search(segment.text) is None:
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)
