"""The TGI protocol over HTTP, as an ASGI app around any engine.

Knows routes, bodies, events and statuses; refuses to know models, prompts and chats. The way of a
request: `requests.py` checks it, `_Admission` lets it in or not, `generation.py` yields its text, and
`_Api` writes that down. A client that goes away takes its computation with it, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engine import (
    Accepted,
    Chunk,
    Engine,
    EngineState,
    Fetching,
    IncompleteGeneration,
    InvalidRequest,
    NothingToFetch,
    Overloaded,
    ServingError,
    Unhealthy,
)
from serving.generation import Finished, generate
from serving.metrics import Metrics
from serving.models import infilling_of, licence_of
from serving.requests import (
    MOST_STOPS,
    GenerateRequest,
    read_generate_request,
    read_tokenize_request,
)

T = TypeVar("T")
log = logging.getLogger("serving.api")

VERSION = "3.3.7"
"""The TGI whose protocol this is; clients look at it."""
LARGEST_BODY = 4 << 20  # bytes
# Seconds of silence after which a stream gets a comment: well before the shortest usual read timeout of
# clients, which is 10 s. It also sends the headers, so that the client knows that it is being served.
KEEP_ALIVE_SECONDS = 5.0
# Bytes of the generated text in JSON. The last event repeats it, and clients refuse lines over 512 KiB.
LARGEST_TEXT = 480 << 10

_encode = msgspec.json.Encoder().encode


class _Token(msgspec.Struct):
    id: int
    text: str
    logprob: float | None
    special: bool


class _StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int | None


class _StreamEvent(msgspec.Struct):
    index: int
    token: _Token
    generated_text: str | None = None
    details: _StreamDetails | None = None


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[object]
    tokens: list[_Token]


class _Result(msgspec.Struct, omit_defaults=True):
    generated_text: str
    details: _Details | None = None


class ServingApp(Starlette):
    """What `create_app` makes."""

    end_generations: Callable[[], None]
    """End all generations with an error that their clients are told, and let no new ones in."""


def create_app(
    engine: Engine,
    *,
    api_key: str | None = None,
    max_concurrent_requests: int = 512,
    fetching: Fetching | None = None,
) -> ServingApp:
    """The app. It starts the engine and closes it. With an `api_key`, all but /health need it. What is
    `fetching` the engine's model is begun and declined at /download."""
    api = _Api(engine, _Admission(max_concurrent_requests), fetching)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            api.admission.close()
            await engine.close()

    app = ServingApp(
        routes=[
            Route("/", api.compatible, methods=["POST"]),
            Route("/generate", api.generate, methods=["POST"]),
            Route("/generate_stream", api.generate_stream, methods=["POST"]),
            Route("/tokenize", api.tokenize, methods=["POST"]),
            Route("/info", api.info),
            Route("/health", api.health),
            Route("/metrics", api.metrics),
            Route("/download", api.download, methods=["POST", "DELETE"]),
        ],
        lifespan=lifespan,
        middleware=[] if api_key is None else [Middleware(_RequireKey, key=api_key)],
        exception_handlers={
            ServingError: api.answer_error,
            HTTPException: _answer_http_exception,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_unexpected,
        },
    )
    app.end_generations = api.admission.close
    return app


class _Api:
    def __init__(self, engine: Engine, admission: _Admission, fetching: Fetching | None) -> None:
        self.admission = admission
        self._engine = engine
        self._fetching = fetching
        self._metrics = Metrics()

    async def compatible(self, request: Request) -> ASGIApp:
        asked = await self._read(request)
        if asked.stream:
            return functools.partial(self._stream, asked)
        return _json([await self.admission.run(self._result(asked), request.receive)])

    async def generate(self, request: Request) -> ASGIApp:
        asked = await self._read(request)
        return _json(await self.admission.run(self._result(asked), request.receive))

    async def generate_stream(self, request: Request) -> ASGIApp:
        return functools.partial(self._stream, await self._read(request))

    async def tokenize(self, request: Request) -> Response:
        spans = await self._engine.tokenize(read_tokenize_request(await _body(request)))
        if spans is None:
            raise HTTPException(404, "This engine does not tell its tokens.")
        return _json(spans)

    async def info(self, request: Request) -> Response:
        info = self._engine.info
        return _json(
            {
                "model_id": info.model_id,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": self.admission.limit,
                "max_best_of": 1,
                "max_stop_sequences": MOST_STOPS,
                "max_input_tokens": None if info.context is None else info.context - 1,
                "max_total_tokens": info.context,
                "max_client_batch_size": 1,
                "max_batch_size": info.parallel,
                "validation_workers": 1,
                "router": "tech-assistant",
                "version": VERSION,
                # Beyond the protocol:
                "engine": info.engine,
                "state": info.state,
                "state_detail": info.state_detail,
                "chat_template": info.chat_template,
                "bos_token": info.bos_token,
                "eos_token": info.eos_token,
                "license": info.licence or licence_of(info.model_id),
                "infilling": info.infilling or infilling_of(info.model_id),
                "download": info.download,
            }
        )

    async def health(self, request: Request) -> Response:
        info = self._engine.info
        if info.state is not EngineState.READY:
            raise Unhealthy(info.state_detail or "The model is not ready.")
        return Response()

    async def metrics(self, request: Request) -> Response:
        info = self._engine.info
        return PlainTextResponse(
            self._metrics.text(
                queued=info.waiting,
                running=self.admission.running - info.waiting,
                computed=info.computed_tokens,
                reused=info.reused_tokens,
            )
        )

    async def download(self, request: Request) -> Response:
        """Begin to fetch the model, or go on (POST), or decline it (DELETE)."""
        try:
            if self._fetching is None:
                raise NothingToFetch("The model of this engine is not fetched from here.")
            if request.method == "POST":
                await self._fetching.begin()
                return Response(status_code=202)
            await self._fetching.decline()
            return Response(status_code=204)
        except NothingToFetch as error:
            return _error(error.status, error.error_type, str(error))

    async def answer_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)
        if request.method == "POST":  # a question about health is no request to generate
            self._metrics.failures[error.error_type] += 1
        return _error(error.status, error.error_type, _words(error), _retry_headers(error))

    async def _read(self, request: Request) -> GenerateRequest:
        self._metrics.requests += 1
        asked = read_generate_request(await _body(request))
        if _room(asked) <= 0:
            raise InvalidRequest("`inputs` is too long for `return_full_text`")
        return asked

    async def _result(self, asked: GenerateRequest) -> _Result:
        tokens: list[_Token] = []
        end: Finished | None = None
        async with contextlib.aclosing(self._generation(asked)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    end = event
                if not isinstance(event, Accepted):
                    tokens.append(_token(event.last if isinstance(event, Finished) else event))
        assert end is not None
        text = "".join(token.text for token in tokens)
        if asked.return_full_text:
            text = asked.prompt + text
        if not asked.details:
            return _Result(text)
        return _Result(text, _Details(end.finish_reason, end.generated_tokens, _seed(asked), [], tokens))

    async def _stream(self, asked: GenerateRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app that answers one request with an event stream."""
        stream = _EventStream(send)
        try:
            await self.admission.run(self._send_events(asked, stream), receive)
        except ClientDisconnect:
            return
        except ServingError as error:
            if not stream.begun:  # nothing was sent: an error may still be a plain response
                response = await self.answer_error(Request(scope), error)
                await response(scope, receive, send)
                return
            self._metrics.failures[error.error_type] += 1
            # Clients know only this type once there has been text.
            error_type = IncompleteGeneration.error_type if stream.events else error.error_type
            await stream.write(_data({"error": _words(error), "error_type": error_type}))
        except Exception:
            if not stream.begun:
                raise
            log.exception("a stream failed")
            self._metrics.failures[IncompleteGeneration.error_type] += 1
            broken = {"error": "Internal error", "error_type": IncompleteGeneration.error_type}
            await stream.write(_data(broken))
        await stream.end()

    async def _send_events(self, asked: GenerateRequest, stream: _EventStream) -> None:
        shown: list[str] = [asked.prompt] if asked.return_full_text else []
        index = 0
        keeping_alive = asyncio.create_task(stream.keep_alive())
        try:
            async with contextlib.aclosing(self._generation(asked)) as events:
                async for event in events:
                    if isinstance(event, Accepted):
                        await stream.begin()
                        continue
                    index += 1
                    token = event.last if isinstance(event, Finished) else event
                    shown.append(token.text)
                    out = _StreamEvent(index, _token(token))
                    if isinstance(event, Finished):
                        out.generated_text = "".join(shown)
                        out.details = _StreamDetails(
                            event.finish_reason, event.generated_tokens, _seed(asked), event.input_tokens
                        )
                    await stream.write_event(_data(out))
        finally:
            keeping_alive.cancel()

    async def _generation(self, asked: GenerateRequest) -> AsyncGenerator[Accepted | Chunk | Finished]:
        begun = time.monotonic()
        events = generate(self._engine, asked.prompt, asked.params, asked.stops, room=_room(asked))
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Finished):
                    self._metrics.succeeded(
                        time.monotonic() - begun,
                        input_tokens=event.input_tokens,
                        generated_tokens=event.generated_tokens,
                    )
                yield event


class _Admission:
    """How many generations may be under way, waiting ones included, and how each comes to its end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._tasks)

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def run(self, work: Coroutine[Any, Any, T], receive: Receive) -> T:
        """The result of the work. Raises `ClientDisconnect` as soon as the client goes away, which cancels
        the work; also `Overloaded`, `Unhealthy` when the server ends, and what the work raises."""
        if self._closed or len(self._tasks) >= self.limit:
            work.close()
            raise self._ending() if self._closed else Overloaded("Model is overloaded")
        task = asyncio.create_task(work)
        watcher = asyncio.create_task(_disconnected(receive))
        self._tasks.add(task)
        try:
            await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            watcher.cancel()
            await asyncio.gather(task, watcher, return_exceptions=True)
            self._tasks.discard(task)
        if not task.cancelled():
            return task.result()
        if self._closed:
            raise self._ending()
        raise ClientDisconnect

    def _ending(self) -> Unhealthy:
        return Unhealthy("The server is shutting down.")


class _EventStream:
    """Writes events as they come. The headers go out with the first bytes, so that errors before them can
    be plain responses with a status of their own."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writes = 0
        self.begun = False
        self.events = 0

    async def begin(self) -> None:
        if not self.begun:
            self.begun = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream"),
                        (b"cache-control", b"no-cache"),
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )

    async def write(self, data: bytes) -> None:
        await self.begin()
        self._writes += 1
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def write_event(self, data: bytes) -> None:
        self.events += 1
        await self.write(data)

    async def keep_alive(self) -> None:
        """Write a comment whenever nothing else was written for a while."""
        while True:
            writes = self._writes
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if writes == self._writes:
                await self.write(b":\n\n")

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


class _RequireKey:
    """Lets only requests with the key through; health is for everybody."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._authorization = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._authorization):
                response = _error(
                    401, "unauthorized", "The key is missing or wrong.", {"WWW-Authenticate": "Bearer"}
                )
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    """The whole body. Raises HTTPException when it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"The body is larger than {LARGEST_BODY} bytes.")
    return bytes(body)


def _room(asked: GenerateRequest) -> int:
    return LARGEST_TEXT - (len(_encode(asked.prompt)) if asked.return_full_text else 0)


def _seed(asked: GenerateRequest) -> int | None:
    """Nothing is drawn at temperature 0, hence there is no seed."""
    return asked.params.seed if asked.params.temperature > 0 else None


def _token(chunk: Chunk) -> _Token:
    return _Token(chunk.token_id, chunk.text, chunk.logprob, chunk.special)


def _data(value: object) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def _json(value: object) -> Response:
    return Response(_encode(value), media_type="application/json")


def _words(error: ServingError) -> str:
    return f"Input validation error: {error}" if isinstance(error, InvalidRequest) else str(error)


def _retry_headers(error: ServingError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after)} if isinstance(error, Overloaded) else {}


def _error(status: int, error_type: str, words: str, headers: Mapping[str, str] | None = None) -> Response:
    body = _encode({"error": words, "error_type": error_type})
    return Response(body, status, headers, "application/json")


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    error_type = {404: "not_found", 405: "method_not_allowed", 413: "validation"}.get(
        error.status_code, "http"
    )
    return _error(error.status_code, error_type, error.detail, error.headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client has gone; this is for logs only


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    return _error(500, "internal", "Internal error")  # Starlette raises it again, for the log
