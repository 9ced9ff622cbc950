"""The web application under a real server, in the test's own event loop."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from assistant.knowledge.documentation import DocumentationState
from assistant.web.application import create_app
from assistant.web.connections import Connections, Limits
from storage.database import Database
from tests.support.fake_documentation import FakeDocumentation
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.parts import Parts
from tests.web.api_client import new_chat

KEY = b"k" * 32


@contextlib.asynccontextmanager
async def running(app: ASGIApp, connections: Connections | None = None) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # asyncio does it for sockets that it makes itself; without it each answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = uvicorn.Server((connections or Connections(Limits())).config(app))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(20):
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@pytest.fixture
async def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
async def served(model: ScriptedModel) -> FakeServed:
    return FakeServed(model)


@pytest.fixture
async def documentation() -> FakeDocumentation:
    return FakeDocumentation(state=DocumentationState.OFF)


@pytest.fixture
async def address(
    tmp_path: Path, empty_database: Path, served: FakeServed, documentation: FakeDocumentation
) -> AsyncIterator[str]:
    database = Database(shutil.copy(empty_database, tmp_path / "chats.db"))
    parts = Parts(database, served, documentation, max_replies=2, max_waiting=4)
    async with running(create_app(parts.replies, parts.chats, key=KEY, may_manage=True)) as address:
        yield address
        await parts.close()  # as app.py does: replies end before connections are waited for
    database.close()


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    # verify: to read the certificates takes longer than most tests, and no test needs them.
    async with httpx.AsyncClient(verify=False, base_url=address, timeout=20) as client:
        yield client


@pytest.fixture
async def chat(client: httpx.AsyncClient) -> str:
    """The id of a new conversation."""
    return await new_chat(client)
