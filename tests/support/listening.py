"""An asynchronous client of a running application, so that one test can have several listeners."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.application import PATIENCE, Application, Serving, serving
from tests.support.fake_upstream import FakeUpstream


def client_of(application: Application) -> httpx.AsyncClient:
    """A client that shares the cookie of the application's own client."""
    application.client.get("/api/engine").raise_for_status()  # sets the cookie if there is none yet
    return httpx.AsyncClient(
        verify=False, base_url=application.address, cookies=application.client.cookies, timeout=PATIENCE
    )


@dataclass(frozen=True)
class Chain:
    """An upstream of a test, a serving layer in front of it, and an application in front of that."""

    upstream: Any
    layer: Serving
    application: Application
    layer_log: Path

    @property
    def log(self) -> str:
        return self.layer_log.read_text() + self.application.log


@contextlib.asynccontextmanager
async def in_front_of(
    *upstreams: FakeUpstream, data: Path, layer_options: Sequence[str] = (), options: Sequence[str] = ()
) -> AsyncIterator[Chain]:
    """A serving layer for the upstreams, and an application that uses it, each in its own process."""
    addresses = [option for upstream in upstreams for option in ("--upstream", upstream.url)]
    log = data.with_name("serving.log")
    starting = serving(*addresses, *layer_options, log=log)
    layer = await asyncio.to_thread(starting.__enter__)
    application = Application(data, "--serving-url", layer.url, *options, page=False)
    try:
        await asyncio.to_thread(application.start)
        await asyncio.to_thread(application.wait_until, "ready")
        yield Chain(upstreams[0], layer, application, log)
    finally:
        application.close()
        starting.__exit__(None, None, None)


async def ask(client: httpx.AsyncClient, chat: str, text: str, client_id: str | None = None) -> str:
    """Ask; returns the reply's id."""
    body = {"text": text, "client_id": client_id}
    response = await client.post(f"/api/conversations/{chat}/messages", json=body)
    return str(response.raise_for_status().json()["reply_id"])


async def new_chat(client: httpx.AsyncClient) -> str:
    return str((await client.post("/api/conversations")).raise_for_status().json()["id"])


async def messages_of(client: httpx.AsyncClient, chat: str) -> list[dict[str, Any]]:
    response = await client.get(f"/api/conversations/{chat}")
    return list(response.raise_for_status().json()["messages"])


async def events(
    client: httpx.AsyncClient, reply: str, after: int = 0
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The names and data of a reply's events, until its end. Raises httpx's errors."""
    headers = {"Last-Event-ID": str(after)}
    async with client.stream("GET", f"/api/replies/{reply}/events", headers=headers) as response:
        response.raise_for_status()
        name = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


@dataclass
class Heard:
    """What a listener got of a reply."""

    text: str = ""
    end: str | None = None  # the name of the last event
    end_data: dict[str, Any] = field(default_factory=dict)  # its data


async def hear(client: httpx.AsyncClient, reply: str) -> Heard:
    """Listen to a reply from its beginning to its end."""
    heard = Heard()
    async for name, data in events(client, reply):
        if name == "delta":
            heard.text += data["text"]
        elif name in ("done", "error"):
            heard.end, heard.end_data = name, data
    return heard


async def under_way(layer: Serving) -> int:
    """How many generations a serving layer runs or keeps waiting."""
    async with httpx.AsyncClient(verify=False) as client:
        metrics = (await client.get(f"{layer.url}/metrics")).text
    found = re.findall(r"^tgi_(?:queue_size|batch_current_size) (\d+)", metrics, re.MULTILINE)
    return sum(map(int, found))
