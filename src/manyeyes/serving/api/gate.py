"""What stands before every request: who asks, how much is sent, how long that takes.

The body is read here, within its limits, before anything looks at it. A refused body is read to
its end and thrown away, for a while, so that the client hears the answer.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from manyeyes.errors import RequestError
from manyeyes.serving.api.limits import Limits
from manyeyes.serving.api.metrics import Metrics
from manyeyes.serving.api.replies import error_object

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
OPEN = ("/health", "/")
"""Paths that need no key: they say nothing and cost nothing."""
DISCARDED = 10
"""Times the limit that a refused body is read before the connection is closed."""
_LEFT: ContextVar[list[Callable[[], None]]] = ContextVar("left")


def departure(call: Callable[[], None]) -> None:
    """Have ``call`` called when the client of the request that is being handled leaves."""
    _LEFT.get([]).append(call)


@dataclass
class Gate:
    """The ASGI application around another.

    Args:
        key: every request must carry it; None = none. hosts: values of the ``Host`` header that
            are answered; empty = all. log: told one line for each request.
    """

    app: App
    limits: Limits
    metrics: Metrics
    log: Callable[[str], None]
    key: str | None = None
    hosts: Collection[str] = ()
    open_requests: int = field(default=0, init=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(send)
        self.open_requests += 1
        try:
            await self._admit(scope, receive, exchange)
        except RequestError as error:
            await exchange.refuse(error)
        except Exception as error:  # a mistake in the program must not end the connection mutely
            self.log(f"error: {type(error).__name__}: {error}")
            await exchange.refuse(RequestError("the server failed", status=500))
        finally:
            self.open_requests -= 1
            self.metrics.requests.labels(str(exchange.status)).inc()
            path = str(scope["path"])[:100]
            if path != "/health":
                why = f"  {exchange.why}" if exchange.why else ""
                took = time.monotonic() - exchange.started
                self.log(f"{exchange.status} {scope['method']} {path} {took:.2f} s{why}")

    async def _admit(self, scope: Message, receive: Receive, exchange: _Exchange) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        self._check_host(headers)
        self._check_key(scope, headers)
        if self.open_requests > self.limits.queue + self.limits.batch + 8:
            raise RequestError("too many requests at once", status=429, code="rate_limit_exceeded")
        body = await self._body(headers, receive)
        left: list[Callable[[], None]] = []
        _LEFT.set(left)
        gone = asyncio.Event()
        watch = asyncio.create_task(_until_gone(receive, gone, left))
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        try:
            await self.app(scope, replay, exchange.send)
        finally:
            watch.cancel()

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Pages of other sites must not reach a local server by a name that points here."""
        if self.hosts:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            if host.rpartition(":")[0] not in self.hosts and host not in self.hosts:
                raise RequestError("this host name is not served", status=421)

    def _check_key(self, scope: Message, headers: dict[bytes, bytes]) -> None:
        if self.key is None or (scope["path"] in OPEN and scope["method"] == "GET"):
            return
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(key.strip(), self.key.encode())
        if scheme.lower() != b"bearer" or not right:
            raise RequestError("a wrong API key, or none", status=401, code="invalid_api_key")

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError("the client left", status=400)
                    size += len(message.get("body", b""))
                    if size <= self.limits.body:
                        parts.append(message.get("body", b""))
                    elif size > DISCARDED * self.limits.body:
                        break
                    else:
                        parts.clear()
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            late = f"the request did not arrive within {self.limits.seconds:g} s"
            raise RequestError(late, status=408) from error
        if size > self.limits.body:
            raise RequestError(f"the request has more than {self.limits.body} bytes", status=413)
        return b"".join(parts)


class _Exchange:
    """What is sent in answer to one request."""

    def __init__(self, send: Send) -> None:
        self._send, self.started = send, time.monotonic()
        self.status, self.why = 0, ""

    async def send(self, message: Message) -> None:
        """Pass on what the application sends; remember how it ended."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        elif self.status >= 400 and not self.why:
            self.why = _message(message.get("body", b""))
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Send an error object, unless an answer has begun."""
        self.why = " ".join(str(error).split())[:200]
        if self.status:
            return
        self.status = error.status
        body = json.dumps(error_object(error)).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        start = {"type": "http.response.start", "status": error.status, "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


async def _until_gone(
    receive: Receive, gone: asyncio.Event, left: list[Callable[[], None]]
) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
    for call in left:
        call()


def _message(body: bytes) -> str:
    try:
        return " ".join(str(json.loads(body)["error"]["message"]).split())[:200]
    except (ValueError, KeyError, TypeError):
        return ""
