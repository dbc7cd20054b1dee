"""Images of requests: data URLs; URLs of hosts that the operator named; nothing else.

A path or a URL in a request is an instruction to this machine to open something. So paths are
never opened, and a URL only if its host is allowed, all of its addresses are public, and the
answer comes from there without a redirect.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import re
import socket
import ssl
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from manyeyes.errors import RequestError

SECONDS = 10.0
"""Longest wait for another server."""
_DATA = re.compile(r"data:(image/[\w.+-]+)?(;[\w-]+=[\w.+-]+)*;base64,", re.ASCII)
_PARAM = "messages"


def image_bytes(source: str, hosts: Collection[str], limit: int) -> bytes:
    """Return the encoded image file behind an ``image_url``, of at most ``limit`` bytes.

    Raises:
        RequestError: it is no data URL of an image and no URL of one of ``hosts``, or what it
            names cannot be read.
    """
    if source[:5].lower() == "data:":
        return _decoded(source)
    if source[:7].lower() == "http://" or source[:8].lower() == "https://":
        return _fetched(source, hosts, limit)
    raise RequestError(
        "image_url must be a data URL (data:image/png;base64,...); this server opens no files",
        param=_PARAM,
    )


def _decoded(source: str) -> bytes:
    head = _DATA.match(source[:200])
    if head is None:
        raise RequestError(
            "image_url: expected data:image/png;base64,... or another image type", param=_PARAM
        )
    try:
        data = base64.b64decode(source[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"image_url: broken base64: {error}", param=_PARAM) from error
    if not data:
        raise RequestError("image_url: the image is empty", param=_PARAM)
    return data


def _fetched(source: str, hosts: Collection[str], limit: int) -> bytes:
    try:
        url = urlsplit(source)
        host, port = (url.hostname or "").rstrip("."), url.port
    except ValueError as error:
        raise RequestError(f"image_url: {error}", param=_PARAM) from error
    if not hosts:
        raise RequestError(
            "image_url: this server fetches nothing; send the image as a data URL", param=_PARAM
        )
    if host not in hosts or url.username is not None:
        raise RequestError(f"image_url: the host {host[:100]!r} is not allowed", param=_PARAM)
    address = public_address(host, port or (443 if url.scheme == "https" else 80))
    try:
        return _read(url, host, address, limit)
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(f"image_url: cannot be fetched: {error}", param=_PARAM) from error


def public_address(host: str, port: int) -> tuple[str, int]:
    """Return an address of a host, if all that it has are public.

    Raises:
        RequestError: it has none, or one in a private, local or reserved network.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError(f"image_url: no such host: {host!r}", param=_PARAM) from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        if not _is_public(ipaddress.ip_address(address)):
            raise RequestError(
                f"image_url: {host!r} has an address that is not public", param=_PARAM
            )
    return addresses[0], port


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_global and not inner.is_multicast


def _read(url: SplitResult, host: str, address: tuple[str, int], limit: int) -> bytes:
    """Ask the address that was checked, not the name again: it may mean another by now."""
    connection = http.client.HTTPConnection(host, address[1], timeout=SECONDS)
    raw: socket.socket = socket.create_connection(address, timeout=SECONDS)
    try:
        if url.scheme == "https":
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        connection.sock = raw
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("GET", target, headers={"Accept": "image/*"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RequestError(
                f"image_url: {host!r} answered {reply.status}; redirects are not followed",
                param=_PARAM,
            )
        data = reply.read(limit + 1)
    finally:
        connection.close()
        raw.close()
    if len(data) > limit:
        raise RequestError(f"image_url: more than {limit} bytes", status=413, param=_PARAM)
    return data
