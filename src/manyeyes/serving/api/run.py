"""A socket to listen on, and the server on it until a signal ends it."""

from __future__ import annotations

import ipaddress
import signal
import socket
from typing import Any

import uvicorn

from manyeyes.errors import UsageError
from manyeyes.serving.api.limits import Limits


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to a host and port; port 0 = any that is free.

    Raises:
        UsageError: there is no such host here, or the port is in use or not allowed.
    """
    found: socket.socket | None = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
    except (OSError, OverflowError, UnicodeError) as error:
        if found is not None:
            found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen on {host}:{port}: {reason}; choose another --port or --host"
        ) from error
    return found


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_hosts(host: str) -> tuple[str, ...]:
    """The names by which a local server is asked; empty = any, where others may reach it."""
    return (host.lower(), "localhost", "127.0.0.1", "[::1]") if is_local(host) else ()


def run(app: Any, on: socket.socket, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM; what has been asked by then is answered, within its limit."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    for number, _ in before:
        signal.signal(number, lambda *_: None)  # uvicorn raises them again when it has ended
    try:
        uvicorn.Server(config).run(sockets=[on])
    finally:
        for number, handler in before:
            signal.signal(number, handler)
