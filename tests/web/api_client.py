"""How tests use the API."""

import asyncio
import json
from typing import Any

from httpx import AsyncClient, Response

from tests.support.fake_model import ScriptedModel

Heard = list[tuple[str, str, Any]]


async def new_chat(client: AsyncClient) -> str:
    response = await client.post("/api/conversations")
    assert response.status_code == 201
    return str(response.json()["id"])


async def try_ask(client: AsyncClient, chat: str, text: str = "q", **more: Any) -> Response:
    return await client.post(f"/api/conversations/{chat}/messages", json={"text": text, **more})


async def messages_of(client: AsyncClient, chat: str) -> list[dict[str, Any]]:
    return list((await client.get(f"/api/conversations/{chat}")).json()["messages"])


async def engine_of(client: AsyncClient, **headers: str) -> dict[str, Any]:
    return dict((await client.get("/api/engine", headers=headers)).json())


async def ask(client: AsyncClient, chat: str, text: str = "q", **more: Any) -> dict[str, str]:
    response = await try_ask(client, chat, text, **more)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def answered(
    client: AsyncClient, model: ScriptedModel, chat: str, text: str = "q", *said: str, **more: Any
) -> dict[str, str]:
    """Ask, and have the model say its whole answer. Returns the ids."""
    model.say(*said)
    model.end()
    ids = await ask(client, chat, text, **more)
    await listen(client, ids["reply_id"])
    return ids


async def listen(
    client: AsyncClient, reply: str, last_event_id: str | None = None, *, until: int | None = None
) -> Heard:
    """The events of a reply as (id, name, data): all of them, or the first `until`."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    heard: Heard = []
    async with (
        asyncio.timeout(20),
        client.stream("GET", f"/api/replies/{reply}/events", headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields.get("event"):
                heard.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
                fields = {}
                if len(heard) == until:
                    break
    return heard


def is_problem(response: Response, status: int, kind: str) -> bool:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return bool(body["type"] == kind)
