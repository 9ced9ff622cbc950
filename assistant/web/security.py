"""What every request passes before anything of ours sees it, as one pure ASGI middleware.

The Host is one that we answer to (DNS rebinding), an unsafe method comes from our own pages (forged
requests), the body is bounded, and every answer, a refusal too, carries its security headers, none of which
lets another site read it. `identity.py` then tells whose request it is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.web.problems import refuse

MAX_BODY = 256 * 1024  # bytes of one request
HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)

# A page of Gradio's: its component templates are compiled in the browser, hence 'unsafe-eval'; inline
# scripts run by their hash alone. No foreign host is reached, so model text cannot send anything away.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' blob: data:; "
    "worker-src 'self' blob:; manifest-src 'self'; frame-src 'none'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'; webrtc 'block'"
)
# What a page of ours never asks a browser for, nor anything that is in it.
PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "hid",
        "magnetometer", "microphone", "midi", "payment", "serial", "usb",
    )
)  # fmt: skip
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"


class Guard:
    """Refuses what cannot be meant for us; see the module."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str]) -> None:
        self.app = app
        self._names = frozenset({"localhost", *(name.lower() for name in names)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":  # nothing of ours speaks by a WebSocket
            return
        send = _secured(send, is_https=scope["scheme"] == "https")
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            name = ", ".join(hosts)[:200]
            detail = f"This server does not answer to the name {name!r}; its operator can allow it."
            await refuse(scope, receive, _closing(send), 421, "unknown_host", detail)
            return
        if scope["method"] not in SAFE_METHODS:
            if not _same_origin(headers, hosts[0]):
                detail = "The request comes from another site's page."
                await refuse(scope, receive, _closing(send), 403, "foreign_origin", detail)
                return
            came = await bounded_body(headers.get("content-length", "0"), receive, MAX_BODY)
            if came is None:
                detail = f"The request has more than {MAX_BODY:,} bytes."
                await refuse(scope, receive, _closing(send), 413, "too_large", detail)
                return
            body, is_whole = came
            if not is_whole:  # its client has gone, or was dropped: half a request is not acted on
                return
            receive = replayed(body, receive)
        await self.app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = _hostname(host)
        if name is None:
            return False
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)  # an address cannot be rebound to another one
        except ValueError:
            return False
        return True


def is_this_machine(host: str) -> bool:
    """Whether a `Host` is that of somebody who sits at this machine."""
    name = _hostname(host) or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _hostname(host: str) -> str | None:
    """The name or the address in a `Host`, in small letters; None where that is not all of it."""
    if not HOST.fullmatch(host):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a request comes from a page of this server, or from no page at all (a program)."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


async def bounded_body(length: str, receive: Receive, most: int) -> tuple[bytes, bool] | None:
    """What has come of a body, and whether that is all of it; else its client has gone. None as soon as it is
    known to be larger than `most` bytes, by its `length` (the header) or as it comes."""
    # Nothing makes a number of thousands of digits, were they zeros.
    if not length.isdecimal() or len(length) > 20 or int(length) > most:
        return None
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body), False
        body += message.get("body", b"")
        if len(body) > most:
            return None
        more = message.get("more_body", False)
    return bytes(body), True


def replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read, then whatever comes after it."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _closing(send: Send) -> Send:
    """For an answer before the body was read: what is still coming must not be read as a request."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
        await send(message)

    return closing


def _secured(send: Send, *, is_https: bool) -> Send:
    """Adds the security headers to an answer; a page has brought its own content security policy."""
    security = security_headers(is_https=is_https)

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]  # Gradio lets the pages of any site read its answers, cookies included
            headers.update(security)
            headers.setdefault("Content-Security-Policy", DATA_POLICY)
        await send(message)

    return secured


def security_headers(*, is_https: bool) -> dict[str, str]:
    """Those of every answer, besides its content security policy."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": PERMISSIONS,
    }
    return {**headers, "Strict-Transport-Security": "max-age=31536000"} if is_https else headers


def page_policy(page: bytes) -> str:
    """The content security policy of an HTML page."""
    hashes = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in dict.fromkeys(INLINE_SCRIPT.findall(page))
    )
    return PAGE_POLICY.format(hashes=hashes)
