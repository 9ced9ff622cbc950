"""The limits on connections, with real sockets, small limits and a clock that the test sets."""

import asyncio
import contextlib
import json
import re
import resource
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from assistant.web.connections import NO_GRACE, Connections, Limits, RequestLimiter, address_of
from assistant.web.identity import Identity
from assistant.web.security import Guard
from tests.web.conftest import running

PATIENCE = 20.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
STREAM = "/api/replies/r/events"
GET_STREAM = f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
SMALL = Limits(header_bytes=4096, headers=20, target_bytes=1024, pipelined=3)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *data: bytes) -> None:
        for piece in data:
            self.writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(re.split(": ", line, maxsplit=1) for line in head[1:-2])
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, body)

    async def get(self) -> Answer:
        await self.send(REQUEST + b"\r\n")
        return await self.answer()

    async def rest(self) -> bytes:
        """The data until the end, or nothing if the connection is reset."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read()
        return b""


@dataclass
class Stage:
    """A running server: `/` answers at once; `STREAM` sends a line, and one more after each `more.set()`."""

    address: str
    connections: Connections
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    now: float = 0.0
    clients: list[Client] = field(default_factory=list)

    async def connect(self, source: str = "127.0.0.1") -> Client:
        host, port = self.address.removeprefix("http://").split(":")
        client = Client(*await asyncio.open_connection(host, int(port), local_addr=(source, 0)))
        self.clients.append(client)
        return client

    async def until(self, number: int) -> None:
        """Wait until there are exactly `number` connections."""
        await eventually(lambda: self.connections.number == number)

    async def pass_time(self, seconds: float) -> None:
        """Move the clock after everything that was sent has arrived."""
        await self.settled()
        self.now += seconds
        self.connections.sweep()

    async def settled(self) -> None:
        async with httpx.AsyncClient() as client:  # arrives after all that was sent before
            await client.get(self.address)


@contextlib.asynccontextmanager
async def serving(limits: Limits = SMALL, proxies: tuple[str, ...] = ()) -> AsyncIterator[Stage]:
    async def quick(request: Request) -> Response:
        stage.seen.append((request.url.path, await request.body()))
        return PlainTextResponse(request.client.host if request.client else "")

    async def stream(request: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            yield b"begun\n"
            while True:
                await stage.more.wait()
                await asyncio.sleep(0)  # lets the server notice a client that left
                yield b"x" * 65536

        return StreamingResponse(lines())

    app = Starlette(routes=[Route(STREAM, stream), Route("/{path:path}", quick, methods=["GET", "POST"])])
    guarded = Guard(Identity(RequestLimiter(app, limits), key=b"k" * 32, marks={}), names=())
    connections = Connections(limits, proxies, clock=lambda: stage.now)
    async with running(guarded, connections) as address:
        stage = Stage(address, connections)
        yield stage
        for client in stage.clients:
            client.writer.transport.abort()
        await stage.until(0)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with serving() as stage:
        yield stage


def is_secure(answer: Answer) -> bool:
    problem, headers = json.loads(answer.body), answer.headers
    expected = {"content-type": "application/problem+json", "connection": "close"}
    return (
        {**expected, "x-content-type-options": "nosniff"}.items() <= headers.items()
        and "default-src 'none'" in headers["content-security-policy"]
        and (problem["status"], problem["detail"][-1]) == (answer.status, ".")
    )


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = b"x" * 100_000


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([REQUEST + b"Cookie: " + b"c" * 3900 + b"\r\n\r\n"], 200),
        ([REQUEST + b"Cookie: " + b"c" * 4100 + b"\r\n\r\n"], 431),
        ([REQUEST + b"Cookie: ", LARGE], 431),  # has no end
        ([REQUEST + b"X-A: 1\r\n" * 19 + b"\r\n"], 200),
        ([REQUEST + b"X-A: 1\r\n" * 20 + b"\r\n"], 431),
        ([REQUEST, b"X" * 5000], 431),  # a name
        ([b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], 200),
        ([b"GET /" + b"a" * 1024 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], 414),
        ([b"GET /?", LARGE], 414),
        ([b"\r\n" * 5000], 431),
        ([b"G" * 5000], 400),
        ([CHUNKED + b"1\r\na\r\n0\r\n\r\n"], 200),
        ([CHUNKED + b"1;" + b"e" * 5000, LARGE], 431),
        ([CHUNKED, (b"1;e=" + b"e" * 1000 + b"\r\na\r\n") * 16], 431),
        ([CHUNKED + b"1\r\na\r\n0\r\n", b"X-Trailer: 1\r\n" * 1000], 431),
        ([b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + LARGE], 413),
        ([b"nonsense\r\n\r\n"], 400),
        ([b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n"], 400),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400),
        ([REQUEST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"], 400),
        ([REQUEST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"], 200),
        ([REQUEST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"], 200),
        ([b"GET http://localhost/a HTTP/1.1\r\nHost: localhost\r\n\r\n"], 200),
        ([b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"], 200),
    ],
)
@pytest.mark.parametrize("is_split", [False, True])
async def test_invalid_and_too_large_requests_get_a_problem_document(
    stage: Stage, sent: list[bytes], status: int, is_split: bool
) -> None:
    client = await stage.connect()
    if is_split:
        sent = [piece[at : at + 97] for piece in sent for at in range(0, min(len(piece), 9700), 97)]
    await client.send(*sent)
    answer = await client.answer()
    assert answer.status == status
    if status != 200:
        assert status == 413 or is_secure(answer)
        assert await client.rest() == b""


async def test_a_refusal_arrives_while_the_client_still_sends(stage: Stage) -> None:
    """An immediate close would reset the connection and lose the answer."""
    for head in (REQUEST + b"Cookie: ", CHUNKED + b"7a1200\r\n"):
        client = await stage.connect()
        await client.send(head, *[b"c" * 65536] * 128)
        assert (await client.answer()).status in (413, 431)
        assert await client.rest() == b""


async def test_every_request_of_a_connection_is_limited(stage: Stage) -> None:
    client = await stage.connect()
    for _ in range(3):
        await client.send(REQUEST + b"A: " + b"a" * 3000 + b"\r\n\r\n")
        assert (await client.answer()).status == 200
    await client.send(REQUEST + b"A: " + b"a" * 5000)
    assert (await client.answer()).status == 431


async def test_a_trailer_is_no_header(stage: Stage) -> None:
    client = await stage.connect()
    await client.send(CHUNKED + b"1\r\na\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nHost: evil\r\n\r\n")
    assert (await client.answer()).body == b"127.0.0.1"


async def test_pipelined_requests_are_limited(stage: Stage) -> None:
    client = await stage.connect()
    await client.send((REQUEST + b"\r\n") * 4)
    assert [(await client.answer()).status for _ in range(4)] == [200] * 4
    await client.send((REQUEST + b"\r\n") * 1000)
    assert (await client.rest()).count(b"HTTP/1.1 200") <= 4
    await stage.until(0)


async def test_each_phase_has_a_time_limit(stage: Stage) -> None:
    """Each connection has reached the phase of its name. Only the busy one stays."""
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"
    silent, header, half, idle, busy = [await stage.connect() for _ in range(5)]
    await header.send(REQUEST)
    await half.send(body)
    await idle.get()
    await busy.send(GET_STREAM)
    assert b"begun" in await busy.reader.readuntil(b"begun\n")
    await stage.pass_time(9)
    await header.send(b"A: b\r\n")  # further bytes do not extend the time
    assert stage.connections.number >= 5
    await stage.pass_time(2)
    assert await silent.rest() == b""
    answer = await header.answer()
    assert (answer.status, is_secure(answer)) == (408, True)
    await stage.pass_time(20)
    answer = await half.answer()
    assert (answer.status, is_secure(answer)) == (408, True)
    assert await idle.rest() == b""
    await stage.pass_time(1000)
    await stage.until(1)
    stage.more.set()
    assert await busy.reader.readexactly(1000)


async def test_a_large_body_has_more_time_while_it_arrives() -> None:
    async with serving(Limits(body_seconds=10, body_rate=1000)) as stage:
        client = await stage.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n")
        for _ in range(4):
            await client.send(b"x" * 10_000)
            await stage.pass_time(10)
        await client.send(b"x" * 10_000)
        assert (await client.answer()).status == 200
        assert len(stage.seen[-1][1]) == 50_000


async def test_a_client_that_does_not_read_is_dropped(stage: Stage) -> None:
    client = await stage.connect()
    stage.more.set()
    await client.send(GET_STREAM)
    await eventually(lambda: any(one.flow.write_paused for one in stage.connections.busy))
    await stage.pass_time(1)
    await stage.pass_time(20)
    assert len(stage.connections.busy) == 1
    await stage.pass_time(20)
    assert len(stage.connections.busy) == 0


async def test_silent_connections_make_room_for_new_ones() -> None:
    """One address opens more connections than its limit."""
    async with serving(Limits(connections_of_address=8, grace=NO_GRACE)) as stage:
        kept = await stage.connect()
        await kept.get()
        silent = [await stage.connect() for _ in range(30)]
        for number in range(10):
            one = await stage.connect()
            assert (await one.get()).status == 200, number
        assert await asyncio.gather(*(client.rest() for client in silent)) == [b""] * 30
        assert stage.connections.number <= 8


async def test_a_new_connection_has_time_to_ask() -> None:
    """Many connections may arrive before the server reads anything from them."""
    async with serving(Limits(connections_of_address=8)) as stage:
        clients = [await stage.connect() for _ in range(30)]
        await stage.settled()
        assert (await clients[0].get()).status == 200
        stage.now += 4
        await stage.settled()
        assert stage.connections.number <= 8


async def test_if_all_connections_are_busy_a_new_one_is_refused() -> None:
    async with serving(Limits(connections=4)) as stage:
        for _ in range(4):
            one = await stage.connect()
            await one.send(GET_STREAM)
            await one.reader.readuntil(b"begun\n")
        refused = [await stage.connect() for _ in range(3)]
        answer = await refused[-1].get()
        assert (answer.status, is_secure(answer), answer.headers["retry-after"]) == (503, True, "5")
        assert stage.connections.number <= 5
        other = await stage.connect("127.0.0.2")
        assert (await other.get()).status == 503


async def test_unfinished_bodies_and_unread_answers_share_a_limit() -> None:
    async with serving(Limits(held_bytes=100_000)) as stage:
        small, large = await stage.connect(), await stage.connect()
        for client, size in ((small, 40_000), (large, 90_000)):
            head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size + 1}\r\n\r\n"
            await client.send(head.encode() + b"x" * size)
        async with asyncio.timeout(PATIENCE):
            while not large.reader.at_eof():
                await stage.pass_time(0)
        await small.send(b"x")
        assert (await small.answer()).status == 200


async def test_only_a_trusted_proxy_names_the_client() -> None:
    forwarded = "9.9.9.9, 203.0.113.7, 127.0.0.2"
    for proxies, client in (((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.7")):
        async with serving(Limits(connections_of_address=2, grace=NO_GRACE), proxies) as stage:
            async with httpx.AsyncClient(base_url=stage.address) as browser:
                answer = await browser.get(
                    "/", headers={"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}
                )
            assert answer.text == client
            assert ("; Secure" in answer.headers["set-cookie"]) == bool(proxies)
            for _ in range(5):
                await stage.connect()
            await stage.settled()
            assert stage.connections.number >= (5 if proxies else 1)
            assert stage.connections.number <= (6 if proxies else 2)


async def test_streams_of_an_owner_and_requests_of_an_address_are_limited() -> None:
    async with (
        serving(Limits(streams_of_owner=2, requests_of_address=3)) as stage,
        httpx.AsyncClient(base_url=stage.address) as browser,
        httpx.AsyncClient(base_url=stage.address) as other,
    ):
        await browser.get("/")
        async with browser.stream("GET", STREAM), browser.stream("GET", STREAM):
            answer = await browser.get(STREAM)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
            assert answer.json()["type"] == "too_many_requests"
            assert (await browser.get("/")).status_code == 200
            async with other.stream("GET", STREAM) as more:
                assert more.status_code == 200
                answer = await browser.get("/")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        async with asyncio.timeout(PATIENCE):
            while (await browser.get("/")).status_code != 200:
                await asyncio.sleep(0.01)
        async with browser.stream("GET", STREAM) as again:
            assert again.status_code == 200


async def test_the_oldest_stream_of_the_owner_with_the_most_is_dropped() -> None:
    """Behind one proxy, one owner has two streams and two others have one each. Then one more arrives."""
    client = {"X-Forwarded-For": "203.0.113.7"}
    limits = Limits(streams_of_address=4)
    async with serving(limits, ("127.0.0.1",)) as stage, contextlib.AsyncExitStack() as stack:
        owners = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=stage.address)) for _ in range(4)
        ]
        for owner in owners:
            await owner.get("/", headers=client)
        streams = []
        for owner in (owners[0], owners[1], owners[1], owners[2], owners[3]):
            context = owner.stream("GET", STREAM, headers=client)
            streams.append((await stack.enter_async_context(context)).aiter_raw())
            assert await anext(streams[-1]) == b"begun\n"
        stage.more.set()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(streams.pop(1))
        for stream in streams:
            assert await anext(stream)
        elsewhere = {"X-Forwarded-For": "203.0.113.8"}
        assert (await owners[0].get("/", headers=elsewhere)).status_code == 200


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_stands_for_one_client(host: str, address: str) -> None:
    assert address_of(host) == address


@pytest.mark.parametrize(("files", "connections"), [(20_000, 4096), (1024, 341), (100, 16)])
def test_the_limit_of_open_files_sets_the_number_of_connections(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, files))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    limits = Limits.of_this_process()
    assert limits.connections == connections
    assert set_to == [(min(files, 8704), files)]
    assert connections == 16 or limits.connections + limits.backlog <= files - 512
