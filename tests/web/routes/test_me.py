"""An owner's own data and cookies."""

import asyncio

from httpx import AsyncClient

from assistant.engine import EngineState, Licence
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.web.api_client import answered, ask, is_problem, listen, new_chat


async def test_an_owners_data_is_exported_and_erased(
    client: AsyncClient, model: ScriptedModel, served: FakeServed
) -> None:
    served.set(EngineState.READY, licence=Licence("terms", "Terms", "https://example.org", must_accept=True))
    await client.put("/api/licences/terms")
    first = await new_chat(client)
    await answered(client, model, first, "Why 🦀?", "Because\r\n\u2028.")
    else_asked = await answered(client, model, first, "Why else?", parent_id=None)
    liked = {"rating": "up", "text": "It helped."}
    await client.put(f"/api/messages/{else_asked['reply_id']}/feedback", json=liked)
    empty, deleted = await new_chat(client), await new_chat(client)
    await client.delete(f"/api/conversations/{deleted}")
    running = await ask(client, empty, "And now?")
    model.say("Well")
    await listen(client, running["reply_id"], until=1)

    response = await client.get("/api/me/export")
    assert response.headers["content-disposition"] == 'attachment; filename="tech-assistant-export.json"'
    export = response.json()
    assert (export["error"], [licence["id"] for licence in export["licences"]]) == (None, ["terms"])
    shown = [(await client.get(f"/api/conversations/{chat}")).json() for chat in (first, empty)]
    assert [{**chat, "older": None} for chat in export["conversations"]] == shown
    assert shown[0]["messages"][2]["parent_id"] is None
    last = shown[0]["messages"][3]
    assert {"rating": last["feedback"], "text": last["feedback_text"]} == liked

    for body in (None, {}, {"confirm": "yes"}, {"confirm": "erase everything", "more": 1}):
        assert is_problem(await client.post("/api/me/erase", json=body), 422, "invalid"), body
    listening = asyncio.create_task(listen(client, running["reply_id"]))
    await asyncio.sleep(0)
    cookie = dict(client.cookies)
    erased = await client.post("/api/me/erase", json={"confirm": "erase everything"})
    assert (erased.status_code, dict(client.cookies) == cookie) == (204, False)
    async with AsyncClient(base_url=str(client.base_url), cookies=cookie) as before:
        assert "set-cookie" in (await before.get("/api/conversations")).headers  # the old cookie is invalid
    await asyncio.gather(listening, return_exceptions=True)  # it has ended, or found no reply
    export = (await client.get("/api/me/export")).json()
    assert (export["conversations"], export["licences"], export["error"]) == ([], [], None)
    assert (await client.get("/api/conversations")).json()["conversations"] == []
    for method, address in (
        ("POST", f"conversations/{deleted}/restore"),
        ("GET", f"replies/{running['reply_id']}"),
    ):
        assert is_problem(await client.request(method, f"/api/{address}"), 404, "not_found")
    await new_chat(client)  # the new owner can ask again


async def test_revoked_cookies_find_nothing_and_chats_stay(
    address: str, client: AsyncClient, chat: str
) -> None:
    for _ in range(2):
        revoked = dict(client.cookies)
        response = await client.post("/api/me/revoke")
        assert (response.status_code, response.headers["cache-control"]) == (204, "no-store, private")
        assert (await client.get(f"/api/conversations/{chat}")).status_code == 200
        async with AsyncClient(base_url=address, cookies=revoked) as thief:
            await thief.post("/api/me/revoke")  # the thief is a new owner now
            assert is_problem(await thief.get(f"/api/conversations/{chat}"), 404, "not_found")
    assert (await client.get(f"/api/conversations/{chat}")).status_code == 200
