"""Forwards requests to the serving layer, for programs that have its key (`--expose-serving`).

`/serving/…` is the TGI protocol, `/v1/…` is OpenAI's. The gateway checks the key, forwards a few headers and
the bytes of request and answer, and answers itself if the serving layer cannot. It comes before the checks of
`security.py`: programs send no cookies, and the page of another site does not have the key.

Only the routes in `OPEN` are forwarded. So a new route of the serving layer is closed until it is added
there, and what only the operator may do (download a model, keep a prefix ready) stays closed.

Chats with the models of `documentation_models.py` are not forwarded: this application answers them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import io
import json
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from assistant.engine import NO_MODEL, STARTING, Endpoint
from assistant.web.connections import address_of
from assistant.web.disconnect import while_connected
from assistant.web.documentation_models import ChatRefused, DocumentationModels, model_of
from assistant.web.security import DATA_POLICY, bounded_body, security_headers
from assistant.web.throttle import Throttle

log = logging.getLogger(__name__)

OPEN = frozenset(
    {"/", "/generate", "/generate_stream", "/tokenize", "/info", "/health", "/ping", "/metrics"}
)  # and whatever is under /v1/
LARGEST_BODY = 4 << 20  # bytes, the same as in the serving layer
CONNECT_SECONDS = 5.0
RETRY_AFTER_SECONDS = 2
DONE = b"data: [DONE]\n\n"  # the end of a stream in OpenAI's protocol
MODELS, COMPLETIONS, CHATS = "/v1/models", "/v1/completions", "/v1/chat/completions"
PING_SECONDS = 15.0

# The headers of a request that are forwarded. Others may identify a person.
REQUEST_HEADERS = frozenset({b"accept", b"content-type", b"x-session-id"})
# The headers of an answer that are forwarded: no cookies, no CORS, nothing that concerns one connection.
ANSWER_HEADERS = frozenset(
    {
        *(b"allow", b"cache-control", b"content-encoding", b"content-length", b"content-type"),
        *(b"retry-after", b"x-accel-buffering", b"x-request-id"),
    }
)

UNREACHABLE = "The serving layer cannot be reached. Try again in a moment."
TOO_MANY_TRIES = "Too many wrong keys from this address. Try again later."
KEY_REFUSED = "The serving layer does not accept this server's key."
BROKEN_OFF = "The serving layer stopped before the end of the answer."
ENDING = "The server is shutting down."


class ServingGateway:
    """Middleware around `app` that forwards to the serving layer at `endpoint` for clients with the `key`.
    `models` answer for themselves."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        endpoint: Callable[[], Endpoint] | None,
        key: str,
        models: DocumentationModels | None = None,
    ) -> None:
        self.app = app
        self._endpoint = endpoint or (lambda: Endpoint(None, failure=NO_MODEL))
        self._models = models
        self._key = key.encode()
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._ending = False
        self._throttle = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with _new_session() as self._session:
                await self.app(scope, receive, send)
        elif scope["type"] == "http" and _is_for_serving(scope["path"]):
            await self._answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def end(self) -> None:
        """Stop forwarding, and end the answers under way with an error."""
        self._ending = True
        for task in self._under_way:
            task.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(scope, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        target = target_of(scope["path"])
        given = headers.get(b"authorization", b"")
        address = address_of(scope["client"][0] if scope.get("client") else "")
        if (seconds := self._throttle.seconds(address)) > 0:
            await answer.refuse(429, TOO_MANY_TRIES, {"Retry-After": str(math.ceil(seconds))})
        elif not given or not self._throttle.admits(address, is_right=self._is_key(given)):
            await answer.refuse(401, "The key is missing or wrong.", {"WWW-Authenticate": "Bearer"})
        elif target is None:
            await answer.refuse(404, "There is nothing at this path.")
        elif scope["method"] not in ("GET", "HEAD", "POST"):
            await answer.refuse(405, "Method Not Allowed", {"Allow": "GET, HEAD, POST"})
        else:
            length = headers.get(b"content-length", b"0").decode("latin-1")
            received = await bounded_body(length, receive, LARGEST_BODY)
            if received is None:
                message = f"The body is larger than {LARGEST_BODY} bytes."
                # Otherwise the server would read the rest of the body as the next request.
                await answer.refuse(413, message, {"Connection": "close"})
                return
            body, is_whole = received
            if not is_whole:
                return
            if self._models is not None and target in (CHATS, COMPLETIONS) and model_of(body) is not None:
                if target == COMPLETIONS:
                    message = f"The models with documentation answer at {CHATS} only."
                    await answer.refuse_chat(ChatRefused(404, message, param="model", code="model_not_found"))
                    return
                session = headers.get(b"x-session-id", b"").decode("latin-1") or None
                made = self._models.answer(body, address=address, session=session)
                work = self._answer_here(made, answer)
            elif self._models is not None and scope["method"] != "POST" and _is_list_of_models(target):
                work = self._list_models(self._models, target, answer)
            else:
                if scope["query_string"]:
                    target += "?" + quote(scope["query_string"], safe="%=&+,;:@/?!$'()*-._~")
                work = self._forward(target, body, headers, answer)
            await self._until_end(work, receive, answer)

    def _is_key(self, authorization: bytes) -> bool:
        scheme, _, key = authorization.partition(b" ")
        return hmac.compare_digest(key.strip(), self._key) and scheme.lower() == b"bearer"

    async def _until_end(self, work: Coroutine[Any, Any, None], receive: Receive, answer: _Answer) -> None:
        """Do the work until the client disconnects or the server ends, which also ends the request to the
        serving layer."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        if self._ending:
            task.cancel()
        if await while_connected(task, receive) and task.cancelled():
            await answer.fail(ENDING)

    async def _answer_here(
        self, work: Awaitable[dict[str, Any] | AsyncGenerator[dict[str, Any]]], answer: _Answer
    ) -> None:
        """Send the response, or the chunks, of one of our own models."""
        try:
            made = await work
            if isinstance(made, dict):
                await answer.send_json(200, made)
                return
            pinging = asyncio.create_task(answer.ping())
            try:
                async with contextlib.aclosing(made):
                    async for chunk in made:
                        await answer.write_event(chunk)
            finally:
                pinging.cancel()
            await answer.end(DONE)
        except ChatRefused as error:
            await answer.refuse_chat(error)
        except Exception:
            log.exception("a chat with the documentation failed")
            await answer.refuse_chat(ChatRefused(500, "The application failed. Its log has the details."))

    async def _list_models(self, models: DocumentationModels, target: str, answer: _Answer) -> None:
        """The serving layer's models and ours, or one of ours by its name."""
        listed = await self._models_of_serving()
        listed += models.listed(listed)
        name = unquote(target.removeprefix(MODELS).removeprefix("/"))
        if not name:
            await answer.send_json(200, {"object": "list", "data": listed})
        elif found := [model for model in listed if model.get("id") == name]:
            await answer.send_json(200, found[0])
        else:
            await answer.refuse(404, "There is no model of this name.")

    async def _models_of_serving(self) -> list[dict[str, Any]]:
        """The entries of the serving layer's list of models; none if it cannot be reached."""
        endpoint = self._endpoint()
        if endpoint.url is None or endpoint.failure is not None:
            return []
        headers = {"accept-encoding": "identity"}
        if endpoint.api_key is not None:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        assert self._session is not None
        try:
            async with self._session.get(endpoint.url.rstrip("/") + MODELS, headers=headers) as response:
                listed = json.loads(await response.read())["data"]
            return [model for model in listed if isinstance(model, dict)]
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            log.debug("the serving layer has no list of models", exc_info=error)
            return []

    async def _forward(
        self, target: str, body: bytes, headers: Mapping[bytes, bytes], answer: _Answer
    ) -> None:
        endpoint = self._endpoint()
        if endpoint.url is None or endpoint.failure is not None:
            await answer.fail(endpoint.failure or STARTING)
            return
        names = REQUEST_HEADERS & headers.keys()
        forwarded = {name.decode(): headers[name].decode("latin-1") for name in names}
        if endpoint.api_key is not None:
            forwarded["authorization"] = f"Bearer {endpoint.api_key}"
        assert self._session is not None
        try:
            async with self._session.request(
                answer.method,
                URL(endpoint.url.rstrip("/") + target, encoded=True),
                data=io.BytesIO(body) if body else None,
                # Compression would delay the pieces of a stream.
                headers={**forwarded, "accept-encoding": "identity"},
                allow_redirects=False,
            ) as response:
                if response.status in (401, 403):  # it refuses this server's key, not the client's
                    log.warning("the serving layer does not accept the key: it answers %s", response.status)
                    await answer.fail(KEY_REFUSED)
                    return
                await answer.begin(
                    response.status, [(name.lower(), value) for name, value in response.raw_headers]
                )
                while piece := await response.content.readany():
                    await answer.write(piece)
                await answer.end()
        except (aiohttp.ClientError, OSError) as error:
            log.debug("the serving layer cannot be reached", exc_info=error)
            await answer.fail(UNREACHABLE)


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
        self._last = b"\n\n"  # the last bytes that were sent

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Begin the answer with those of the `headers` that are in `ANSWER_HEADERS`. Names in lower case."""
        kept = [(name, value) for name, value in headers if name in ANSWER_HEADERS]
        self._is_stream = dict(kept).get(b"content-type", b"").startswith(b"text/event-stream")
        await self._start(status, kept)

    async def write(self, piece: bytes) -> None:
        self._last = piece if len(piece) > 1 else self._last[-1:] + piece
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": piece})

    async def fail(self, message: str) -> None:
        """Report that there is no answer, or that it ends early.

        A stream that has begun can carry an error between two events. Any other answer that has begun is left
        without its end, so that the server closes the connection.
        """
        if not self._begun:
            await self.refuse(503, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        elif self._is_stream and self._last.endswith(b"\n\n"):
            message = BROKEN_OFF if message == UNREACHABLE else message
            event = _event(self._error(500, message, "incomplete_generation"))
            await self.end(event + (DONE if self._is_openai else b""))

    async def refuse(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        await self.send_json(status, self._error(status, message, _ERROR_TYPES[status]), headers)

    async def refuse_chat(self, error: ChatRefused) -> None:
        """Report why there is no answer, or why its stream ends early."""
        if self._begun:
            await self.end(_event({"error": error.error}) + DONE)
        else:
            retry = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status in (429, 503) else {}
            await self.send_json(error.status, {"error": error.error}, retry)

    async def send_json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer."""
        body = json.dumps(value).encode()
        own = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        await self._start(status, _raw({**own, **(headers or {})}))
        await self.end(body)

    async def write_event(self, value: object) -> None:
        """An event of a stream, which begins with the first one."""
        if not self._begun:
            self._is_stream = True
            own = {
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
            await self._start(200, _raw(own))
        await self.write(_event(value))

    async def ping(self) -> None:
        """Keep a stream that has begun alive, until cancelled."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            if self._begun:
                await self.write(b": ping\n\n")

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


# The same error types as in the serving layer.
_ERROR_TYPES = {
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "validation",
    429: "overloaded",
    503: "unhealthy",
}


def target_of(path: str) -> str | None:
    """The path at the serving layer, quoted, or None if it is not open to clients."""
    path = path.removeprefix("/serving") or "/"
    if path not in OPEN and not path.startswith("/v1/"):
        return None
    if any(part in (".", "..") for part in path.split("/")):  # a client or proxy may resolve them
        return None
    return quote(path, safe="/")


def _is_list_of_models(target: str) -> bool:
    return target == MODELS or target.startswith(f"{MODELS}/")


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _is_for_serving(path: str) -> bool:
    return path in ("/serving", "/v1") or path.startswith(("/serving/", "/v1/"))


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # The serving layer limits concurrent requests and the duration of an answer.
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
