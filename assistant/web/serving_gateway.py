"""The serving layer on the application's own port, for programs that have its key (`--expose-serving`).

`/serving/…` speaks TGI's protocol, `/v1/…` OpenAI's. The gateway checks the key and forwards requests and
answers; it adds no work per token. It stands outside the checks of `security.py`, which protect cookies:
programs send a key instead, which no other site's page has.

Only paths in `OPEN` are forwarded. Operator routes, such as the one that downloads a model, are not. A new
route of the serving layer stays closed until it is named there.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from assistant.engine import STARTING, Endpoint
from assistant.web.connections import address_of
from assistant.web.events import left
from assistant.web.security import DATA_POLICY, bounded_body, security_headers

log = logging.getLogger(__name__)

OPEN = frozenset(
    {"/", "/generate", "/generate_stream", "/tokenize", "/info", "/health", "/ping", "/metrics"}
)  # and all paths under /v1/
LARGEST_BODY = 4 << 20  # bytes; the serving layer has the same limit
CONNECT_SECONDS = 5.0
RETRY_AFTER_SECONDS = 2
WRONG_KEYS = 10  # after so many from one address, it must wait
WRONG_KEY_SECONDS = 60.0  # how long it waits, and how long a wrong key counts
KNOWN_SECONDS = 3600.0  # an address that sent the right key need not wait for this time
MOST_ADDRESSES = 4096  # that are remembered
DONE = b"data: [DONE]\n\n"  # the end of a stream in OpenAI's protocol

# Headers of requests and of answers. Others are not forwarded: cookies, addresses, CORS, connection headers.
PASSED_ON = (b"accept", b"content-type", b"x-session-id")
PASSED_BACK = (
    *(b"allow", b"cache-control", b"content-encoding", b"content-length", b"content-type"),
    *(b"retry-after", b"x-accel-buffering", b"x-request-id"),
)

UNREACHABLE = "The serving layer cannot be reached. Try again in a moment."
TOO_MANY_TRIES = "Too many wrong keys have come from this address. Try again later."
NOT_LET_IN = "The serving layer does not accept this server's key."
BROKEN_OFF = "The serving layer has broken off the answer."
ENDING = "The server is shutting down."


class ServingGateway:
    """Adds the serving layer at `endpoint` to `app`, for clients that have the `key`."""

    def __init__(self, app: ASGIApp, *, endpoint: Callable[[], Endpoint], key: str) -> None:
        self.app = app
        self._endpoint = endpoint
        self._key = key.encode()
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._ending = False
        self._limiter = KeyLimiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with _new_session() as self._session:
                await self.app(scope, receive, send)
        elif scope["type"] == "http" and f"{scope['path']}/".startswith(("/serving/", "/v1/")):
            await self._answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def end(self) -> None:
        """Refuse new requests, and end the running ones with an error to their clients."""
        self._ending = True
        for task in self._under_way:
            task.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(scope, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        target = target_of(scope["path"])
        given = headers.get(b"authorization", b"")
        address = address_of(scope["client"][0] if scope.get("client") else "")
        if (seconds := self._limiter.wait_seconds(address)) > 0:
            await answer.refuse(429, "overloaded", TOO_MANY_TRIES, retry_after=str(math.ceil(seconds)))
        elif not given or not self._limiter.record(address, is_right=self._is_key(given)):
            message = "The key is missing or wrong."
            await answer.refuse(401, "unauthorized", message, www_authenticate="Bearer")
        elif target is None:
            await answer.refuse(404, "not_found", "There is nothing here.")
        elif scope["method"] not in ("GET", "HEAD", "POST"):
            await answer.refuse(405, "method_not_allowed", "Method Not Allowed", allow="GET, HEAD, POST")
        else:
            length = headers.get(b"content-length", b"0").decode("latin-1")
            received = await bounded_body(length, receive, LARGEST_BODY)
            if received is None:
                message = f"The body is larger than {LARGEST_BODY} bytes."
                # The rest of the body must not be read as the next request.
                await answer.refuse(413, "validation", message, connection="close")
                return
            body, is_whole = received
            if not is_whole:
                return
            if scope["query_string"]:
                target += "?" + quote(scope["query_string"], safe="%=&+,;:@/?!$'()*-._~")
            await self._while_wanted(self._pass_on(target, body, headers, answer), receive, answer)

    def _is_key(self, authorization: bytes) -> bool:
        scheme, _, key = authorization.partition(b" ")
        return hmac.compare_digest(key.strip(), self._key) and scheme.lower() == b"bearer"

    async def _while_wanted(self, work: Coroutine[Any, Any, None], receive: Receive, answer: _Answer) -> None:
        """Do the work, and cancel it at once when its client disconnects or the server ends."""
        task = asyncio.create_task(work)
        watcher = asyncio.create_task(left(receive))
        self._under_way.add(task)
        if self._ending:
            task.cancel()
        try:
            await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            has_gone = watcher.done()
            task.cancel()
            watcher.cancel()
            await asyncio.gather(task, watcher, return_exceptions=True)
            self._under_way.discard(task)
        if not task.cancelled():
            task.result()
        elif not has_gone:
            await answer.fail(ENDING)

    async def _pass_on(
        self, target: str, body: bytes, headers: Mapping[bytes, bytes], answer: _Answer
    ) -> None:
        endpoint = self._endpoint()
        if endpoint.url is None or endpoint.failure is not None:
            await answer.fail(endpoint.failure or STARTING)
            return
        passed = {name.decode(): headers[name].decode("latin-1") for name in PASSED_ON if name in headers}
        if endpoint.api_key is not None:
            passed["authorization"] = f"Bearer {endpoint.api_key}"
        assert self._session is not None
        try:
            async with self._session.request(
                answer.method,
                URL(endpoint.url.rstrip("/") + target, encoded=True),
                data=io.BytesIO(body) if body else None,
                # A compressed stream would arrive in large pieces.
                headers={**passed, "accept-encoding": "identity"},
                allow_redirects=False,
            ) as response:
                if response.status in (401, 403):  # the key of this server is wrong, not the client's
                    log.warning("the serving layer does not accept the key: it answers %s", response.status)
                    await answer.fail(NOT_LET_IN)
                    return
                await answer.begin(response.status, response.raw_headers)
                while piece := await response.content.readany():
                    await answer.write(piece)
                await answer.end()
        except (aiohttp.ClientError, OSError) as error:
            log.debug("the serving layer cannot be reached", exc_info=error)
            await answer.fail(UNREACHABLE)


class KeyLimiter:
    """Slows down clients that guess keys: an address that sent several wrong ones must wait.

    An address that lately sent the right key never waits. Otherwise a program there would suffer from another
    one that has an old key, or from a client behind the same router that guesses.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()  # the times of wrong keys, by address
        self._known: OrderedDict[str, float] = OrderedDict()  # the time of the last right key

    def wait_seconds(self, address: str) -> float:
        """How long this address must wait; 0 if its key may be checked."""
        now, wrong = self._clock(), self._wrong.get(address, [])
        if len(wrong) < WRONG_KEYS or now - self._known.get(address, -math.inf) < KNOWN_SECONDS:
            return 0
        return max(wrong[-1] + WRONG_KEY_SECONDS - now, 0)

    def record(self, address: str, *, is_right: bool) -> bool:
        """Remember whether a key from this address was right, and return that."""
        now = self._clock()
        if is_right:
            _remember(self._known, address, now)
        else:
            recent = [when for when in self._wrong.get(address, []) if now - when < WRONG_KEY_SECONDS]
            _remember(self._wrong, address, [*recent, now][-WRONG_KEYS:])
        return is_right


def _remember(remembered: OrderedDict[str, Any], address: str, value: object) -> None:
    remembered[address] = value
    remembered.move_to_end(address)
    if len(remembered) > MOST_ADDRESSES:
        remembered.popitem(last=False)


class _Answer:
    """The answer to one client: the serving layer's, piece by piece, or an error in the protocol's shape."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.method: str = scope["method"]
        self._send = send
        self._is_openai = f"{scope['path']}/".removeprefix("/serving").startswith("/v1/")
        security = security_headers(is_https=scope["scheme"] == "https")
        self._security_headers = _raw({**security, "Content-Security-Policy": DATA_POLICY})
        self._begun = False
        self._is_stream = False
        self._last = b"\n\n"  # the last bytes that were written

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Only the headers of `PASSED_BACK` are used."""
        kept = [(name.lower(), value) for name, value in headers if name.lower() in PASSED_BACK]
        self._is_stream = dict(kept).get(b"content-type", b"").startswith(b"text/event-stream")
        await self._start(status, kept)

    async def write(self, piece: bytes) -> None:
        self._last = piece if len(piece) > 1 else self._last[-1:] + piece
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": piece})

    async def fail(self, message: str) -> None:
        """Report that there is no answer, or that it breaks off.

        A stream reports this between two events. Any other answer that has begun gets no end, so the server
        closes the connection."""
        if not self._begun:
            await self.refuse(503, "unhealthy", message, retry_after=str(RETRY_AFTER_SECONDS))
        elif self._is_stream and self._last.endswith(b"\n\n"):
            message = BROKEN_OFF if message == UNREACHABLE else message
            event = json.dumps(self._error(500, message, "incomplete_generation"))
            await self.end(b"data: " + event.encode() + b"\n\n" + (DONE if self._is_openai else b""))

    async def refuse(self, status: int, error_type: str, message: str, **headers: str) -> None:
        """`error_type` is the serving layer's own name of the error."""
        body = json.dumps(self._error(status, message, error_type)).encode()
        common = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self._start(status, _raw({**common, **named}))
        await self.end(body)

    def _error(self, status: int, message: str, error_type: str) -> object:
        if not self._is_openai:
            return {"error": message, "error_type": error_type}
        kind = "invalid_request_error" if status < 500 else "server_error"
        kind = "service_unavailable_error" if status == 503 else kind
        code = "invalid_api_key" if status == 401 else error_type
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._begun = True
        headers = [*headers, *self._security_headers]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def target_of(path: str) -> str | None:
    """The path at the serving layer, quoted, or None if clients may not use it."""
    path = path.removeprefix("/serving") or "/"
    if path not in OPEN and not path.startswith("/v1/"):
        return None
    if any(part in (".", "..") for part in path.split("/")):  # a proxy on the way may resolve them
        return None
    return quote(path, safe="/")


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # The serving layer itself limits how many requests run at once, and how long an answer may take.
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
