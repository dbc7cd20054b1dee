"""What one request, and all of them together, may cost the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    body: bytes of a request. images: of a request. pixels: of one image. text: characters of all
    messages. tokens: of one answer. seconds: until a body has arrived, and from then until the
    answer is complete. queue: requests that wait. batch: requests that are answered together.
    image_bytes, prefix_bytes: what is kept of images, and of the keys and values of prompts that
    begin with them.
    """

    body: int = 20 * 2**20
    images: int = 8
    pixels: int = 2**24
    text: int = 2**16
    tokens: int = 1024
    seconds: float = 120.0
    queue: int = 64
    batch: int = 8
    image_bytes: int = 2**28
    prefix_bytes: int = 2**30
