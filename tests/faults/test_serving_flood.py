"""More requests than the serving layer accepts, and clients that leave: nothing is lost or left over."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.faults.conftest import Count
from tests.serving.conftest import PATIENCE, Served, eventually, serve
from tests.support.application import peak_memory
from tests.support.fake_upstream import FakeUpstream, piece, text

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")

QUEUE, REQUESTS = 64, 1000
MEGABYTE = 1 << 20


async def is_idle(served: Served) -> bool:
    return b"\ntgi_batch_current_size 0\n" in (await served.get("/metrics"))[1]


async def test_what_the_queue_has_no_room_for_is_refused_and_all_else_is_answered(count: Count) -> None:
    answered, refused = Counter[str](), Counter[str]()
    limits = aiohttp.TCPConnector(limit=0)
    async with (
        FakeUpstream() as upstream,
        serve("--upstream", upstream.url, "--max-concurrent-requests", str(QUEUE)) as served,
        aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(total=None)) as http,
    ):
        await served.becomes("ready")
        assert (await served.get("/info"))[1]["max_concurrent_requests"] == QUEUE
        full = asyncio.Event()
        upstream.answer(piece("All"), full, *text(" is", " well."))

        async def ask(number: int) -> None:
            path = ("/generate", "/generate_stream", "/v1/completions")[number % 3]
            body = {"prompt": "Hi", "model": "m"} if path.startswith("/v1") else {"inputs": "Hi"}
            async with http.post(served.url + path, json=body) as answer:
                if answer.status == 429:
                    assert int(answer.headers["Retry-After"]) > 0
                    await answer.read()
                    refused[path] += 1
                    if sum(refused.values()) == REQUESTS - QUEUE:
                        full.set()
                    return
                assert answer.status == 200
                whole = (await answer.read()).decode()
                assert "All is well." in (whole if "generate_stream" not in path else last(whole))
                answered[path] += 1

        before = peak_memory(served.process.pid)
        await asyncio.gather(*map(ask, range(REQUESTS)))
        grown = peak_memory(served.process.pid) - before

        assert sum(answered.values()) == QUEUE
        assert sum(refused.values()) == REQUESTS - QUEUE
        assert len(upstream.requests) == QUEUE
        assert await is_idle(served)
        full.set()
        assert (await served.post("/generate", {"inputs": "Hi"}))[0] == 200
        assert grown < 200 * MEGABYTE
    count(
        f"flood of the serving layer: requests {REQUESTS}, answered {QUEUE}, refused {REQUESTS - QUEUE}, "
        f"memory grown by {grown // MEGABYTE} MB"
    )


def last(stream: str) -> str:
    return str(json.loads(stream.strip().split("\n\n")[-1].removeprefix("data: "))["generated_text"])


async def test_clients_that_leave_in_any_way_leave_no_generation_behind(count: Count) -> None:
    async with FakeUpstream() as upstream, serve("--upstream", upstream.url) as served:
        await served.becomes("ready")
        never = asyncio.Event()
        upstream.answer(piece("a"), never)
        host, port = served.url.removeprefix("http://").split(":")
        body = json.dumps({"inputs": "Hi", "stream": True}).encode()
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        gone = 0
        for sent in (head[:20], head, head + body[:5], head + body):
            for reset in (False, True):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(sent)
                await writer.drain()
                if sent == head + body:
                    assert await reader.read(1)
                if reset:  # no time to linger: closing resets the connection
                    linger = socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                    writer.get_extra_info("socket").setsockopt(*linger)
                writer.transport.abort() if reset else writer.close()
                gone += 1

        await eventually(lambda: is_idle(served))
        upstream.answer(*text("b"))
        never.set()
        assert (await served.post("/generate", {"inputs": "Hi"}))[1]["generated_text"] == "b"
    count(f"clients of the serving layer that left: {gone}, generations left over 0")


async def stream_under_way(served: Served, upstream: FakeUpstream) -> tuple[asyncio.Event, asyncio.Task[str]]:
    """An answer that waits for the returned event, and a task that reads its stream."""
    rest = asyncio.Event()
    upstream.answer(piece("All"), rest, *text(" is", " well."))

    async def read() -> str:
        async with served.http.post(f"{served.url}/generate_stream", json={"inputs": "Hi"}) as answer:
            return (await answer.read()).decode()

    reading = asyncio.create_task(read())
    async with asyncio.timeout(PATIENCE):
        await upstream.streaming.wait()
    return rest, reading


async def is_closing(served: Served) -> bool:
    return (await served.get("/health"))[0] == 503


async def test_it_ends_after_the_answers_that_are_under_way() -> None:
    async with FakeUpstream() as upstream, serve("--upstream", upstream.url) as served:
        await served.becomes("ready")
        rest, reading = await stream_under_way(served, upstream)
        served.process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_closing(served))
        status, refusal = await served.post("/generate", {"inputs": "Hi"})
        assert (status, refusal["error_type"]) == (503, "unhealthy")
        rest.set()
        assert last(await reading) == "All is well."
        async with asyncio.timeout(PATIENCE):
            assert await served.process.wait() in (0, -signal.SIGTERM)


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]])
async def test_a_second_signal_or_an_interrupt_ends_it_at_once(signals: list[signal.Signals]) -> None:
    async with FakeUpstream() as upstream, serve("--upstream", upstream.url) as served:
        await served.becomes("ready")
        rest, reading = await stream_under_way(served, upstream)
        for number, one in enumerate(signals):
            if number:  # two signals at once would count as one
                await eventually(lambda: is_closing(served))
            served.process.send_signal(one)
        async with asyncio.timeout(PATIENCE):
            stream = await reading
            await served.process.wait()
        assert "The server is shutting down." in stream
        rest.set()
