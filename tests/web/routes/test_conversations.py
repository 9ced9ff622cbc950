"""Conversations: listed, read, changed and deleted."""

from typing import Any

from httpx import AsyncClient

from tests.support.fake_model import ScriptedModel
from tests.web.api_client import answered, is_problem


async def test_the_list_is_paged(client: AsyncClient) -> None:
    for n in range(5):
        await client.post("/api/conversations", json={"title": str(n)})
    first = (await client.get("/api/conversations?limit=3&cursor=")).json()
    rest = (await client.get("/api/conversations", params={"limit": 3, "cursor": first["next"]})).json()
    assert [c["title"] for c in first["conversations"] + rest["conversations"]] == list("43210")
    assert rest["next"] is None
    for query in ("limit=0", "limit=x", "limit=9999", "cursor=nonsense"):
        response = await client.get(f"/api/conversations?{query}")
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"


async def test_rename_and_delete(client: AsyncClient, chat: str) -> None:
    response = await client.patch(f"/api/conversations/{chat}", json={"title": "  New name "})
    assert (response.status_code, response.json()["title"]) == (200, "New name")
    for title in ("", "  ", "x" * 201, None):
        response = await client.patch(f"/api/conversations/{chat}", json={"title": title})
        assert is_problem(response, 422, "invalid")
    assert (await client.delete(f"/api/conversations/{chat}")).status_code == 204
    for again in (client.get, client.delete):
        assert is_problem(await again(f"/api/conversations/{chat}"), 404, "not_found")
    restored = await client.post(f"/api/conversations/{chat}/restore")
    assert (restored.status_code, restored.json()["title"]) == (200, "New name")
    assert (await client.get(f"/api/conversations/{chat}")).status_code == 200


async def test_the_branch_to_show_can_be_chosen(client: AsyncClient, chat: str, model: ScriptedModel) -> None:
    ids = await answered(client, model, chat)
    path = f"/api/conversations/{chat}"
    response = await client.patch(path, json={"active_leaf_id": ids["message_id"]})
    assert (response.status_code, response.json()["active_leaf_id"]) == (200, ids["message_id"])
    assert is_problem(await client.patch(path, json={"active_leaf_id": chat}), 422, "unknown_message")
    for nothing in ({}, {"active_leaf_id": None}):
        assert is_problem(await client.patch(path, json=nothing), 422, "invalid")


async def test_a_conversation_keeps_whether_documentation_is_searched(client: AsyncClient) -> None:
    without = (await client.post("/api/conversations", json={"grounding": False})).json()
    assert without["grounding"] is False
    path = f"/api/conversations/{without['id']}"
    assert (await client.patch(path, json={"grounding": True})).json()["grounding"] is True
    assert (await client.patch(path, json={"title": "t"})).json()["grounding"] is True
    assert (await client.get(path)).json()["grounding"] is True
    for bad in ({}, {"grounding": None}, {"grounding": "perhaps"}):
        assert is_problem(await client.patch(path, json=bad), 422, "invalid")


async def test_a_long_conversation_is_read_page_by_page(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
    for number in range(7):
        await answered(client, model, chat, f"{number}")
    address = f"/api/conversations/{chat}"
    whole = (await client.get(address)).json()
    assert (len(whole["messages"]), whole["older"]) == (14, None)
    pages: list[Any] = []
    before = ""
    while not pages or pages[0]["older"] is not None:
        page = (await client.get(f"{address}?limit=4{before}")).json()
        pages.insert(0, page)
        before = f"&before={page['older']}"
    assert [len(page["messages"]) for page in pages] == [2, 4, 4, 4]
    assert [message for page in pages for message in page["messages"]] == whole["messages"]
    for wrong in ("limit=0", "limit=201", "before=0", "before=x", "before=99999999999999999999"):
        assert is_problem(await client.get(f"{address}?{wrong}"), 422, "invalid"), wrong


async def test_a_page_has_a_limit_of_text(client: AsyncClient, chat: str, model: ScriptedModel) -> None:
    for _ in range(6):
        await answered(client, model, chat, "🦀" * 60_000)
    address = f"/api/conversations/{chat}"
    page = (await client.get(address)).json()
    assert (len(page["messages"]), page["older"]) == (10, 2)
    older = (await client.get(f"{address}?before={page['older']}")).json()
    assert (len(older["messages"]), older["older"]) == (2, None)
