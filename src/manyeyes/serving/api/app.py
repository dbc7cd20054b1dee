"""The server of ``transformers`` with one model of ours, and only the routes that it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.server import build_server
from transformers.cli.serving.utils import GenerationState

from manyeyes.errors import RequestError
from manyeyes.serving.api.engine import Engine
from manyeyes.serving.api.gate import Gate
from manyeyes.serving.api.handler import Handler
from manyeyes.serving.api.replies import error_object
from manyeyes.serving.api.requests import read_request

KEPT = ("/v1/chat/completions", "/v1/models")
"""Routes of ``build_server`` that are served; others load models or need parts we do not have."""

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src "
    "'unsafe-inline'; img-src data: blob:; media-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""The page loads nothing from elsewhere and sends nothing elsewhere."""

Explain = Callable[[Any, str], str]
"""A picture and a question to a page that explains the answer."""


class OneModel(ModelManager):
    """The one model of a server, loaded before it listens; requests load and unload nothing."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name, self.since = engine, name, int(time.time())

    def get_gen_models(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the list of ``/v1/models``."""
        entry = {"id": self.name, "object": "model", "created": self.since}
        return [{**entry, "owned_by": "manyeyes"}]

    def shutdown(self) -> None:
        """Answer what waits, and end."""
        self.engine.stop()


def build_app(
    engine: Engine,
    name: str,
    *,
    log: Callable[[str], None] = lambda line: None,
    key: str | None = None,
    own_hosts: Collection[str] = (),
    image_hosts: Collection[str] = (),
    explain: Explain | None = None,
) -> Gate:
    """Return the ASGI application.

    Args:
        name: of the model, as requests write it. key, own_hosts: see ``Gate``.
        image_hosts: from which images may be fetched. explain: what ``/explain`` answers with.
    """
    handler = Handler(engine, name, image_hosts)
    nothing: Any = None
    app = build_server(
        OneModel(engine, name), handler, nothing, nothing, nothing, nothing, GenerationState()
    )
    app.router.routes = [route for route in app.router.routes if getattr(route, "path", "") in KEPT]
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _refused_by_starlette)
    app.add_exception_handler(RequestValidationError, _not_an_object)
    app.add_exception_handler(Exception, _failed)
    page = files("manyeyes.serving.api").joinpath("page.html").read_text()

    @app.get("/")
    def root() -> HTMLResponse:
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/health")
    def health() -> JSONResponse:
        alive = engine.alive
        return JSONResponse({"status": "ok" if alive else "ending"}, 200 if alive else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    if explain is not None:
        _add_explain(app, engine, handler, explain)
    return Gate(app, engine.limits, engine.metrics, log, key=key, hosts=own_hosts)


def _add_explain(app: Any, engine: Engine, handler: Handler, explain: Explain) -> None:
    async def explained(body: dict[str, Any]) -> HTMLResponse:
        """A request as for a chat completion; its last image and question are explained."""
        question = read_request(body, engine.limits)
        if not question.images:
            raise RequestError("there is no image to explain", param="messages")
        picture = await asyncio.to_thread(handler.picture, question.images[-1])
        text = question.turns[-1].text.rpartition("<image>\n")[2]
        future = engine.call(lambda: explain(picture, text))
        return HTMLResponse(await asyncio.wrap_future(future))

    app.add_api_route("/explain", explained, methods=["POST"])


async def _refused(request: Request, error: Any) -> JSONResponse:
    return JSONResponse(error_object(error), error.status)


async def _refused_by_starlette(request: Request, error: Any) -> JSONResponse:
    text = str(error.detail)
    if error.status_code == 404:
        text = f"no such path: {request.url.path[:100]}"
    known = RequestError(text, status=error.status_code)
    return JSONResponse(error_object(known), error.status_code, headers=error.headers)


async def _not_an_object(request: Request, error: Any) -> JSONResponse:
    known = RequestError("the body must be a JSON object, with content type application/json")
    return JSONResponse(error_object(known), 400)


async def _failed(request: Request, error: Any) -> JSONResponse:
    return JSONResponse(error_object(RequestError("the server failed", status=500)), 500)
