"""The serving layer over HTTP, as an ASGI app around any engine: the TGI protocol, and the way to the others.

Knows routes, bodies, events and statuses; refuses to know models, prompts and chats. The way of a
request: `requests.py` checks it, `answering.py` lets it in or not, `generation.py` yields its text, and
`_Tgi` writes that down. OpenAI's protocol is in `openai.py`.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
from collections.abc import AsyncIterator, Sequence

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
    Engine,
    EngineState,
    Fetching,
    NothingToFetch,
    ServingError,
    TopToken,
    Unhealthy,
    Warming,
)
from serving.generation import Finished, Token, Whole
from serving.models.catalogue import infilling_of, licence_of
from serving.protocols import openai
from serving.protocols.answering import (
    Answering,
    EventStream,
    json_response,
    read_body,
    retry_headers,
    session_of,
    words,
)
from serving.protocols.openai import OpenAIProtocol
from serving.protocols.tgi_requests import (
    MOST_BEST_OF,
    MOST_STOPS,
    MOST_TOP_TOKENS,
    GenerateRequest,
    read_generate_request,
    read_text_request,
)

VERSION = "3.3.7"
"""The TGI whose protocol this is; clients look at it."""
DEFAULT_LIMIT = 512
"""Requests under way, waiting ones included."""
DEFAULT_TOTAL_SECONDS = 1800.0
"""For a whole answer."""


class _StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int | None
    stop_sequence: str | None
    """Beyond TGI: which of the stop sequences ended the text."""


class _StreamEvent(msgspec.Struct):
    index: int
    token: Token
    generated_text: str | None = None
    details: _StreamDetails | None = None
    top_tokens: list[Token] | msgspec.UnsetType = msgspec.UNSET


class _Prefill(msgspec.Struct):
    id: int
    text: str
    logprob: float | None = None
    """No engine here tells it."""


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[_Prefill]
    tokens: list[Token]
    stop_sequence: str | None
    top_tokens: list[list[Token]] | msgspec.UnsetType = msgspec.UNSET
    best_of_sequences: list[_Details] | msgspec.UnsetType = msgspec.UNSET
    """Of those that were not the best."""
    generated_text: str | msgspec.UnsetType = msgspec.UNSET
    """Only within `best_of_sequences`."""


class _Result(msgspec.Struct, omit_defaults=True):
    generated_text: str
    details: _Details | None = None


class ServingApp(Starlette):
    """What `create_app` makes."""

    answering: Answering


def create_app(
    engine: Engine,
    *,
    api_key: str | None = None,
    max_concurrent_requests: int = DEFAULT_LIMIT,
    total_seconds: float = DEFAULT_TOTAL_SECONDS,
    fetching: Fetching | None = None,
) -> ServingApp:
    """The app. It starts the engine and closes it. With an `api_key`, all but /health need it. What is
    `fetching` the engine's model is begun and declined at /download."""
    answering = Answering(engine, limit=max_concurrent_requests, total_seconds=total_seconds)
    api = _Tgi(answering, fetching)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            answering.admission.end()
            await engine.close()

    app = ServingApp(
        routes=[
            Route("/", api.compatible, methods=["POST"]),
            Route("/generate", api.generate, methods=["POST"]),
            Route("/generate_stream", api.generate_stream, methods=["POST"]),
            Route("/tokenize", api.tokenize, methods=["POST"]),
            Route("/info", api.info),
            Route("/health", api.health),
            Route("/ping", api.health),
            Route("/metrics", api.metrics),
            Route("/prefix", api.prefix, methods=["PUT"]),
            Route("/download", api.download, methods=["POST", "DELETE"]),
            *OpenAIProtocol(answering).routes(),
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
    app.answering = answering
    return app


class _Tgi:
    def __init__(self, answering: Answering, fetching: Fetching | None) -> None:
        self._answering = answering
        self._engine = answering.engine
        self._metrics = answering.metrics
        self._fetching = fetching

    async def compatible(self, request: Request) -> ASGIApp:
        wanted = await self._read(request)
        if wanted.stream:
            return functools.partial(self._stream, wanted)
        return json_response([await self._result(wanted, request)])

    async def generate(self, request: Request) -> ASGIApp:
        return json_response(await self._result(await self._read(request, stream=False), request))

    async def generate_stream(self, request: Request) -> ASGIApp:
        return functools.partial(self._stream, await self._read(request, stream=True))

    async def tokenize(self, request: Request) -> Response:
        spans = await self._engine.tokenize(read_text_request(await read_body(request)))
        if spans is None:
            raise HTTPException(404, "This engine does not tell its tokens.")
        return json_response(spans)

    async def info(self, request: Request) -> Response:
        info = self._engine.info
        limit = self._answering.admission.limit
        return json_response(
            {
                "model_id": info.model_id,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": limit,
                "max_best_of": MOST_BEST_OF,
                "max_stop_sequences": MOST_STOPS,
                "max_top_n_tokens": MOST_TOP_TOKENS,
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
                "max_queue_size": None if info.parallel is None else max(0, limit - info.parallel),
                "chat_template": info.chat_template,
                "bos_token": info.bos_token,
                "eos_token": info.eos_token,
                "adapters": info.adapters,
                "license": info.licence or licence_of(info.model_id),
                "infilling": info.infilling or infilling_of(info.model_id),
                "download": info.download,
            }
        )

    async def health(self, request: Request) -> Response:
        info = self._engine.info
        if info.state is not EngineState.READY:
            raise Unhealthy(info.state_detail or "The model is not ready.")
        if self._answering.admission.closed:
            raise Unhealthy("The server is shutting down.")
        return Response()

    async def metrics(self, request: Request) -> Response:
        info = self._engine.info
        return PlainTextResponse(
            self._metrics.text(
                queued=info.waiting,
                running=max(0, self._answering.generations - info.waiting),
                computed=info.computed_tokens,
                reused=info.reused_tokens,
            )
        )

    async def prefix(self, request: Request) -> Response:
        """Take a text that many prompts will begin with; 202 where the engine keeps it ready, else 204."""
        beginning = read_text_request(await read_body(request))
        if not isinstance(self._engine, Warming):
            return Response(status_code=204)
        await self._engine.warm(beginning)
        return Response(status_code=202)

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
        return openai.refusal(error) if openai.is_meant(request.scope) else _refusal(error)

    async def _read(self, request: Request, *, stream: bool | None = None) -> GenerateRequest:
        self._metrics.requests += 1
        body = await read_body(request)
        return read_generate_request(body, stream=stream, session=session_of(request))

    async def _result(self, wanted: GenerateRequest, request: Request) -> _Result:
        if wanted.best_of > 1:
            answers = await self._answering.best_of(wanted.asked, wanted.best_of, request.receive)
        else:
            answers = [await self._answering.whole(wanted.asked, request.receive)]
        best = _full_text(wanted, answers[0])
        if not wanted.details:
            return _Result(best)
        details = _details(wanted, answers[0])
        if wanted.prefill:
            spans = await self._engine.tokenize(wanted.prompt)
            read = (spans or ())[-(wanted.asked.params.truncate or 0) :]
            details.prefill = [_Prefill(span.id, span.text) for span in read]
        if wanted.best_of > 1:
            details.best_of_sequences = [_details(wanted, answer) for answer in answers[1:]]
            for sequence, answer in zip(details.best_of_sequences, answers[1:], strict=True):
                sequence.generated_text = _full_text(wanted, answer)
        return _Result(best, details)

    async def _stream(self, wanted: GenerateRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app that answers one request with an event stream."""
        await self._answering.stream(
            functools.partial(self._write, wanted), scope, receive, send, refuse=_refusal, broken=_broken
        )

    async def _write(self, wanted: GenerateRequest, stream: EventStream) -> None:
        texts: list[str] = [wanted.prompt] if wanted.return_full_text else []
        index = 0
        async with contextlib.aclosing(self._answering.events(wanted.asked)) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    await stream.begin()
                    continue
                index += 1
                shown = event.last if isinstance(event, Finished) else event
                texts.append(shown.token.text)
                out = _StreamEvent(index, shown.token)
                if shown.top:
                    out.top_tokens = _top(shown.top)
                if isinstance(event, Finished):
                    out.generated_text = "".join(texts)
                    out.details = _StreamDetails(
                        event.finish_reason,
                        event.generated_tokens,
                        _seed(wanted, wanted.asked.params.seed),
                        event.input_tokens,
                        event.stop,
                    )
                await stream.write_event(out)


class _RequireKey:
    """Lets only requests with the key through; health is for everybody."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._authorization = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._authorization):
                words, headers = "The key is missing or wrong.", {"WWW-Authenticate": "Bearer"}
                if openai.is_meant(scope):
                    response = openai.error_response(401, words, headers, code="invalid_api_key")
                else:
                    response = _error(401, "unauthorized", words, headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _full_text(wanted: GenerateRequest, answer: Whole) -> str:
    return wanted.prompt + answer.text if wanted.return_full_text else answer.text


def _seed(wanted: GenerateRequest, seed: int) -> int | None:
    """Nothing is drawn at temperature 0, hence there is no seed."""
    return seed if wanted.asked.params.temperature > 0 else None


def _details(wanted: GenerateRequest, answer: Whole) -> _Details:
    details = _Details(
        answer.end.finish_reason,
        answer.end.generated_tokens,
        _seed(wanted, answer.seed),
        [],
        [shown.token for shown in answer.tokens],
        answer.end.stop,
    )
    if any(shown.top for shown in answer.tokens):
        details.top_tokens = [_top(shown.top) for shown in answer.tokens]
    return details


def _top(tokens: Sequence[TopToken]) -> list[Token]:
    return [Token(token.id, token.text, token.logprob, False) for token in tokens]


def _broken(words: str, error_type: str) -> object:
    return {"error": words, "error_type": error_type}


def _refusal(error: ServingError) -> Response:
    return _error(error.status, error.error_type, words(error), retry_headers(error))


def _error(status: int, error_type: str, words: str, headers: dict[str, str] | None = None) -> Response:
    return json_response(_broken(words, error_type), status, headers)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if openai.is_meant(request.scope):
        return openai.http_error(error)
    error_type = {404: "not_found", 405: "method_not_allowed", 413: "validation"}.get(
        error.status_code, "http"
    )
    return _error(error.status_code, error_type, error.detail, dict(error.headers or {}))


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client has gone; this is for logs only


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    if openai.is_meant(request.scope):
        return openai.error_response(500, "Internal error")
    return _error(500, "internal", "Internal error")  # Starlette raises it again, for the log
