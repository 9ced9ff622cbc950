"""The page of the web application while it loads, when it is ready, and when it cannot be loaded."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from assistant.web.application import create_app
from storage.database import Database
from tests.support.fake_documentation import FakeDocumentation
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.parts import Parts
from tests.web.conftest import KEY, running


async def status_when(address: str, status: int, path: str = "/") -> httpx.Response:
    """The first answer with that status."""
    async with httpx.AsyncClient(base_url=address) as client, asyncio.timeout(20):
        while (response := await client.get(path)).status_code != status:
            await asyncio.sleep(0.01)
    return response


def page() -> FastAPI:
    app = FastAPI()

    @app.get("/config")
    async def config() -> dict[str, object]:
        return {"dependencies": [{"id": 0}]}

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def anything(path: str) -> Response:
        return PlainTextResponse(f"page of {path}")

    return app


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    database = Database(tmp_path / "chats.db")
    served = FakeServed(ScriptedModel())
    yield Parts(database, served, FakeDocumentation(), max_replies=2, max_waiting=4)
    database.close()


async def test_the_api_answers_while_the_page_is_loaded(parts: Parts) -> None:
    loaded = threading.Event()

    def load() -> FastAPI:
        loaded.wait(20)
        return page()

    async with running(create_app(parts.replies, parts.chats, key=KEY, load_page=load)) as address:
        async with httpx.AsyncClient(base_url=address) as client:
            early = await client.get("/")
            assert (early.status_code, early.headers["cache-control"]) == (503, "no-store, private")
            assert "is starting" in early.text
            assert (await client.get("/ready")).json()["page"] is False
        loaded.set()
        assert (await status_when(address, 200)).text == "page of "
        assert (await status_when(address, 200, "/ready")).json()["page"] is True
        await parts.close()


async def test_the_api_works_without_the_page(parts: Parts) -> None:
    def load() -> FastAPI:
        raise ImportError("no such page")

    async with running(create_app(parts.replies, parts.chats, key=KEY, load_page=load)) as address:
        async with asyncio.timeout(20):
            while "could not be loaded" not in (text := (await status_when(address, 503)).text):
                await asyncio.sleep(0.01)
        assert "no such page" not in text
        assert (await status_when(address, 200, "/ready")).json()["page"] is False
        await parts.close()
