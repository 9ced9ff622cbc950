"""Limits on the connections and requests of the HTTP server, which uvicorn does not have.

`Connection` limits the size and the time of what a client sends. It is always in one phase, and every phase
has a time limit:

    HEADER ──> BODY ──> BUSY ──> IDLE        ENDING: refused or answered; further input is discarded
      └────────────────<──────────┘

`Connections` limits their number, per address and in total. At a limit, the connection that has waited for
its client longest is dropped for the new one, so silent connections lock nobody out. A BUSY connection is
never dropped for another: if all are BUSY, a new one gets 503.

`RequestLimiter` limits the concurrent requests of an address, also behind a trusted proxy, and the event
streams of an address and of an owner.

None of this code runs for each piece of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import ipaddress
import itertools
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httptools
import uvicorn
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from assistant.web.identity import owner_of
from assistant.web.problems import RETRY_AFTER_SECONDS, Problem
from assistant.web.security import DATA_POLICY, security_headers

try:
    import resource
except ImportError:  # Windows does not have it
    resource = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

OTHER_FILES = 512  # file descriptors for the database, files and connections to the serving layer
SWEEP_SECONDS = 1.0
LOG_SECONDS = 60.0
EVENT_STREAM = re.compile(r"/api/replies/[^/]*/events|/gradio_api/queue/data")
NO_GRACE = (0.0, 0.0, 0.0, 0.0)
DROP = "tech_assistant.drop"  # in a scope's extensions: a function that drops the request's connection


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one connection, one address, one owner and all connections together."""

    header_bytes: int = 32 << 10  # request line and headers; for a chunked body, its chunk headers
    headers: int = 100
    target_bytes: int = 8 << 10
    pipelined: int = 16  # requests sent before the earlier ones were answered

    header_seconds: float = 10.0  # from the connection or a request's first byte to the end of its headers
    body_seconds: float = 30.0
    body_rate: int = 64 << 10  # bytes a second; a large body gets this much more time
    idle_seconds: float = 30.0  # between two requests
    write_seconds: float = 30.0  # in which a slow reader must take another `write_bytes` of the answer
    write_bytes: int = 64 << 10
    ending_seconds: float = 2.0  # of reading on after a refusal: a reset could discard the refusal

    connections: int = 4096
    backlog: int = 4096  # connections that the system accepts before we do
    connections_of_address: int = 768
    # Seconds in ENDING, HEADER, BODY and IDLE before a connection is dropped for one of the same address.
    grace: tuple[float, ...] = (0.0, 3.0, 1.0, 5.0)
    requests_of_address: int = 1024  # at the same time; one page loads a hundred files
    streams_of_address: int = 400
    streams_of_owner: int = 32
    held_bytes: int = 256 << 20  # unfinished bodies and unsent answers, of all connections

    @classmethod
    def of_this_process(cls) -> Limits:
        """As many connections as this process may open files. Raises the process's limit if it can."""
        most = cls()
        wanted = most.connections + most.backlog
        free = _open_files(wanted + OTHER_FILES) - OTHER_FILES
        return most if free >= wanted else cls(connections=max(free * 2 // 3, 16), backlog=max(free // 3, 8))


class Phase(enum.IntEnum):
    """What a connection waits for. Lower phases are dropped first for new connections, BUSY never."""

    ENDING = 0
    HEADER = 1
    BODY = 2
    IDLE = 3
    BUSY = 4


class Group:
    """Connections that share a limit, by phase, the longest in each phase first."""

    def __init__(self, most: int, grace: Sequence[float] = NO_GRACE) -> None:
        self._most = most
        self._grace = grace
        self.phases: tuple[dict[Connection, None], ...] = tuple({} for _ in Phase)

    def __len__(self) -> int:
        return sum(map(len, self.phases))

    def make_room(self, now: float) -> None:
        """Drop waiting connections until there is room for one more, except within their grace period."""
        while len(self) >= self._most:
            longest = (next(iter(phase)) for phase in self.phases[: Phase.BUSY] if phase)
            waiting = next((one for one in longest if now - one.since >= self._grace[one.phase]), None)
            if waiting is None:
                break
            waiting.drop()

    def limit_bodies(self) -> None:
        """Drop the oldest of too many unfinished bodies: they cost the most memory."""
        bodies = self.phases[Phase.BODY]
        while len(bodies) > max(self._most // 4, 1):
            next(iter(bodies)).drop()


class Connections:
    """All connections of a server. `proxies` are trusted networks, exempt from the limit per address."""

    def __init__(
        self, limits: Limits, proxies: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.refused: Counter[str] = Counter()  # since the last line in the log
        self._proxies = tuple(map(ipaddress.ip_network, proxies))
        self._all = Group(limits.connections)
        self._by_address: dict[str, Group] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._logged = -LOG_SECONDS

    @property
    def number(self) -> int:
        return len(self._all)

    @property
    def is_full(self) -> bool:
        """Whether all connections are BUSY, so that none can be dropped for a new one."""
        return len(self.busy) >= self.limits.connections

    @property
    def busy(self) -> Collection[Connection]:
        return self._all.phases[Phase.BUSY]

    def config(self, app: ASGIApp, **more: Any) -> uvicorn.Config:
        """The configuration of a server that runs `app` within these limits."""
        return uvicorn.Config(
            app,
            http=functools.partial(Connection, self),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            log_config=None,
            backlog=self.limits.backlog,
            # Without this, uvicorn reads an environment variable and trusts this machine.
            forwarded_allow_ips=[str(network) for network in self._proxies],
            timeout_graceful_shutdown=1,
            **more,
        )

    def enter(self, connection: Connection, host: str) -> None:
        """Count a new connection, and drop others for it if there are too many."""
        groups = [self._all]
        if not self._is_proxy(host):
            group = Group(self.limits.connections_of_address, self.limits.grace)
            groups.insert(0, self._by_address.setdefault(address_of(host), group))
        connection.groups = groups
        for group in groups:
            group.make_room(connection.since)
            group.phases[connection.phase][connection] = None
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_again)

    def leave(self, connection: Connection) -> None:
        for group in connection.groups:
            del group.phases[connection.phase][connection]

    def sweep(self) -> None:
        """Enforce the time limits and the limit on memory, and log what was refused."""
        now = self.clock()
        for connection in (connections := list(itertools.chain(*self._all.phases))):
            connection.end_if_overdue(now)
        held = sum(connection.held for connection in connections)
        while held > self.limits.held_bytes:
            largest = max(connections, key=lambda connection: connection.held)
            connections.remove(largest)
            held -= largest.held
            self.refused["memory"] += 1
            largest.drop()
        for address in [address for address, group in self._by_address.items() if not len(group)]:
            del self._by_address[address]
        if self.refused and now - self._logged >= LOG_SECONDS:
            counts = ", ".join(f"{number} {reason}" for reason, number in self.refused.most_common())
            log.warning("connections refused or dropped: %s", counts)
            self.refused.clear()
            self._logged = now

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in proxy for proxy in self._proxies)

    def _sweep_again(self) -> None:
        self._sweeping = None
        self.sweep()
        if self.number:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_again)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits."""

    def __init__(self, connections: Connections, **more: Any) -> None:
        super().__init__(**more)
        self._connections = connections
        self._limits = connections.limits
        self.groups: list[Group] = []
        self.phase = Phase.HEADER
        self.since = connections.clock()  # when this phase began
        self._unsent: tuple[int, float] | None = None  # bytes that wait for a slow reader, and since when
        self._running: RequestResponseCycle | None = None
        self._refusal: tuple[int, str, str] | None = None  # set by a callback of the parser

        # The request that is being read.
        self._in_header = True
        self._has_begun = False
        self._ended_one = False  # whether a request ended in the piece that is being parsed
        self._header_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0  # of a chunked body: sizes, extensions, trailers

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The transport that answers write to. Its `close` first reads what the client still sends.
        self._closing = SimpleNamespace(
            write=transport.write, is_closing=transport.is_closing, close=self._close
        )
        self._connections.enter(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._disconnect(self._running)  # with pipelining, uvicorn disconnects only the last request

    def drop(self) -> None:
        """Close the connection at once."""
        self._leave()
        if self.cycle is not None:
            self.cycle.body = bytearray()  # free it now: the application may hear of this much later
        self.transport.abort()

    def end_if_overdue(self, now: float) -> None:
        """End the connection if it has exceeded the time limit of its phase."""
        limits, waited = self._limits, now - self.since
        if self._is_read_too_slowly(now):
            self._connections.refused["slow readers"] += 1
            self.drop()
        elif self._unsent is not None or self.phase is Phase.BUSY:
            pass
        elif self.phase is Phase.HEADER and waited > limits.header_seconds:
            if self._header_bytes:
                self._refuse(408, "timeout", "The headers took too long.")
            else:
                self.drop()
        elif self.phase is Phase.BODY and waited > limits.body_seconds + self._body_bytes / limits.body_rate:
            self._refuse(408, "timeout", "The body took too long.")
        elif (self.phase is Phase.IDLE and waited > limits.idle_seconds) or (
            self.phase is Phase.ENDING and waited > limits.ending_seconds
        ):
            self.drop()

    def _is_read_too_slowly(self, now: float) -> bool:
        """Whether the client has taken less than `write_bytes` of a finished or paused answer in the time."""
        size = 0
        if self.flow.write_paused or self.phase in (Phase.IDLE, Phase.ENDING):
            size = self.transport.get_write_buffer_size()
        if not size:
            self._unsent = None
        elif self._unsent is None or size <= self._unsent[0] - self._limits.write_bytes:
            self._unsent = size, now
        return self._unsent is not None and now - self._unsent[1] > self._limits.write_seconds

    def _move(self, phase: Phase) -> None:
        if phase is self.phase:
            return
        for group in self.groups:
            del group.phases[self.phase][self]
            group.phases[phase][self] = None
        self.phase = phase
        self.since = self._connections.clock()
        if phase is Phase.BODY:
            for group in self.groups:
                group.limit_bodies()

    def _leave(self) -> None:
        self._connections.leave(self)
        self.groups = []
        self.phase = Phase.ENDING

    def _close(self) -> None:
        """Close the connection as soon as everything is sent."""
        if self._in_header:
            self.transport.close()
            self._move(Phase.ENDING)
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Close our half and go on reading for a moment: an immediate close makes the system send a reset,
        which can overtake the answer."""
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
        self._move(Phase.ENDING)

    @property
    def held(self) -> int:
        """Bytes of memory that this connection occupies."""
        return self.transport.get_write_buffer_size() + self._body_bytes * (self.phase is Phase.BODY)

    def _refuse(self, status: int, type: str, detail: str, **headers: str) -> None:
        self._connections.refused[f"{status} {type}"] += 1
        if self._is_answering:
            if self._in_header or self.pipeline or self.cycle.response_started:
                self.drop()  # a refusal cannot be sent in the middle of another answer
                return
            self._disconnect(self.cycle)
        self.transport.write(_answer(status, type, detail, headers))
        self._read_on()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()

    # Input.

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.ENDING:
            return
        if self.cycle is None and self._connections.is_full:
            detail = "The server has too many connections. Try again in a moment."
            self._refuse(503, "too_many_connections", detail, **{"Retry-After": str(RETRY_AFTER_SECONDS)})
            return
        if self.phase is Phase.IDLE:
            self._move(Phase.HEADER)
        most = self._limits.header_bytes
        while data:
            room = most - self._header_bytes if self._in_header else most
            piece, data = data[:room], data[room:]
            if not self._parse(piece):
                return
            if self._in_header and self._header_bytes >= most:
                self._refuse(431, "headers_too_large", f"The headers have more than {most:,} bytes.")
                return
            if self._framing_bytes > most + self._body_bytes:
                detail = "The chunk headers of the body are larger than the body."
                self._refuse(431, "headers_too_large", detail)
                return
        self._settle()

    def _parse(self, piece: bytes) -> bool:
        """Parse one piece of input. Returns whether the connection goes on."""
        began_in_body = not self._in_header
        body_bytes = self._body_bytes
        self._ended_one = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # not supported, and the rest is not HTTP
            self.cycle.keep_alive = False
            self._settle()
            return False
        except httptools.HttpParserError:
            self._refuse(*(self._refusal or (400, "bad_request", "This is not a valid HTTP request.")))
            return False
        if self._in_header:
            if not self._ended_one or self._has_begun:
                self._header_bytes += len(piece)
        elif began_in_body and not self._ended_one:
            self._framing_bytes += len(piece) - (self._body_bytes - body_bytes)
        return True

    def _settle(self) -> None:
        if self.phase is Phase.ENDING:
            return
        if not self._in_header:
            self._move(Phase.BODY)
        elif self._is_answering:
            self._move(Phase.BUSY)
        else:
            self._move(Phase.HEADER if self._header_bytes or self.cycle is None else Phase.IDLE)

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        self.scope["extensions"] = {DROP: self.drop}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.target_bytes:
            detail = f"The address has more than {self._limits.target_bytes:,} bytes."
            self._stop(414, "address_too_long", detail)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_header:
            return  # a trailer: the headers have already been checked
        super().on_header(name, value)
        if len(self.headers) > self._limits.headers:
            self._stop(431, "too_many_headers", f"The request has more than {self._limits.headers} headers.")

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= self._limits.pipelined:
            self._stop(400, "pipelined", "Too many requests were sent without waiting for an answer.")
        super().on_headers_complete()
        self._in_header = False
        self._body_bytes = self._framing_bytes = 0
        self.cycle.transport = self._closing  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_header = self._ended_one = True
        self._has_begun = False
        self._header_bytes = 0

    def _stop(self, *refusal: Any) -> None:
        """Stop parsing. The parser replaces the exception, so the refusal is kept in `_refusal`."""
        self._refusal = refusal
        raise ValueError(refusal[-1])

    # Answers.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """uvicorn's method without its idle timeout, which `end_if_overdue` replaces."""
        self.server_state.total_requests += 1
        if self.phase is Phase.ENDING:
            return
        if not self._in_header and not self.pipeline:  # answered before its body has arrived
            self._read_on()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        self._settle()


class RequestLimiter:
    """Middleware that limits the concurrent requests and event streams of one address and of one owner.

    At an address's limit of event streams, the oldest stream of the owner who has the most there is dropped
    for the new one. So people who share an address do not lock each other out. A dropped stream resumes.
    """

    def __init__(self, app: ASGIApp, limits: Limits = Limits()) -> None:
        self.app = app
        self._limits = limits
        self._requests: Counter[str] = Counter()  # by address
        self._owners: Counter[str] = Counter()
        self._streams: dict[str, dict[_Stream, None]] = {}  # by address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        address = address_of(scope["client"][0] if scope.get("client") else "")
        if self._requests[address] >= self._limits.requests_of_address:
            await _too_many(503, "Your address has too many open requests.")(scope, receive, send)
            return
        self._requests[address] += 1
        try:
            if EVENT_STREAM.fullmatch(scope["path"]):
                await self._stream(address, scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            _count_down(self._requests, address)

    async def _stream(self, address: str, scope: Scope, receive: Receive, send: Send) -> None:
        owner = owner_of(HTTPConnection(scope))
        if self._owners[owner] >= self._limits.streams_of_owner:
            refusal = _too_many(429, "You are following too many answers at once. Close some pages.")
            await refusal(scope, receive, send)
            return
        here = self._streams.get(address, {})
        if len(here) >= self._limits.streams_of_address:
            owners = Counter(stream.owner for stream in here)
            oldest = max(here, key=lambda stream: owners[stream.owner])  # of equals, `max` takes the first
            self._forget(oldest)
            oldest.drop()
        stream = _Stream(owner, address, scope.get("extensions", {}).get(DROP, lambda: None))
        self._owners[owner] += 1
        self._streams.setdefault(address, {})[stream] = None
        try:
            await self.app(scope, receive, send)
        finally:
            self._forget(stream)

    def _forget(self, stream: _Stream) -> None:
        here = self._streams.get(stream.address, {})
        if stream not in here:  # it was dropped for another one
            return
        del here[stream]
        if not here:
            del self._streams[stream.address]
        _count_down(self._owners, stream.owner)


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    owner: str
    address: str
    drop: Callable[[], None]


def _count_down(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def _too_many(status: int, detail: str) -> Problem:
    return Problem(status, "too_many_requests", detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _answer(status: int, type: str, detail: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a response with a problem document, after which the connection is closed."""
    security = {**security_headers(is_https=False), "Content-Security-Policy": DATA_POLICY}
    headers = {**security, "Cache-Control": "no-store", "Connection": "close", **headers}
    problem = Problem(status, type, detail, headers=headers)
    lines = [name + b": " + value + b"\r\n" for name, value in problem.raw_headers]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", bytes(problem.body)])


@functools.lru_cache(4096)
def address_of(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return host


def _open_files(wanted: int) -> int:
    """The number of files that this process may open, after raising the limit towards `wanted`."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit than they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return soft
