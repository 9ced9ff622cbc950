"""What a connection may take of this server: bytes of headers, time, and a place among the others.

uvicorn bounds none of these. A connection is always in one phase, and each phase has its time:

    HEADER ──> BODY ──> BUSY ──> IDLE        ENDING: refused or answered; what still comes is discarded
      └────────────────<──────────┘

Who waits can be dropped, who is being answered cannot. So when an address, or all together, have as many
connections as they may, the one that has waited longest makes room for the new one: silent connections,
however many, lock nobody out. Only where all are being answered is a new one refused, with 503.

Who is being answered is counted by `UnderWay`: requests by the client's address, also where a proxy that the
operator names brings them, and event streams, which last, by address and owner.

Nothing here is done for each piece of an answer.
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
from assistant.web.problems import Problem
from assistant.web.security import DATA_POLICY, security_headers

try:
    import resource
except ImportError:  # there is none for Windows
    resource = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

OTHER_FILES = 512  # the database, what is read, and connections to the serving layer
SWEEP_SECONDS = 1.0
LOG_SECONDS = 60.0
RETRY_AFTER_SECONDS = 5
EVENT_STREAM = re.compile(r"/api/replies/[^/]*/events|/gradio_api/queue/data")
NO_GRACE = (0.0, 0.0, 0.0, 0.0)
DROP = "tech_assistant.drop"  # in a scope's extensions: ends the connection that the request came by


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection, one address, one owner and all together may take."""

    header_bytes: int = 32 << 10  # request line and headers; also what is not content of a chunked body
    headers: int = 100
    target_bytes: int = 8 << 10
    pipelined: int = 16  # requests that wait until the ones before them are answered

    header_seconds: float = 10.0  # from the connection or a request's first byte to the end of its headers
    body_seconds: float = 30.0
    body_rate: int = 64 << 10  # bytes a second; so much longer may a large body take
    idle_seconds: float = 30.0  # between two requests
    write_seconds: float = 30.0  # in which a client takes another `write_bytes` of what waits for it
    write_bytes: int = 64 << 10
    ending_seconds: float = 2.0  # of reading on after a refusal: a reset would take the refusal away

    connections: int = 4096
    backlog: int = 4096  # connections that the system keeps until they are accepted, and that come at once
    connections_of_address: int = 768
    # Seconds of ENDING, HEADER, BODY and IDLE, before which nobody makes room for others of the same address.
    grace: tuple[float, ...] = (0.0, 3.0, 1.0, 5.0)
    requests_of_address: int = 1024  # under way at once; one page asks for a hundred files
    streams_of_address: int = 400
    streams_of_owner: int = 32
    held_bytes: int = 256 << 20  # of half bodies, and of answers that wait for slow readers, altogether

    @classmethod
    def of_this_process(cls) -> Limits:
        """As many connections as there may be files beside ours; that limit is raised where it may be."""
        most = cls()
        wanted = most.connections + most.backlog
        free = _open_files(wanted + OTHER_FILES) - OTHER_FILES
        return most if free >= wanted else cls(connections=max(free * 2 // 3, 16), backlog=max(free // 3, 8))


class Phase(enum.IntEnum):
    """What a connection waits for. In the order in which they make room for new ones; BUSY never does."""

    ENDING = 0
    HEADER = 1
    BODY = 2
    IDLE = 3
    BUSY = 4


class Crowd:
    """Connections that share a bound, by phase; in each phase those come first that are in it longest."""

    def __init__(self, most: int, grace: Sequence[float] = NO_GRACE) -> None:
        self._most = most
        self._grace = grace
        self.phases: tuple[dict[Connection, None], ...] = tuple({} for _ in Phase)

    def __len__(self) -> int:
        return sum(map(len, self.phases))

    def make_room(self, now: float) -> None:
        """Drop who waits until there is room for one more, but for those who have just come."""
        while len(self) >= self._most:
            longest = (next(iter(phase)) for phase in self.phases[: Phase.BUSY] if phase)
            waiting = next((one for one in longest if now - one.since >= self._grace[one.phase]), None)
            if waiting is None:
                break
            waiting.drop()

    def bound_bodies(self) -> None:
        """Drop the longest of too many half bodies: they cost the most memory."""
        bodies = self.phases[Phase.BODY]
        while len(bodies) > max(self._most // 4, 1):
            next(iter(bodies)).drop()


class Connections:
    """All connections of a server; `proxies` are those that bring the requests of many people."""

    def __init__(
        self,
        limits: Limits,
        proxies: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.refused: Counter[str] = Counter()  # since it was logged
        self._proxies = tuple(map(ipaddress.ip_network, proxies))
        self._all = Crowd(limits.connections)
        self._by_address: dict[str, Crowd] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._logged = -LOG_SECONDS

    @property
    def number(self) -> int:
        return len(self._all)

    @property
    def is_full(self) -> bool:
        """Whether so many are being answered that nobody can make room."""
        return len(self.busy) >= self.limits.connections

    @property
    def busy(self) -> Collection[Connection]:
        """Those that are being answered."""
        return self._all.phases[Phase.BUSY]

    def config(self, app: ASGIApp, **more: Any) -> uvicorn.Config:
        """For a server of `app` whose connections these are."""
        return uvicorn.Config(
            app,
            http=functools.partial(Connection, self),  # type: ignore[arg-type]  # it is only called
            ws="none",
            log_config=None,
            backlog=self.limits.backlog,
            # Else uvicorn asks an environment variable, and believes this machine.
            forwarded_allow_ips=[str(network) for network in self._proxies],
            timeout_graceful_shutdown=1,
            **more,
        )

    def enter(self, connection: Connection, host: str) -> None:
        """Count a new connection, for which others may have to make room."""
        crowds = [self._all]
        if not self._is_proxy(host):
            crowd = Crowd(self.limits.connections_of_address, self.limits.grace)
            crowds.insert(0, self._by_address.setdefault(address_of(host), crowd))
        connection.crowds = crowds
        for crowd in crowds:
            crowd.make_room(connection.since)
            crowd.phases[connection.phase][connection] = None
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_again)

    def leave(self, connection: Connection) -> None:
        for crowd in connection.crowds:
            del crowd.phases[connection.phase][connection]

    def sweep(self) -> None:
        """Let every connection see what time it is."""
        now = self.clock()
        for connection in (connections := list(itertools.chain(*self._all.phases))):
            connection.look(now)
        held = sum(connection.held for connection in connections)
        while held > self.limits.held_bytes:
            largest = max(connections, key=lambda connection: connection.held)
            connections.remove(largest)
            held -= largest.held
            self.refused["memory"] += 1
            largest.drop()
        for address in [address for address, crowd in self._by_address.items() if not len(crowd)]:
            del self._by_address[address]
        if self.refused and now - self._logged >= LOG_SECONDS:
            told = ", ".join(f"{number} {what}" for what, number in self.refused.most_common())
            log.warning("connections refused or dropped: %s", told)
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
    """uvicorn's connection, with bounds."""

    def __init__(self, connections: Connections, **more: Any) -> None:
        super().__init__(**more)
        self._connections = connections
        self._limits = connections.limits
        self.crowds: list[Crowd] = []
        self.phase = Phase.HEADER
        self.since = connections.clock()  # when this phase began
        self._unsent: tuple[int, float] | None = None  # bytes that wait for a slow reader, seen when
        self._running: RequestResponseCycle | None = None
        self._refusal: tuple[int, str, str] | None = None  # what a callback of the parser has to say

        # Of the request that is being read.
        self._in_header = True
        self._has_begun = False
        self._ended_one = False  # the piece that is being parsed has the end of a request
        self._header_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0  # of a body: sizes of chunks, extensions, trailers

    # The connection's own life.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # As answers see it: what they close may still have something to read.
        self._closing = SimpleNamespace(
            write=transport.write, is_closing=transport.is_closing, close=self._close
        )
        self._connections.enter(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            self._disconnect(self._running)  # uvicorn tells the last request alone, not the one it waits for

    def drop(self) -> None:
        """End it at once."""
        self._leave()
        if self.cycle is not None:
            self.cycle.body = bytearray()  # many may be dropped before their applications hear of it
        self.transport.abort()

    def look(self, now: float) -> None:
        """End what takes too long."""
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
        """Whether the client hardly takes what waits for it, while nothing is added to that."""
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
        for crowd in self.crowds:
            del crowd.phases[self.phase][self]
            crowd.phases[phase][self] = None
        self.phase = phase
        self.since = self._connections.clock()
        if phase is Phase.BODY:
            for crowd in self.crowds:
                crowd.bound_bodies()

    def _leave(self) -> None:
        self._connections.leave(self)
        self.crowds = []
        self.phase = Phase.ENDING

    def _close(self) -> None:
        """Close it when what was written is sent."""
        if self._in_header:
            self.transport.close()
            self._move(Phase.ENDING)
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Close our half, and read what still comes for a moment: closed at once, the system would send a
        reset, which can overtake the answer."""
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
        self._move(Phase.ENDING)

    @property
    def held(self) -> int:
        """Bytes of memory that the client has us keep."""
        return self.transport.get_write_buffer_size() + self._body_bytes * (self.phase is Phase.BODY)

    def _refuse(self, status: int, type: str, detail: str, **headers: str) -> None:
        self._connections.refused[f"{status} {type}"] += 1
        if self._is_answering:
            if self._in_header or self.pipeline or self.cycle.response_started:
                self.drop()  # in the middle of another answer
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

    # What comes.

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.ENDING:
            return
        if self.cycle is None and self._connections.is_full:
            detail = "There are too many connections. Try again in a moment."
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
                detail = "The chunks of the body say more about it than it contains."
                self._refuse(431, "headers_too_large", detail)
                return
        self._settle()

    def _parse(self, piece: bytes) -> bool:
        """Whether the connection can go on."""
        began_in_body = not self._in_header
        body_bytes = self._body_bytes
        self._ended_one = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # to what nobody speaks here, and the rest is not HTTP
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

    # What the parser finds.

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
            return  # a trailer, after everybody has looked at the headers
        super().on_header(name, value)
        if len(self.headers) > self._limits.headers:
            self._stop(431, "too_many_headers", f"There are more than {self._limits.headers} headers.")

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= self._limits.pipelined:
            self._stop(400, "pipelined", "Too many requests have come before their answers.")
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
        """End the parsing: the parser makes an error of its own of whatever is raised here."""
        self._refusal = refusal
        raise ValueError(refusal[-1])

    # What is answered.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """As uvicorn's own, but for the time of an idle connection, which `look` has."""
        self.server_state.total_requests += 1
        if self.phase is Phase.ENDING:
            return
        if not self._in_header and not self.pipeline:  # answered before it has come as a whole
            self._read_on()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        self._settle()


class UnderWay:
    """`app` with bounds on what one address and one owner have under way at once.

    Where an address has as many event streams as it may, the longest of whoever has most of them there makes
    room: people who share an address do not keep each other out, and a stream that ends is resumed.
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
            refusal = _too_many(503, "Too many requests from your address are under way.")
            await refusal(scope, receive, send)
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
            await _too_many(429, "Too many streams of yours are open. Close some pages.")(
                scope, receive, send
            )
            return
        here = self._streams.get(address, {})
        if len(here) >= self._limits.streams_of_address:
            owners = Counter(stream.owner for stream in here)
            longest = max(here, key=lambda stream: owners[stream.owner])  # the first of the largest
            self._forget(longest)
            longest.drop()
        stream = _Stream(owner, address, scope.get("extensions", {}).get(DROP, lambda: None))
        self._owners[owner] += 1
        self._streams.setdefault(address, {})[stream] = None
        try:
            await self.app(scope, receive, send)
        finally:
            self._forget(stream)

    def _forget(self, stream: _Stream) -> None:
        here = self._streams.get(stream.address, {})
        if stream not in here:  # it has made room
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
    """A whole response: a problem document, after which the connection is closed."""
    security = {**security_headers(is_https=False), "Content-Security-Policy": DATA_POLICY}
    problem = Problem(
        status,
        type,
        detail,
        headers={**security, "Cache-Control": "no-store", "Connection": "close", **headers},
    )
    lines = [name + b": " + value + b"\r\n" for name, value in problem.raw_headers]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", bytes(problem.body)])


@functools.lru_cache(4096)
def address_of(host: str) -> str:
    """What counts as one client: an address, or of IPv6 the network that one customer has."""
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
    """How many files this process may have open, of those that are wanted."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # some systems have a limit of their own besides
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return soft
