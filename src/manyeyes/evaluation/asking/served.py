"""A model behind an OpenAI API as a `Predictor`: whatever is served anywhere, by the same metrics.

    openai:http://localhost:8000/v1#demo/model      openai:https://api.example.org/v1#a-model

Questions are sent several at a time. What the server cannot answer now (429, 5xx, silence) is asked
again with growing pauses, which the client of the ``openai`` package does. What it refuses for its
content is an empty answer, which counts as wrong, and is reported with its reason.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from manyeyes.conversation.boxes import BOX_STYLES
from manyeyes.conversation.rendering import write_boxes
from manyeyes.errors import ImageError, RequestError, UsageError, nearest
from manyeyes.files import write_text
from manyeyes.images.reading import image_size, load_image
from manyeyes.inference.predictor import MAX_NEW_TOKENS
from manyeyes.inference.questions import Item, PartlyAnswered
from manyeyes.records import IMAGE_PLACEHOLDER, PackedImage

SCHEME = "openai:"
SENT = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}
"""Formats of images that are sent as they are; others become PNG."""
REFUSED = "refused.json"
"""Beside the answers: questions by id that the server refused, and why."""
CONTENT = (400, 413, 422)
"""Statuses that are about one question; others are about the server or the account."""


@dataclass(frozen=True)
class Address:
    """Where a model is asked, and by which name."""

    url: str
    model: str


def is_served(word: str) -> bool:
    """Whether a MODEL of the command line means one behind an API."""
    return word.startswith(SCHEME)


def parse_address(word: str) -> Address:
    """Return what ``openai:URL#MODEL`` says.

    Raises:
        UsageError: it is none, or the URL is no http address.
    """
    url, sign, model = word.removeprefix(SCHEME).partition("#")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not (is_served(word) and good and sign and model):
        raise UsageError(f"expected openai:http://HOST/v1#MODEL, got {word!r}")
    return Address(url.rstrip("/"), model)


@dataclass
class Usage:
    """What asking has taken: requests that were answered, tokens by the server's count."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Questions by id that the server refused, and its reason."""

    def cost(self, prices: tuple[float, float]) -> float:
        """Return the price, given those of a million tokens read and written."""
        read, written = prices
        return (self.prompt_tokens * read + self.completion_tokens * written) / 1e6


class ServedModel:
    """Answers of a model behind an OpenAI API, the likeliest token each time.

    Args:
        address: where it is. key: of the API; None = the variable OPENAI_API_KEY, if there is one.
        box_style: in which questions write boxes and answers are read. concurrency: questions that
            are under way together. retries: how often one is asked again. seconds: for one answer.

    Raises:
        UsageError: the extra is not installed, or a value makes no sense.
    """

    def __init__(
        self,
        address: Address,
        *,
        key: str | None = None,
        box_style: str = "shikra",
        concurrency: int = 8,
        retries: int = 5,
        seconds: float = 120.0,
    ) -> None:
        if box_style not in BOX_STYLES:
            hint = nearest(box_style, BOX_STYLES)
            raise UsageError(f"unknown box style {box_style!r}{hint}: {', '.join(BOX_STYLES)}")
        self._client = _client(address, key, retries, seconds)
        self.address, self._style, self.concurrency = address, box_style, concurrency
        self.usage = Usage()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def box_style(self) -> str:
        """The key of ``BOX_STYLES`` in which boxes are written and read."""
        return self._style

    @property
    def generation(self) -> Mapping[str, Any]:
        """How answers are decoded, for the record."""
        return {
            "url": self.address.url,
            "model": self.address.model,
            "temperature": 0,
            "max_new_tokens": dict(MAX_NEW_TOKENS),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 over address, name and decoding: what stands behind them cannot be seen."""
        text = json.dumps({**self.generation, "box_style": self._style}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        """One raw answer per item, in order.

        Raises:
            PartlyAnswered: some could not be had; it carries the others.
            RequestError: the server knows no such model, or refuses the key.
        """
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(self._ask, item, with_images) for item in items]
            errors = [future.exception() for future in futures]
        failed = {place: error for place, error in enumerate(errors) if error is not None}
        if not failed:
            return [future.result() for future in futures]
        first = next(iter(failed.values()))
        if not isinstance(first, RequestError):
            raise first
        answered = {p: f.result() for p, f in enumerate(futures) if p not in failed}
        raise PartlyAnswered(
            f"{len(failed)} of {len(items)} questions were not answered: {first}; repeat the "
            "command to ask them again",
            answered,
            status=first.status,
        )

    def _ask(self, item: Item, with_images: bool) -> str:
        import openai

        try:
            reply = self._client.chat.completions.create(
                model=self.address.model,
                messages=self._messages(item, with_images),
                temperature=0,
                max_tokens=MAX_NEW_TOKENS[item.answer],
            )
            text = str(reply.choices[0].message.content or "")
        except openai.APIStatusError as error:
            said = f"{self.address.url} answered {error.status_code}: {_reason(error)}"
            if error.status_code not in CONTENT:
                raise RequestError(said, status=error.status_code) from error
            with self._lock:
                self.usage.refused[item.id] = said
            return ""
        except (openai.APIError, AttributeError, IndexError, TypeError) as error:
            text = f"{self.address.url}: {error or type(error).__name__}"
            raise RequestError(text, status=503) from error
        with self._lock:
            self.usage.requests += 1
            self.usage.prompt_tokens += getattr(reply.usage, "prompt_tokens", 0)
            self.usage.completion_tokens += getattr(reply.usage, "completion_tokens", 0)
        return text

    def _messages(self, item: Item, with_images: bool) -> list[Any]:
        """The conversation up to the question, every image where its text has it."""
        turns = item.turns(shown=with_images)
        if any(turn.boxes or turn.points for turn in turns):
            first = item.size or image_size(item.image)
            sizes = [first, *(image_size(image) for image in item.more_images)]
            turns = [write_boxes(turn, sizes, self._style) for turn in turns]
        images = iter(item.images)
        return [{"role": turn.role, "content": _parts(turn.text, images)} for turn in turns]


def _parts(text: str, images: Iterator[str]) -> list[dict[str, Any]]:
    """A text with ``<image>`` in it as the parts of a message, the next image for each."""
    before, *after = text.split(IMAGE_PLACEHOLDER)
    parts = [_text_part(before)]
    for rest in after:
        url = {"url": image_url(next(images))}
        parts += [{"type": "image_url", "image_url": url}, _text_part(rest.removeprefix("\n"))]
    return [part for part in parts if part.get("text", True)] or [_text_part(text)]


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image_url(image: str) -> str:
    """Return an image file as a data URL.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        data = image.read() if isinstance(image, PackedImage) else Path(image).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error}", file=image) from error
    try:
        kind = SENT.get(Image.open(io.BytesIO(data)).format or "")
    except Exception:  # load_image says what is wrong with it
        kind = None
    if kind is None:
        file = io.BytesIO()
        load_image(image).save(file, "png")
        kind, data = "png", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def remembered(folder: Path, refused: Mapping[str, str]) -> dict[str, str]:
    """Return what was refused in this run and in those before it, and write it to the folder.

    Refused questions are not asked again, so a run that continues another would not know of them.
    """
    path = folder / REFUSED
    known = json.loads(path.read_text()) if path.is_file() else {}
    every = {**known, **refused}
    if every:
        write_text(path, json.dumps(every, indent=2) + "\n")
    return every


def _client(address: Address, key: str | None, retries: int, seconds: float) -> Any:
    try:
        import openai
    except ImportError as error:
        raise UsageError(
            f"models behind an API need the extra: pip install 'manyeyes[api]' ({error})"
        ) from error
    key = key or os.environ.get("OPENAI_API_KEY", "none")
    return openai.OpenAI(base_url=address.url, api_key=key, max_retries=retries, timeout=seconds)


def _reason(error: Any) -> str:
    body = error.body if isinstance(error.body, Mapping) else {}
    return " ".join(str(body.get("message") or error).split())[:300]
