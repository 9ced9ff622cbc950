"""Fixtures for the tests of the serving layer: model files, and `python -m serving` as a real process."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from serving.engine import Engine
from tests.support.tiny_gguf import write_tiny_gguf

E = TypeVar("E", bound=Engine)

PATIENCE = 60  # seconds for steps that take one or two on an idle machine
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes several seconds to read 6,000 tokens on one thread."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "slow.gguf", context=8192, blocks=4, width=384)


@contextlib.asynccontextmanager
async def looked_at(engine: E) -> AsyncIterator[E]:
    """The started engine, once it has checked its upstream."""
    await engine.start()
    try:
        await eventually(lambda: "Looking" not in (engine.info.state_detail or ""))
        yield engine
    finally:
        await engine.close()


@dataclass
class Served:
    """A running `python -m serving`."""

    url: str
    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(self.url + path) as answer:
            body = await answer.read()
            return answer.status, await answer.json() if answer.content_type.endswith("json") else body

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        async with self.http.post(self.url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def streamed(self, path: str, body: Any) -> bytes:
        """The whole event stream that answers a request."""
        async with self.http.post(self.url + path, json=body) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream"), await answer.text()
            return await answer.read()

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()

    async def becomes(self, state: str) -> dict[str, Any]:
        """The body of /info, once it reports this state."""

        async def look() -> dict[str, Any] | None:
            _, info = await self.get("/info")
            return info if info["state"] == state else None

        return await eventually(look)


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The events of a whole stream, without its comments."""
    *events, rest = raw.split(b"\n\n")
    assert rest == b""
    events = [event for event in events if event != b":"]
    assert all(event.startswith(b"data: ") and not {*b"\r\n"} & {*event} for event in events)
    return [json.loads(event[6:]) for event in events]


async def eventually(look: Callable[[], Any]) -> Any:
    """The result of `look`, which may be awaitable, as soon as it is true."""
    async with asyncio.timeout(PATIENCE):
        while True:
            seen = look()
            if seen := await seen if inspect.isawaitable(seen) else seen:
                return seen
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def serve(*arguments: str, state: str | None = None, **environment: str) -> AsyncIterator[Served]:
    """Starts the process. With `state`, waits until its engine reports this one."""
    cache = tempfile.TemporaryDirectory()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "serving", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": cache.name, **environment},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("serving on http://127.0.0.1:"), line
        async with aiohttp.ClientSession() as http:
            served = Served(line.removeprefix("serving on ").strip(), process, http)
            if state is not None:
                await served.becomes(state)
            yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        cache.cleanup()
