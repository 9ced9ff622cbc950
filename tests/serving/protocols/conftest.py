"""Clients of the serving layer with a fake engine, in the same process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serving.engine import Engine
from serving.protocols import runner
from serving.protocols.application import ServingApp, create_app
from tests.support.fake_engine import FakeEngine, Step

PATIENCE = 20  # seconds for steps that should take none
COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {COMPLETIONS: {"prompt": "Hi"}, CHATS: {"messages": HI}}


def client(served: ServingApp | Engine, **options: Any) -> httpx.AsyncClient:
    """A client of this application, or of one with this engine and these options."""
    app = served if isinstance(served, ServingApp) else create_app(served, **options)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://serving")


async def ask(
    path: str,
    *steps: Step,
    engine: ServingApp | Engine | None = None,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    content: bytes | None = None,
    **body: Any,
) -> httpx.Response:
    """The answer to a short request. `body` adds fields to it, and `content` replaces it."""
    if content is None:
        content = json.dumps(BODIES.get(path, {"inputs": "Hi"}) | body).encode()
    async with client(engine or FakeEngine(*steps)) as http:
        return await http.request(method, path, content=content, headers=headers)


def events(text: str) -> list[dict[str, Any]]:
    blocks = [block for block in text.split("\n\n") if block and block != ":"]
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


class Connection:
    """A client at the ASGI level. It disconnects when `leave` is set. `send` replaces how it reads."""

    def __init__(self, app: ServingApp, path: str, send: Any = None, **body: Any) -> None:
        self.sent = asyncio.Queue[Any]()
        self.leave = asyncio.Event()
        self._body = json.dumps(BODIES.get(path, {"inputs": "Hi"}) | body).encode()
        self._scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
            "server": ("serving", 80), "client": ("test", 1),
        }  # fmt: skip
        self._read = False
        self.task = asyncio.create_task(app(self._scope, self._receive, send or self.sent.put))

    async def _receive(self) -> dict[str, Any]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def sends(self, beginning: bytes) -> bytes:
        """The next part of the body that begins so."""
        async with asyncio.timeout(PATIENCE):
            while not (body := (await self.sent.get()).get("body", b"")).startswith(beginning):
                pass
        return body

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.task


@pytest.fixture
async def held() -> AsyncIterator[asyncio.Event]:
    event = asyncio.Event()
    yield event
    event.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent streams get comments at once."""
    monkeypatch.setattr(runner, "KEEP_ALIVE_SECONDS", 0.01)
