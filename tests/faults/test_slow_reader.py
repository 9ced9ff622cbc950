"""Readers that take one byte at a time: nobody else waits, and no memory fills up for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from aiohttp import web
from starlette.types import Receive, Scope, Send

from assistant.conversation import FinishReason, Status
from assistant.events import Delta, End, ReplyEvent
from assistant.web.events import EventStream
from tests.faults.conftest import Count
from tests.support.application import PATIENCE, peak_memory
from tests.support.fake_upstream import DONE, FakeUpstream, piece, usage
from tests.support.listening import Chain, ask, client_of, events, in_front_of, messages_of, under_way

READERS = 50
PIECES = [f"{number:03}" + "x" * 997 for number in range(400)]
ANSWER = "".join(PIECES)
SMALLEST = 1  # bytes of a socket's buffer; the system rounds it up to a few KB
EVENTS = 200  # of 10 KB
MEGABYTE = 1 << 20
STUCK_SECONDS = 1.0  # a write that takes longer is blocked by the reader

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


class SteadyUpstream(FakeUpstream):
    """Sends `PIECES`; or sends without an end, and sets `held_back` when the reader blocks it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_endless = False
        self.held_back = asyncio.Event()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while self.is_endless:
                writing = asyncio.ensure_future(response.write(piece("more ")))
                await asyncio.wait([writing], timeout=STUCK_SECONDS)
                if not writing.done():
                    self.held_back.set()
                await writing
            for one in PIECES:
                await response.write(piece(one))
                await asyncio.sleep(0.002)
            await response.write(piece("", "stop") + usage(7, len(PIECES)) + DONE)
        except (asyncio.CancelledError, ConnectionError):
            self.disconnected.set()
            raise
        return response


class SlowReader:
    """A connection with the smallest buffer, which reads only what the test says."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        self.heard = b""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST)
        self._socket.connect((host, int(port)))

    def send(self, request: str, *headers: str, body: str = "") -> None:
        lines = [f"{request} HTTP/1.1", "Host: localhost", *headers, f"Content-Length: {len(body)}", "", body]
        self._socket.sendall("\r\n".join(lines).encode())
        self._socket.setblocking(False)

    async def read(self, size: int = 1) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._socket, size)
        self.heard += data
        return data

    async def read_to_the_end(self) -> None:
        while b"!\nevent: " not in self.heard or not self.heard.endswith(b"\r\n"):
            assert await self.read(1 << 16)

    def close(self) -> None:
        self._socket.close()

    @property
    def text(self) -> str:
        """The text of all events that have arrived completely."""
        return "".join(json.loads(data).get("text", "") for data in self._events())

    @property
    def deltas(self) -> int:
        return len(self._events()) - 1

    def _events(self) -> list[bytes]:
        body = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", self.heard.partition(b"\r\n\r\n")[2])  # the chunks' lengths
        return re.findall(rb"data: (.*)\n\n", body)


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    async with SteadyUpstream() as upstream, in_front_of(upstream, data=tmp_path / "data") as chain:
        yield chain


async def test_slow_readers_slow_nobody_down_and_cost_no_memory(chain: Chain, count: Count) -> None:
    application = chain.application
    assert application.process is not None
    async with client_of(application) as client, asyncio.timeout(PATIENCE):
        chat = application.new_chat()
        reply = await ask(client, chat, "a first answer, for which everything is loaded")
        assert len([name async for name, _ in events(client, reply)]) > 1
        before = peak_memory(application.process.pid)
        reply = await ask(client, chat, "q")
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        with contextlib.ExitStack() as stack:
            readers = []
            for _ in range(READERS):
                readers.append(reader := SlowReader(application.address))
                stack.callback(reader.close)
                reader.send(f"GET /api/replies/{reply}/events", f"Cookie: {cookie}")
            text, deltas = "", 0
            async for name, data in events(client, reply):
                text += data.get("text", "")
                deltas += name == "delta"
                await asyncio.gather(*(reader.read() for reader in readers))  # a byte for each event
            assert text == ANSWER
            assert (await messages_of(client, chat))[-1]["status"] == "done"
            grown = peak_memory(application.process.pid) - before
            assert all(len(reader.heard) < deltas + 2 for reader in readers)
            late, leaving = readers[:2]
            await late.read_to_the_end()
            assert late.text == ANSWER
            while not leaving.text:
                await leaving.read(1 << 10)
            seen = leaving.text
            leaving.close()
            rest = [data.get("text", "") async for _, data in events(client, reply, after=len(seen))]
            assert seen + "".join(rest) == ANSWER
    count(
        f"readers of one byte a time: {READERS}, the quick one heard {deltas} events meanwhile, a slow one "
        f"then {late.deltas}; memory grown by {grown / MEGABYTE:.0f} MB"
    )
    assert grown < READERS * len(ANSWER.encode()) / 2
    assert "Traceback" not in application.log, application.log


async def test_a_slow_client_of_the_serving_layer_holds_its_upstream_back(chain: Chain, count: Count) -> None:
    chain.upstream.is_endless = True
    before = peak_memory(chain.layer.pid)
    with contextlib.closing(SlowReader(chain.layer.url)) as reader:
        body = json.dumps({"inputs": "Hi", "parameters": {"max_new_tokens": 4000}})
        reader.send("POST /generate_stream", "Content-Type: application/json", body=body)
        async with asyncio.timeout(PATIENCE):
            await chain.upstream.held_back.wait()
        assert not chain.upstream.disconnected.is_set()
        assert await under_way(chain.layer) == 1
        grown = peak_memory(chain.layer.pid) - before
    async with asyncio.timeout(PATIENCE):
        await chain.upstream.disconnected.wait()
        while await under_way(chain.layer):
            await asyncio.sleep(0.02)
    count(f"a client of the serving layer that reads nothing: memory grown by {grown / MEGABYTE:.0f} MB")
    assert grown < 16 * MEGABYTE


async def test_events_are_asked_for_only_as_fast_as_they_are_read() -> None:
    """The send buffer is small, since a whole reply would fit into the usual one."""
    sent: list[int] = []

    async def reply(scope: Scope, receive: Receive, send: Send) -> None:
        async def produce() -> AsyncIterator[ReplyEvent]:
            sent.append(0)
            place = len(sent) - 1
            for number in range(EVENTS):
                sent[place] = number
                yield Delta("x" * 10_000, 10_000 * (number + 1))
            yield End(Status.DONE, FinishReason.EOS_TOKEN, None, 10_000 * EVENTS)

        await EventStream(produce())(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALLEST)
        server = uvicorn.Server(uvicorn.Config(reply, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with asyncio.timeout(PATIENCE):
                with contextlib.closing(SlowReader(address)) as slow:
                    slow.send("GET /")
                    await slow.read()
                    with contextlib.closing(SlowReader(address)) as quick:
                        quick.send("GET /")
                        await quick.read_to_the_end()
                    assert sent[1] == EVENTS - 1
                    assert 0 < sent[0] < EVENTS / 10
        finally:
            server.should_exit = True
            await serving
