"""Chat completions: the handler of ``transformers serve``, with our requests and our engine.

From ``transformers`` come the routes, the objects of the reply and the events of a stream; ours
are what it has no place for: images by content, batches, shared beginnings, errors as the API
writes them, and what the model saw, in the field ``manyeyes`` of the reply.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Any

from fastapi.responses import JSONResponse, StreamingResponse
from openai.types.completion_usage import CompletionUsage
from PIL import Image
from transformers.cli.serving.chat_completion import ChatCompletionHandler

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.errors import ImageError, RequestError
from manyeyes.images.reading import load_image
from manyeyes.serving.api.engine import Engine, Job
from manyeyes.serving.api.gate import departure
from manyeyes.serving.api.image_sources import image_bytes
from manyeyes.serving.api.replies import error_event
from manyeyes.serving.api.requests import Question, read_request
from manyeyes.serving.api.rows import Row

DONE = "data: [DONE]\n\n"


class Handler(ChatCompletionHandler):
    """Answers ``/v1/chat/completions``.

    Args:
        name: of the model. hosts: from which images may be fetched.
    """

    def __init__(self, engine: Engine, name: str, hosts: Collection[str] = ()) -> None:
        self.engine, self.name, self.hosts = engine, name, frozenset(hosts)

    async def handle_request(
        self, body: dict[str, Any], request_id: str
    ) -> StreamingResponse | JSONResponse:
        """Answer one request, at once or as a stream.

        Raises:
            RequestError: what is wrong with it, before anything is written.
        """
        question = read_request(body, self.engine.limits)
        if question.model not in (None, self.name):
            raise RequestError(
                f"this server has the model {self.name!r}, not {question.model[:100]!r}",
                status=404,
                code="model_not_found",
                param="model",
            )
        events: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def told(text: str | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, text)

        job = await asyncio.to_thread(self.job, question, told if question.stream else _unheard)
        departure(job.row.cancel)
        job.done.add_done_callback(lambda _: told(None))
        self.engine.submit(job)
        first = await events.get()
        if first is None and (error := job.done.exception()) is not None:
            raise error
        if question.stream:
            stream = self._events(question, job, request_id, first, events)
            return StreamingResponse(stream, media_type="text/event-stream")
        return JSONResponse(self._reply(job, request_id))

    def job(self, question: Question, on_text: Callable[[str], None]) -> Job:
        """Read the images of a question; those that the engine knows are not decoded again."""
        limits = self.engine.limits
        files = [image_bytes(source, self.hosts, limits.body) for source in question.images]
        digests = [hashlib.sha256(file).hexdigest() for file in files]
        seen = [self.engine.images.get(digest) for digest in digests]
        pictures = [
            None if known else self._decoded(file, number)
            for number, (file, known) in enumerate(zip(files, seen, strict=True))
        ]
        deadline = time.monotonic() + limits.seconds
        row = Row(on_text, stop=question.sampling.stop, deadline=deadline)
        return Job(question.turns, digests, pictures, seen, question.sampling, row)

    def picture(self, source: str) -> Image.Image:
        """Return the picture behind an ``image_url``; raises ``RequestError``."""
        return self._decoded(image_bytes(source, self.hosts, self.engine.limits.body), 0)

    def _decoded(self, file: bytes, number: int) -> Image.Image:
        try:
            return load_image(file, max_pixels=self.engine.limits.pixels)
        except ImageError as error:
            text = str(error).replace("<bytes>", f"image {number}")
            raise RequestError(text, param="messages", code="invalid_image") from error

    def _reply(self, job: Job, request_id: str) -> dict[str, Any]:
        text = job.row.text
        reply: dict[str, Any] = self._build_completion(
            request_id, text, self.name, finish_reason=_finish(job), usage=_usage(job)
        )
        return {**reply, "manyeyes": self.seen(job)}

    async def _events(
        self,
        question: Question,
        job: Job,
        request_id: str,
        piece: str | None,
        events: asyncio.Queue[str | None],
    ) -> AsyncGenerator[str, None]:
        try:
            yield self._build_chunk_sse(request_id, role="assistant", model=self.name)
            while piece is not None:
                yield self._build_chunk_sse(request_id, content=piece, model=self.name)
                piece = await events.get()
            error = job.done.exception()
            if error is not None:
                yield error_event(error)
            else:
                yield self._last(job, request_id)
                if question.count_tokens:
                    yield self._counts(job, request_id)
            yield DONE
        finally:
            job.row.cancel()

    def _last(self, job: Job, request_id: str) -> str:
        event = self._build_chunk_sse(request_id, finish_reason=_finish(job), model=self.name)
        return _changed(event, manyeyes=self.seen(job))

    def _counts(self, job: Job, request_id: str) -> str:
        """The event of ``include_usage``: it holds no choice, and comes after the last one."""
        event = self._build_chunk_sse(request_id, model=self.name, usage=_usage(job))
        return _changed(event, choices=[])

    def seen(self, job: Job) -> dict[str, Any]:
        """What the model saw, and the boxes of its answer in pixels of the last image."""
        processor, images = self.engine.sight.processor, job.images
        boxes: list[Any] = []
        if images:
            width, height = images[-1].size
            groups = parse_boxes(
                job.row.text, style=processor.box_style, width=width, height=height
            )
            boxes = [[list(box) for box in group] for group in groups]
        return {
            "encoders": [encoder["name"] for encoder in processor.encoders if images],
            "boxes": boxes,
            "tags": [list(image.tags) for image in images],
            "objects": [
                [{"name": found.label, "box": list(found.box)} for found in image.objects or ()]
                for image in images
            ],
        }


def _unheard(text: str) -> None:
    """Nobody reads the pieces of an answer that is not streamed."""


def _changed(event: str, **fields: Any) -> str:
    """Return an event of the stream with other fields."""
    return f"data: {json.dumps({**json.loads(event.removeprefix('data: ')), **fields})}\n\n"


def _finish(job: Job) -> str:
    return "length" if job.row.reason == "length" else "stop"


def _usage(job: Job) -> CompletionUsage:
    answer = len(job.row.tokens)
    return CompletionUsage(
        prompt_tokens=job.prompt_tokens,
        completion_tokens=answer,
        total_tokens=job.prompt_tokens + answer,
    )
