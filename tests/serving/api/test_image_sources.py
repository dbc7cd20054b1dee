"""Images from other servers: only named hosts, only public addresses, no redirects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

pytest.importorskip("fastapi")

from manyeyes.errors import RequestError
from manyeyes.serving.api import image_sources
from manyeyes.serving.api.image_sources import image_bytes, public_address


class Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 302 if self.path == "/moved" else 200 if self.path == "/a.png?b=1" else 404
        self.send_response(status)
        if status == 302:
            self.send_header("location", "http://169.254.169.254/")
        self.end_headers()
        self.wfile.write(b"12345")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A local server; its address counts as public here."""
    server = HTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(image_sources, "_is_public", lambda address: True)
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_an_allowed_host_is_read(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    assert image_bytes(f"{url}/a.png?b=1", {"127.0.0.1"}, 5) == b"12345"
    for path, limit, words in (
        ("/moved", 5, "answered 302; redirects are not followed"),
        ("/nothing", 5, "answered 404"),
        ("/a.png?b=1", 4, "more than 4 bytes"),
    ):
        with pytest.raises(RequestError, match=words):
            image_bytes(url + path, {"127.0.0.1"}, limit)


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        "http://good.example@127.0.0.1/a.png",
        "http://user:word@good.example/a.png",
        "http://good.example.evil.example/a.png",
        "http://[::1/a.png",
        "http://good.example:99999/a.png",
        "http:///a.png",
    ],
)
def test_a_host_that_is_not_named_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)  # nothing may be looked up
    with pytest.raises(RequestError):
        image_bytes(url, {"good.example"}, 10)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
    ],
)
def test_a_name_that_leads_inside_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", (place, 80)) for place in ("93.184.216.34", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: found)
    with pytest.raises(RequestError, match="not public"):
        public_address("good.example", 80)
    found.pop()
    assert public_address("good.example", 80) == ("93.184.216.34", 80)
