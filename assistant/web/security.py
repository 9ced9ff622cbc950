"""The first checks of every request, and the security headers of every answer, as one ASGI middleware.

The Host must be a name of this server (against DNS rebinding). A request that changes something must come
from our own pages (against cross-site request forgery). The size of the body is limited. No answer lets
another site read it.
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

from assistant.web.problems import Problem

# Of an answer before the body was read: the server would read the rest of the body as the next request.
CLOSE = {"Connection": "close"}
MAX_BODY = 256 * 1024  # bytes of one request
HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)

# Gradio compiles its component templates in the browser, hence 'unsafe-eval'. Inline scripts run only by
# their hash. No other host can be reached, so the model's text cannot send anything away.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' blob: data:; "
    "worker-src 'self' blob:; manifest-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
# A diagram is drawn by a large library from the model's text. Its frame has an origin of its own, so that it
# reaches neither the page nor its cookies, and no network: all it loads is the scripts of this server.
FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
# Features of the browser that our pages, and any frame in them, may not use.
PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "hid",
        "magnetometer", "microphone", "midi", "payment", "serial", "usb",
    )
)  # fmt: skip
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"
PERMISSIONS_POLICY = "Permissions-Policy"
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
# The script that other sites load to embed the widget. It is the same for everybody.
LOADER = "/widget/v1.js"


class Guard:
    """Middleware that refuses requests with a foreign Host or Origin, or with too large a body."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str]) -> None:
        self.app = app
        self._names = frozenset({"localhost", *(name.lower() for name in names)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":  # we have no WebSockets
            return
        send = _secured(send, is_https=scope["scheme"] == "https", is_public=scope["path"] == LOADER)
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            name = ", ".join(hosts)[:200]
            detail = f"This server does not answer to the name {name!r}. The operator can allow it."
            await Problem(421, "unknown_host", detail, headers=CLOSE)(scope, receive, send)
            return
        if scope["method"] not in SAFE_METHODS:
            if not _same_origin(headers, hosts[0]):
                detail = "The request comes from a page of another site."
                await Problem(403, "foreign_origin", detail, headers=CLOSE)(scope, receive, send)
                return
            came = await bounded_body(headers.get("content-length", "0"), receive, MAX_BODY)
            if came is None:
                detail = f"The request is larger than {MAX_BODY:,} bytes."
                await Problem(413, "too_large", detail, headers=CLOSE)(scope, receive, send)
                return
            body, is_whole = came
            if not is_whole:  # the client has disconnected
                return
            receive = replayed(body, receive)
        await self.app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = _hostname(host)
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name or "")  # an address cannot be rebound to another one
            return True
        return name is not None and (name in self._names or name.endswith(".localhost"))


def is_this_machine(host: str) -> bool:
    """Whether a `Host` names this machine by its loopback address or as localhost."""
    name = _hostname(host) or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _hostname(host: str) -> str | None:
    """The name or address in a `Host`, in lower case and without its port. None if it is not valid."""
    if not HOST.fullmatch(host):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a request comes from a page of this server, or from a program that is no browser."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


async def bounded_body(length: str, receive: Receive, most: int) -> tuple[bytes, bool] | None:
    """Read a body of at most `most` bytes and whether it is complete, or None if it is larger.

    `length` is the Content-Length header. The body is incomplete if the client disconnects.
    """
    # Python is slow to parse numbers of thousands of digits, even if they are zeros.
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
    """A `receive` that first returns a body that was already read."""
    is_replayed = False

    async def replay() -> Message:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _secured(send: Send, *, is_https: bool, is_public: bool) -> Send:
    """Add the security headers to an answer. A page already has its own content security policy."""
    security = security_headers(is_https=is_https)

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [name for name in headers if name.startswith("access-control-") and not is_public]:
                del headers[name]  # Gradio lets the pages of any site read its answers, with cookies
            # What an answer may say itself: who loads a script, and what the page of a widget may do.
            own = {name: headers[name] for name in (RESOURCE_POLICY, PERMISSIONS_POLICY) if name in headers}
            headers.update({**security, **own})
            headers.setdefault("Content-Security-Policy", DATA_POLICY)
        await send(message)

    return secured


def security_headers(*, is_https: bool) -> dict[str, str]:
    """The headers that every answer has, without its content security policy."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        RESOURCE_POLICY: "same-origin",
        PERMISSIONS_POLICY: PERMISSIONS,
    }
    return {**headers, "Strict-Transport-Security": "max-age=31536000"} if is_https else headers


def page_policy(page: bytes) -> str:
    """The content security policy of an HTML page."""
    hashes = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in dict.fromkeys(INLINE_SCRIPT.findall(page))
    )
    return PAGE_POLICY.format(hashes=hashes)
