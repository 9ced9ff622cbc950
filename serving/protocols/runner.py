"""Run the requests of every protocol on one engine: admission, time limit, metrics, and event streams.

A client that disconnects cancels its computation at once. How errors and events are written is up to each
protocol (`WireProtocol`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engine import (
    SESSION_HEADER,
    Accepted,
    Engine,
    IncompleteGeneration,
    Overloaded,
    ServingError,
    Unhealthy,
)
from serving.generation import Delta, Finished, GenerationRequest, GenerationResult, best_of, generate
from serving.metrics import Metrics

T = TypeVar("T")
log = logging.getLogger(__name__)

LARGEST_BODY = 4 << 20  # bytes
# Seconds of silence after which a stream gets a comment: clients give up after 10 s of silence or later. The
# first comment also sends the headers, which show the client that it is being served.
KEEP_ALIVE_SECONDS = 5.0
# Seconds after which a client that reads nothing counts as gone: it would keep the engine busy for ever.
SLOWEST_READ_SECONDS = 60.0
LONGEST_SESSION = 200  # characters
SHUTTING_DOWN = "The server is shutting down."
_STREAM_HEADERS = [
    *((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")),
    (b"x-accel-buffering", b"no"),
]

encode = msgspec.json.Encoder().encode

Write = Callable[["EventStream"], Coroutine[Any, Any, None]]  # writes the events of one answer


class WireProtocol(Protocol):
    """A protocol for clients: its routes, and how it writes errors."""

    end_of_stream: bytes  # sent after the last event of every stream
    keyless_paths: Collection[str]  # the paths that need no API key

    def routes(self) -> Sequence[Route]: ...

    def serving_error(self, error: ServingError) -> Response: ...

    def http_error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response: ...

    def error_event(self, error: ServingError, error_type: str) -> object:
        """The event that reports an error in a stream, under this type."""


class RequestRunner:
    """Runs generation requests on one engine, for all protocols."""

    def __init__(self, engine: Engine, *, limit: int, total_seconds: float) -> None:
        self.engine = engine
        self.admission = _Admission(limit, total_seconds)
        self.metrics = Metrics()
        self.generations = 0
        """How many texts are running or waiting. One request may ask for several."""

    async def best_of(
        self, request: GenerationRequest, count: int, receive: Receive
    ) -> list[GenerationResult]:
        """`count` results, the likeliest first. Raises `ServingError`, and `ClientDisconnect` when the client
        has gone."""
        begun = time.monotonic()
        with self._counted(count):
            results = await self.admission.run(best_of(self.engine, request, count), receive)
        self._record_success(begun, time.monotonic(), results[0].end)
        return results

    async def events(self, request: GenerationRequest) -> AsyncGenerator[Accepted | Delta]:
        begun, first = time.monotonic(), 0.0
        with self._counted(1):
            async with contextlib.aclosing(generate(self.engine, request)) as events:
                async for event in events:
                    if not first and not isinstance(event, Accepted):
                        first = time.monotonic()
                    if isinstance(event, Finished):
                        self._record_success(begun, first, event)
                    yield event

    def stream(self, write: Write, protocol: WireProtocol) -> ASGIApp:
        """The response to one request: an event stream that `write` writes."""

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            stream = EventStream(send)
            try:
                await self.admission.run(_kept_alive(stream, write), receive)
            except ClientDisconnect:
                return
            except Exception as error:
                if isinstance(error, ServingError):
                    failure = error
                elif stream.begun:
                    log.exception("a stream failed")
                    failure = IncompleteGeneration("Internal error")
                else:
                    raise
                self.metrics.failures[failure.error_type] += 1
                if not stream.begun:  # nothing was sent yet, so the error can be a plain response
                    await protocol.serving_error(failure)(scope, receive, send)
                    return
                # After the first event, clients understand only this type.
                error_type = IncompleteGeneration.error_type if stream.events else failure.error_type
                await stream.write(data(protocol.error_event(failure, error_type)))
            await stream.end(protocol.end_of_stream)

        return respond

    @contextlib.contextmanager
    def _counted(self, generations: int) -> Iterator[None]:
        self.generations += generations
        try:
            yield
        finally:
            self.generations -= generations

    def _record_success(self, begun: float, first: float, end: Finished) -> None:
        self.metrics.succeeded(
            time.monotonic() - begun,
            first_seconds=first - begun,
            input_tokens=end.input_tokens,
            generated_tokens=end.generated_tokens,
        )


class _Admission:
    """Limits how many requests run or wait at once, and how long each may take in total."""

    def __init__(self, limit: int, total_seconds: float) -> None:
        self.limit = limit
        self._total_seconds = total_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False
        """Whether new requests are refused."""

    @property
    def idle(self) -> bool:
        return not self._tasks

    def end(self) -> None:
        """Refuse new requests, and end the running ones with an error to their clients."""
        self.closed = True
        for task in self._tasks:
            task.cancel()

    async def run(self, work: Coroutine[Any, Any, T], receive: Receive) -> T:
        """Return the result of the work, or raise what the work raises.

        Cancels the work and raises `ClientDisconnect` as soon as the client disconnects, and
        `IncompleteGeneration` when the total time is over. Raises `Overloaded` when too many requests run
        already, and `Unhealthy` when the server shuts down."""
        if self.closed or len(self._tasks) >= self.limit:
            work.close()
            raise Unhealthy(SHUTTING_DOWN) if self.closed else Overloaded("Model is overloaded")
        task = asyncio.create_task(work)
        self._tasks.add(task)
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            ended = await _first_to_end(task, leaving, timeout=self._total_seconds)
        finally:
            self._tasks.discard(task)
        if not task.cancelled():
            return task.result()
        if self.closed:
            raise Unhealthy(SHUTTING_DOWN)
        if not ended:
            raise IncompleteGeneration(f"The answer was not complete within {self._total_seconds:g} seconds.")
        raise ClientDisconnect


class EventStream:
    """A stream of Server-Sent Events. The headers go out with the first bytes, so that an error before them
    can still be a plain response with its own status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writes = 0
        self._blocked_since: float | None = None  # when the client last stopped reading
        self.begun = False
        self.events = 0

    async def begin(self) -> None:
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})

    async def write(self, data: bytes) -> None:
        await self.begin()
        self._writes += 1
        self._blocked_since = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._blocked_since = None

    async def write_event(self, event: object) -> None:
        self.events += 1
        await self.write(data(event))

    async def keep_alive(self) -> None:
        """Write a comment whenever the stream has been silent for a while. Returns when the client has read
        nothing for too long."""
        while True:
            writes = self._writes
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if self._blocked_since is not None:
                if time.monotonic() - self._blocked_since > SLOWEST_READ_SECONDS:
                    return
            elif writes == self._writes:
                await self.write(b":\n\n")

    async def end(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data})


async def _kept_alive(stream: EventStream, write: Write) -> None:
    writing = asyncio.create_task(write(stream))
    if writing not in await _first_to_end(writing, asyncio.create_task(stream.keep_alive())):
        raise ClientDisconnect
    writing.result()


async def _first_to_end(
    *tasks: asyncio.Task[Any], timeout: float | None = None
) -> Collection[asyncio.Task[Any]]:
    """Wait until one of the tasks has ended, then cancel the others. Returns those that have ended by
    themselves; none after a timeout."""
    try:
        ended, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return ended


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request) -> bytes:
    """The whole body. Raises HTTPException when it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"The body is larger than {LARGEST_BODY} bytes.")
    return bytes(body)


def session_of(request: Request) -> str | None:
    """The session id in the request's header, cut to a moderate length: it is only compared."""
    return request.headers.get(SESSION_HEADER, "")[:LONGEST_SESSION] or None


def data(event: object) -> bytes:
    return b"data: " + encode(event) + b"\n\n"


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, "application/json")


def retry_headers(error: ServingError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after)} if isinstance(error, Overloaded) else {}
