"""How any protocol answers: who is let in, for how long, what is counted, and how a stream is written.

Knows HTTP and engines; refuses to know how a protocol writes its events. A client that goes away takes its
computation with it, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.engine import (
    SESSION_HEADER,
    Accepted,
    Engine,
    IncompleteGeneration,
    InvalidRequest,
    Overloaded,
    ServingError,
    Unhealthy,
)
from serving.generation import Asked, Finished, Shown, Whole, best_of, generate, whole
from serving.metrics import Metrics

T = TypeVar("T")
log = logging.getLogger("serving.protocols.tgi")

LARGEST_BODY = 4 << 20  # bytes
# Seconds of silence after which a stream gets a comment: well before the shortest usual read timeout of
# clients, which is 10 s. It also sends the headers, so that the client knows that it is being served.
KEEP_ALIVE_SECONDS = 5.0
# Seconds in which a client must read something of what waits for it; else it would hold the engine for ever.
SLOWEST_READ_SECONDS = 60.0
LONGEST_SESSION = 200  # characters

encode = msgspec.json.Encoder().encode


class Answering:
    """What the protocols share around one engine."""

    def __init__(self, engine: Engine, *, limit: int, total_seconds: float) -> None:
        self.engine = engine
        self.admission = _Admission(limit, total_seconds)
        self.metrics = Metrics()
        self.generations = 0
        """Under way, waiting ones included: a request may be several."""

    async def whole(self, asked: Asked, receive: Receive) -> Whole:
        """Raises `ServingError`, and `ClientDisconnect` when nobody waits any more."""
        return await self.run(whole(self.events(asked), seed=asked.params.seed), receive)

    async def best_of(self, asked: Asked, count: int, receive: Receive) -> list[Whole]:
        """So many answers, the likeliest first."""
        begun = time.monotonic()
        with self._under_way(count):
            answers = await self.run(best_of(self.engine, asked, count), receive)
        self._count(begun, time.monotonic(), answers[0].end)
        return answers

    async def run(self, work: Coroutine[Any, Any, T], receive: Receive) -> T:
        return await self.admission.run(work, receive)

    async def events(self, asked: Asked) -> AsyncGenerator[Accepted | Shown | Finished]:
        begun, first = time.monotonic(), 0.0
        with self._under_way(1):
            async with contextlib.aclosing(generate(self.engine, asked)) as events:
                async for event in events:
                    if not first and not isinstance(event, Accepted):
                        first = time.monotonic()
                    if isinstance(event, Finished):
                        self._count(begun, first, event)
                    yield event

    async def stream(
        self,
        write: Callable[[EventStream], Coroutine[Any, Any, None]],
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        refuse: Callable[[ServingError], Response],
        broken: Callable[[str, str], object],
        last: bytes = b"",
    ) -> None:
        """Answer one request with an event stream, which `write` writes.

        `refuse` makes the response to an error before anything was sent. `broken` makes the event that tells
        an error after that, of its words and its type. `last` is written at the end, whatever that was.
        """
        stream = EventStream(send)
        try:
            await self.run(_kept_alive(stream, write), receive)
        except ClientDisconnect:
            return
        except ServingError as error:
            self.metrics.failures[error.error_type] += 1
            if not stream.begun:  # nothing was sent: an error may still be a plain response
                await refuse(error)(scope, receive, send)
                return
            # Clients know only this type once there has been text.
            kind = IncompleteGeneration.error_type if stream.events else error.error_type
            await stream.write(data(broken(words(error), kind)))
        except Exception:
            if not stream.begun:
                raise
            log.exception("a stream failed")
            self.metrics.failures[IncompleteGeneration.error_type] += 1
            await stream.write(data(broken("Internal error", IncompleteGeneration.error_type)))
        await stream.end(last)

    @contextlib.contextmanager
    def _under_way(self, generations: int) -> Iterator[None]:
        self.generations += generations
        try:
            yield
        finally:
            self.generations -= generations

    def _count(self, begun: float, first: float, end: Finished) -> None:
        self.metrics.succeeded(
            time.monotonic() - begun,
            first_seconds=first - begun,
            input_tokens=end.input_tokens,
            generated_tokens=end.generated_tokens,
        )


class _Admission:
    """How many generations may be under way, waiting ones included, and how each comes to its end: no later
    than after `total_seconds`, however lively it is."""

    def __init__(self, limit: int, total_seconds: float) -> None:
        self.limit = limit
        self._total_seconds = total_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        return len(self._tasks)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Let no more in."""
        self._closed = True

    async def drained(self) -> None:
        """Until nothing is under way."""
        await self._idle.wait()

    def end(self) -> None:
        """Let no more in, and end what is under way with an error that its client is told."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def run(self, work: Coroutine[Any, Any, T], receive: Receive) -> T:
        """The result of the work. Raises `ClientDisconnect` as soon as the client goes away, which cancels
        the work, and `IncompleteGeneration` when it takes too long, as well; also `Overloaded`, `Unhealthy`
        when the server ends, and what the work raises."""
        if self._closed or len(self._tasks) >= self.limit:
            work.close()
            raise self._ending() if self._closed else Overloaded("Model is overloaded")
        task = asyncio.create_task(work)
        watcher = asyncio.create_task(_disconnected(receive))
        self._tasks.add(task)
        self._idle.clear()
        try:
            ended, _ = await asyncio.wait(
                (task, watcher), timeout=self._total_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            task.cancel()
            watcher.cancel()
            await asyncio.gather(task, watcher, return_exceptions=True)
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()
        if not task.cancelled():
            return task.result()
        if self._closed:
            raise self._ending()
        if not ended:
            raise IncompleteGeneration(f"The answer was not complete within {self._total_seconds:g} seconds.")
        raise ClientDisconnect

    def _ending(self) -> Unhealthy:
        return Unhealthy("The server is shutting down.")


class EventStream:
    """Writes events as they come. The headers go out with the first bytes, so that errors before them can
    be plain responses with a status of their own."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writes = 0
        self._waiting_since: float | None = None  # for the client to read
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
        self._waiting_since = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._waiting_since = None

    async def write_event(self, event: object) -> None:
        self.events += 1
        await self.write(data(event))

    async def keep_alive(self) -> None:
        """Write a comment whenever nothing else was written for a while. Returns when the client has read
        nothing for so long that it is as good as gone."""
        while True:
            writes = self._writes
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if self._waiting_since is not None:
                if time.monotonic() - self._waiting_since > SLOWEST_READ_SECONDS:
                    return
            elif writes == self._writes:
                await self.write(b":\n\n")

    async def end(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data})


async def _kept_alive(stream: EventStream, write: Callable[[EventStream], Coroutine[Any, Any, None]]) -> None:
    writing = asyncio.create_task(write(stream))
    keeping_alive = asyncio.create_task(stream.keep_alive())
    try:
        await asyncio.wait((writing, keeping_alive), return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_written = writing.done()
        for task in (writing, keeping_alive):
            task.cancel()
        await asyncio.gather(writing, keeping_alive, return_exceptions=True)
    if not is_written:
        raise ClientDisconnect
    writing.result()


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
    """What the request belongs to, by its header. It is kept short: it is only compared."""
    return request.headers.get(SESSION_HEADER, "")[:LONGEST_SESSION] or None


def data(event: object) -> bytes:
    return b"data: " + encode(event) + b"\n\n"


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, "application/json")


def words(error: ServingError) -> str:
    return f"Input validation error: {error}" if isinstance(error, InvalidRequest) else str(error)


def retry_headers(error: ServingError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after)} if isinstance(error, Overloaded) else {}
