"""A tiny model behind its server in this process, and requests for it."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.inference.seen_images import Sight
from manyeyes.serving.api.app import Explain, build_app
from manyeyes.serving.api.engine import Engine
from manyeyes.serving.api.limits import Limits
from manyeyes.serving.api.metrics import Metrics

NAME = "tiny/model"
LIMITS = Limits(
    body=2**18, images=3, pixels=10_000, text=600, tokens=40, seconds=20.0, queue=40, batch=4
)


class Server:
    """The application and its parts; ``lines``: its log; ``faults``: mistakes in the program."""

    def __init__(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        limits: Limits = LIMITS,
        explain: Explain | None = None,
        **options: Any,
    ) -> None:
        self.lines: list[str] = []
        self.faults: list[Exception] = []
        self.metrics = Metrics()
        self.model, self.processor = model, processor
        self.engine = Engine(Sight(model, processor), limits, self.metrics, self.faults.append)
        self.app = build_app(self.engine, NAME, log=self.lines.append, explain=explain, **options)

    def count(self, name: str) -> float:
        """The value of one of the metrics."""
        lines = self.metrics.text().decode().splitlines()
        return sum(float(x.split()[-1]) for x in lines if x.startswith(f"manyeyes_{name}"))


def data_url(picture: Image.Image, kind: str = "png") -> str:
    """Return a picture as a data URL."""
    file = io.BytesIO()
    picture.save(file, kind)
    return url_of(file.getvalue(), kind)


def url_of(data: bytes, kind: str = "png") -> str:
    """Return the bytes of a file as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image(url: str) -> dict[str, Any]:
    """Return an image part."""
    return {"type": "image_url", "image_url": {"url": url}}


def ask(text: str, *urls: str, **fields: Any) -> dict[str, Any]:
    """Return a request with one message."""
    parts = [*map(image, urls), {"type": "text", "text": text}]
    fields = {"model": NAME, "max_tokens": 8, **fields}
    return {"messages": [{"role": "user", "content": parts}], **fields}


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file whose header promises very many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
