"""What every bridge is: it puts visual evidence where the language model reads it.

Shapes: B samples, T positions, I images, K visual tokens per image, H language-model width.
"""

from __future__ import annotations

from typing import NamedTuple


class ImageTokenIds(NamedTuple):
    """Ids that mark an image in ``input_ids``: K times ``image``, between ``start`` and ``end``."""

    image: int
    start: int
    end: int
