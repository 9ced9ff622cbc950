import asyncio
import json
import re
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from assistant.engine import Download, EngineState, Licence
from assistant.errors import GenerationFailed
from assistant.knowledge.documentation import DocumentationState, DocumentationStatus
from tests.support.fake_documentation import RMTREE, FakeDocumentation
from tests.support.fake_model import FakeServed, ScriptedModel

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
Heard = list[tuple[str, str, Any]]


async def new_chat(client: httpx.AsyncClient) -> str:
    response = await client.post("/api/conversations")
    assert response.status_code == 201
    return str(response.json()["id"])


async def ask(client: httpx.AsyncClient, chat: str, text: str = "q", **more: Any) -> dict[str, str]:
    response = await client.post(f"/api/conversations/{chat}/messages", json={"text": text, **more})
    assert response.status_code == 202, response.text
    return dict(response.json())


async def listen(
    client: httpx.AsyncClient, reply: str, last_event_id: str | None = None, *, until: int | None = None
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


def is_problem(response: httpx.Response, status: int, kind: str) -> bool:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return bool(body["type"] == kind)


async def test_a_question_is_answered_and_read_again(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    ids = await ask(client, chat, "Why 🦀?")
    model.say("Because\r\n", "🦀\u2028.")
    model.end()
    heard = await listen(client, ids["reply_id"])
    assert "".join(data["text"] for _, name, data in heard if name == "delta") == "Because\r\n🦀\u2028."
    assert heard[-1] == ("12!", "done", {"status": "done", "finish_reason": "eos_token"})
    found = (await client.get(f"/api/conversations/{chat}")).json()
    question, reply = found["messages"]
    assert (found["title"], found["active_leaf_id"]) == ("Why 🦀?", ids["reply_id"])
    assert (question["id"], question["role"], question["status"], question["finish_reason"]) == (
        ids["message_id"],
        "user",
        "done",
        None,
    )
    assert (reply["id"], reply["role"], reply["parent_id"]) == (
        ids["reply_id"],
        "assistant",
        ids["message_id"],
    )
    assert (reply["content"], reply["status"], reply["finish_reason"]) == (
        "Because\r\n🦀\u2028.",
        "done",
        "eos_token",
    )
    assert TIME.fullmatch(question["created_at"])
    assert TIME.fullmatch(found["updated_at"])


async def test_event_ids_count_code_points_and_resume(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    chat = await new_chat(client)
    reply = (await ask(client, chat))["reply_id"]
    model.say("ab🦀")
    assert await listen(client, reply, until=1) == [("3", "delta", {"text": "ab🦀"})]
    assert await listen(client, reply, "4", until=1) == [("3", "reset", {"text": "ab🦀"})]
    model.end()
    done = ("3!", "done", {"status": "done", "finish_reason": "eos_token"})
    await listen(client, reply)
    assert await listen(client, reply, "2") == [("3", "delta", {"text": "🦀"}), done]
    assert await listen(client, reply, "3") == [done]
    assert await listen(client, reply, "3!") == [done]
    for bad in ("4", "-1", "x", "1.5", "", "٣", "9" * 30):
        if bad.isascii():  # a header cannot carry the others
            assert await listen(client, reply, bad) == [("3", "reset", {"text": "ab🦀"}), done]
    response = await client.get(f"/api/replies/{reply}/events?last_event_id=2")
    assert '"text": "\\ud83e\\udd80"' in response.text


async def test_a_failed_reply_ends_with_an_error(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    reply = (await ask(client, chat))["reply_id"]
    model.say("half")
    model.fail(GenerationFailed("The engine broke."))
    heard = await listen(client, reply)
    assert heard[-1] == ("4!", "error", {"type": "engine_failed", "message": "The engine broke."})
    message = (await client.get(f"/api/conversations/{chat}")).json()["messages"][1]
    assert (message["status"], message["content"]) == ("failed", "half")
    assert message["error"] == {"type": "engine_failed", "message": "The engine broke."}


async def test_stop_and_retry(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    first = await ask(client, chat)
    for _ in range(2):
        response = await client.post(f"/api/replies/{first['reply_id']}/stop")
        assert (response.status_code, response.json()) == (200, {"status": "stopped"})
    response = await client.post(f"/api/replies/{first['reply_id']}/retry")
    assert response.status_code == 202
    second = response.json()
    assert second["message_id"] == first["message_id"]
    assert second["reply_id"] != first["reply_id"]
    model.end()
    await listen(client, second["reply_id"])


async def test_parents(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    first = await ask(client, chat, "one")
    model.end()
    await listen(client, first["reply_id"])
    second = await ask(client, chat, "root", parent_id=None)
    model.end()
    await listen(client, second["reply_id"])
    third = await ask(client, chat, "three", parent_id=first["reply_id"])
    messages = {m["id"]: m for m in (await client.get(f"/api/conversations/{chat}")).json()["messages"]}
    assert messages[second["message_id"]]["parent_id"] is None
    assert messages[third["message_id"]]["parent_id"] == first["reply_id"]
    await client.post(f"/api/replies/{third['reply_id']}/stop")
    response = await client.post(
        f"/api/conversations/{chat}/messages", json={"text": "q", "parent_id": "nobody"}
    )
    assert is_problem(response, 422, "unknown_parent")
    assert len((await client.get(f"/api/conversations/{chat}")).json()["messages"]) == 6


async def test_a_conversation_begins_with_its_first_question(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    body = {"text": "Why?", "client_id": "k", "grounding": False}
    first, again = [await client.post("/api/messages", json=body) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, again.json())
    other = await client.post("/api/messages", json={**body, "text": "other"})
    assert is_problem(other, 409, "client_id_reused")
    for refused in (
        {"text": " "},
        {},
        {"text": "a\0b"},
        {**body, "client_id": ""},
        {**body, "parent_id": "x"},
    ):
        assert (await client.post("/api/messages", json=refused)).status_code == 422, refused
    (chat,) = (await client.get("/api/conversations")).json()["conversations"]
    assert (chat["id"], chat["title"]) == (first.json()["conversation_id"], "Why?")
    assert chat["grounding"] is False
    model.say("So.")
    model.end()
    await listen(client, first.json()["reply_id"])
    messages = (await client.get(f"/api/conversations/{chat['id']}")).json()["messages"]
    assert [message["content"] for message in messages] == ["Why?", "So."]


async def test_the_same_client_id_is_answered_the_same(client: httpx.AsyncClient) -> None:
    chat = await new_chat(client)
    first = await ask(client, chat, "q", client_id="k")
    assert await ask(client, chat, "q", client_id="k") == first
    response = await client.post(
        f"/api/conversations/{chat}/messages", json={"text": "other", "client_id": "k"}
    )
    assert is_problem(response, 409, "client_id_reused")
    response = await client.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
    assert is_problem(response, 409, "still_answering")


async def test_a_full_queue_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    chats = [await new_chat(client) for _ in range(4)]
    for chat in chats[:3]:
        await ask(client, chat)
    response = await client.post(f"/api/conversations/{chats[3]}/messages", json={"text": "q"})
    assert is_problem(response, 429, "queue_full")
    assert int(response.headers["retry-after"]) > 0
    assert (await client.get(f"/api/conversations/{chats[3]}")).json()["messages"] == []


@pytest.mark.parametrize("state", [EngineState.NONE, EngineState.FAILED])
async def test_without_a_model(client: httpx.AsyncClient, served: FakeServed, state: EngineState) -> None:
    chat = await new_chat(client)
    served.set(state, "Because.")
    response = await client.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
    assert is_problem(response, 503, "no_model")
    assert (await client.get(f"/api/conversations/{chat}")).json()["messages"] == []
    assert (await client.get("/ready")).json() == {"engine": state, "page": False}
    assert (await client.get("/api/engine")).json()["detail"] == "Because."


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": ""}',
        b'{"text": " \\n"}',
        b'{"text": 3}',
        b"{}",
        b"[]",
        b"{",
        b"",
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "q", "client_id": "\\udfff"}',
        b'{"text": "q", "parent": "typo"}',
        b'{"text": "q", "client_id": ""}',
        b'{"text": "q", "parent_id": 3}',
        b"\xff\xfe",
    ],
)
async def test_bad_bodies_are_422_and_store_nothing(client: httpx.AsyncClient, body: bytes) -> None:
    chat = await new_chat(client)
    response = await client.post(
        f"/api/conversations/{chat}/messages", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert (await client.get(f"/api/conversations/{chat}")).json()["messages"] == []


async def test_the_list_is_paged(client: httpx.AsyncClient) -> None:
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


async def test_rename_and_delete(client: httpx.AsyncClient) -> None:
    chat = await new_chat(client)
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


async def test_the_branch_on_show_is_chosen(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    ids = await ask(client, chat)
    model.say("an answer")
    model.end()
    await listen(client, ids["reply_id"])
    path = f"/api/conversations/{chat}"
    response = await client.patch(path, json={"active_leaf_id": ids["message_id"]})
    assert (response.status_code, response.json()["active_leaf_id"]) == (200, ids["message_id"])
    assert is_problem(await client.patch(path, json={"active_leaf_id": chat}), 422, "unknown_message")
    for nothing in ({}, {"active_leaf_id": None}):
        assert is_problem(await client.patch(path, json=nothing), 422, "invalid")


async def test_a_reply_can_be_read_alone(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    ids = await ask(client, chat)
    model.say("an answer")
    model.end()
    await listen(client, ids["reply_id"])
    reply = (await client.get(f"/api/replies/{ids['reply_id']}")).json()
    assert reply == (await client.get(f"/api/conversations/{chat}")).json()["messages"][-1]
    assert (reply["content"], reply["provenance"]["model"]) == ("an answer", "scripted")


async def test_an_answer_of_the_documentation_has_its_sources(
    client: httpx.AsyncClient, served: FakeServed, documentation: FakeDocumentation
) -> None:
    served.set(EngineState.NONE)
    documentation.status = DocumentationStatus(DocumentationState.BUILDING, passages=5, done=1, total=2)
    documentation.is_searchable = True
    engine = (await client.get("/api/engine")).json()
    assert (engine["state"], engine["answers"]) == ("none", "documentation")
    reading = {"state": "building", "passages": 5, "done": 1, "total": 2, "detail": None}
    assert engine["documentation"] == reading
    chat = await new_chat(client)
    reply = (await ask(client, chat))["reply_id"]
    first, *_ = await listen(client, reply)
    stored = (await client.get(f"/api/replies/{reply}")).json()
    assert first == ("", "sources", {"sources": stored["sources"]})
    source = {
        "name": RMTREE.name,
        "title": RMTREE.title,
        "package": "Python",
        "version": RMTREE.version,
        "licence": RMTREE.licence,
        "location": RMTREE.location,
        "url": "",
    }
    assert source.items() <= stored["sources"][0].items()
    assert stored["sources"][0]["quote"] in RMTREE.text
    assert (stored["finish_reason"], stored["provenance"]["model"]) == ("eos_token", "documentation")


async def test_a_conversation_says_whether_documentation_is_looked_up(client: httpx.AsyncClient) -> None:
    without = (await client.post("/api/conversations", json={"grounding": False})).json()
    assert without["grounding"] is False
    path = f"/api/conversations/{without['id']}"
    assert (await client.patch(path, json={"grounding": True})).json()["grounding"] is True
    assert (await client.patch(path, json={"title": "t"})).json()["grounding"] is True
    assert (await client.get(path)).json()["grounding"] is True
    for bad in ({}, {"grounding": None}, {"grounding": "perhaps"}):
        assert is_problem(await client.patch(path, json=bad), 422, "invalid")


async def test_who_runs_the_application_says_what_is_fetched(
    client: httpx.AsyncClient, served: FakeServed
) -> None:
    download = Download("running", "Small Coder", "o/r", "small.gguf", "Apache-2.0", 1000, 430)
    served.set(EngineState.FETCHING, download=download)
    told = (await client.get("/api/engine")).json()["download"]
    assert told == {**asdict(download), "may_change": True}
    assert (await client.delete("/api/engine/download")).status_code == 204
    assert (await client.post("/api/engine/download")).status_code == 202
    assert served.steered == ["declined", "begun"]
    for through_a_proxy in (
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-Proto": "https"},
        {"X-Real-IP": "203.0.113.7"},
        {"CF-Connecting-IP": "203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"Host": "203.0.113.1"},  # what a proxy was called that says nothing of itself
    ):
        told = (await client.get("/api/engine", headers=through_a_proxy)).json()["download"]
        assert told["may_change"] is False, through_a_proxy
        for method in ("POST", "DELETE"):
            response = await client.request(method, "/api/engine/download", headers=through_a_proxy)
            assert is_problem(response, 403, "not_the_operator")
    assert served.steered == ["declined", "begun"]
    for host in ("localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.1"):
        told = (await client.get("/api/engine", headers={"Host": host})).json()["download"]
        assert told["may_change"] is True, host


async def test_a_licence_is_accepted_by_each_before_their_first_question(
    address: str, client: httpx.AsyncClient, served: FakeServed
) -> None:
    terms = Licence("bigcode-openrail-m", "BigCode OpenRAIL-M", "https://example.org/terms", must_accept=True)
    served.set(EngineState.READY, licence=terms)
    chat = await new_chat(client)
    asked = await client.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
    assert is_problem(asked, 403, "licence_not_accepted")
    assert terms.url in asked.json()["detail"]
    assert is_problem(await client.put("/api/licences/another"), 404, "not_found")
    for _ in range(2):
        assert (await client.put(f"/api/licences/{terms.id}")).status_code == 204
    assert (await client.get("/api/engine")).json()["licence"] == {
        "id": terms.id, "name": terms.name, "url": terms.url, "accepted": True,
    }  # fmt: skip
    await ask(client, chat)
    async with httpx.AsyncClient(base_url=address, timeout=20) as stranger:
        assert (await stranger.get("/api/engine")).json()["licence"]["accepted"] is False
        theirs = await new_chat(stranger)
        asked = await stranger.post(f"/api/conversations/{theirs}/messages", json={"text": "q"})
        assert is_problem(asked, 403, "licence_not_accepted")


async def test_a_licence_may_be_called_by_anything(client: httpx.AsyncClient, served: FakeServed) -> None:
    name = "https://example.org/a licence/1.0?x#y"
    served.set(EngineState.READY, licence=Licence(name, name, name, must_accept=True))
    assert (await client.put(f"/api/licences/{quote(name, safe='')}")).status_code == 204
    assert (await client.get("/api/engine")).json()["licence"]["accepted"] is True


async def test_a_long_conversation_is_read_page_by_page(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    chat = await new_chat(client)
    for number in range(7):
        model.end()
        await listen(client, (await ask(client, chat, f"{number}"))["reply_id"])
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


async def test_a_page_has_no_more_text_than_it_may(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    chat = await new_chat(client)
    for _ in range(6):
        model.end()
        await listen(client, (await ask(client, chat, "🦀" * 60_000))["reply_id"])
    address = f"/api/conversations/{chat}"
    page = (await client.get(address)).json()
    assert (len(page["messages"]), page["older"]) == (10, 2)
    older = (await client.get(f"{address}?before={page['older']}")).json()
    assert (len(older["messages"]), older["older"]) == (2, None)


async def test_everything_of_mine_is_exported_and_erased(
    client: httpx.AsyncClient, model: ScriptedModel, served: FakeServed
) -> None:
    served.set(EngineState.READY, licence=Licence("terms", "Terms", "https://example.org", must_accept=True))
    await client.put("/api/licences/terms")
    first = await new_chat(client)
    asked = await ask(client, first, "Why 🦀?")
    model.say("Because\r\n\u2028.")
    model.end()
    await listen(client, asked["reply_id"])
    second = await ask(client, first, "Why else?", parent_id=None)
    model.end()
    await listen(client, second["reply_id"])
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

    for body in (None, {}, {"confirm": "yes"}, {"confirm": "erase everything", "more": 1}):
        assert is_problem(await client.post("/api/me/erase", json=body), 422, "invalid"), body
    listening = asyncio.create_task(listen(client, running["reply_id"]))
    await asyncio.sleep(0)
    cookie = dict(client.cookies)
    erased = await client.post("/api/me/erase", json={"confirm": "erase everything"})
    assert (erased.status_code, dict(client.cookies) == cookie) == (204, False)
    async with httpx.AsyncClient(base_url=str(client.base_url), cookies=cookie) as before:
        assert "set-cookie" in (await before.get("/api/conversations")).headers  # nobody's any more
    await asyncio.gather(listening, return_exceptions=True)  # it has ended, or was not there any more
    export = (await client.get("/api/me/export")).json()
    assert (export["conversations"], export["licences"], export["error"]) == ([], [], None)
    assert (await client.get("/api/conversations")).json()["conversations"] == []
    for method, address in (
        ("POST", f"conversations/{deleted}/restore"),
        ("GET", f"replies/{running['reply_id']}"),
    ):
        assert is_problem(await client.request(method, f"/api/{address}"), 404, "not_found")
    await new_chat(client)  # the same person goes on


async def test_another_owner_finds_nothing(address: str, client: httpx.AsyncClient) -> None:
    chat = await new_chat(client)
    ids = await ask(client, chat)
    async with httpx.AsyncClient(base_url=address, timeout=20) as stranger:
        requests = [
            ("GET", f"/api/conversations/{chat}", None),
            ("PATCH", f"/api/conversations/{chat}", {"title": "t"}),
            ("DELETE", f"/api/conversations/{chat}", None),
            ("POST", f"/api/conversations/{chat}/restore", None),
            ("POST", f"/api/conversations/{chat}/messages", {"text": "q"}),
            ("GET", f"/api/replies/{ids['reply_id']}", None),
            ("GET", f"/api/replies/{ids['reply_id']}/events", None),
            ("POST", f"/api/replies/{ids['reply_id']}/stop", None),
            ("POST", f"/api/replies/{ids['reply_id']}/retry", None),
        ]
        for method, path, body in requests:
            response = await stranger.request(method, path, json=body)
            assert is_problem(response, 404, "not_found"), (method, path)
        assert (await stranger.get("/api/conversations")).json()["conversations"] == []
        export = (await stranger.get("/api/me/export")).json()
        assert (export["conversations"], export["licences"], export["error"]) == ([], [], None)
        erased = await stranger.post("/api/me/erase", json={"confirm": "erase everything"})
        assert erased.status_code == 204
        document = (await stranger.get("/api/openapi.json")).json()
    # A route added later must be tried here too, or be known to be nobody's.
    tried = {(method.lower(), re.sub(r"[0-9a-f-]{36}", "{}", path)) for method, path, _ in requests}
    nobodys = {
        ("get", "/api/engine"),
        ("post", "/api/engine/download"),  # the operator's
        ("delete", "/api/engine/download"),
        ("put", "/api/licences/{}"),
        ("post", "/api/me/revoke"),
        ("get", "/api/conversations"),
        ("post", "/api/conversations"),
        ("post", "/api/messages"),
        ("get", "/api/me/export"),  # everybody's own, as tried above
        ("post", "/api/me/erase"),
    }
    routes = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for path, item in document["paths"].items()
        for method in item
    }
    assert routes == tried | nobodys
    assert (await client.get(f"/api/conversations/{chat}")).json()["title"] == "q"


async def test_revoked_cookies_find_nothing_and_chats_stay(address: str, client: httpx.AsyncClient) -> None:
    chat = await new_chat(client)
    for _ in range(2):
        revoked = dict(client.cookies)
        response = await client.post("/api/me/revoke")
        assert (response.status_code, response.headers["cache-control"]) == (204, "no-store, private")
        assert (await client.get(f"/api/conversations/{chat}")).status_code == 200
        async with httpx.AsyncClient(base_url=address, cookies=revoked) as thief:
            await thief.post("/api/me/revoke")  # which is for an owner of their own now
            assert is_problem(await thief.get(f"/api/conversations/{chat}"), 404, "not_found")
    assert (await client.get(f"/api/conversations/{chat}")).status_code == 200


async def test_unknown_paths_and_wrong_methods_are_problems(client: httpx.AsyncClient) -> None:
    for path in ("/api", "/api/", "/api/nothing", "/api/conversations/a/b/c", "/api/conversations/"):
        for method in ("GET", "POST", "DELETE", "PUT"):
            response = await client.request(method, path)
            assert is_problem(response, 404, "not_found"), (method, path)
    chat = await new_chat(client)
    for method, path in (
        ("PUT", "/api/conversations"),
        ("DELETE", "/api/conversations"),
        ("POST", f"/api/conversations/{chat}"),
        ("GET", f"/api/conversations/{chat}/messages"),
        ("POST", "/api/replies/x/events"),
        ("GET", "/api/replies/x/stop"),
    ):
        response = await client.request(method, path)
        assert is_problem(response, 405, "method_not_allowed"), (method, path)
        assert response.headers["allow"]
    assert (await client.options("/api/conversations")).status_code == 405


async def test_the_serving_layer_is_not_there(client: httpx.AsyncClient) -> None:
    for path in ("/serving", "/serving/", "/serving/generate", "/serving/info", "/v1", "/v1/models"):
        for method in ("GET", "POST", "PUT"):
            assert (await client.request(method, path)).status_code == 404


async def test_static_files_are_kept_and_asked_about(client: httpx.AsyncClient) -> None:
    first = await client.get("/ui/chat.js")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = await client.get("/ui/chat.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")
    assert (await client.get("/ui/../api.py")).status_code == 404


async def test_health_and_openapi(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).json() == {"engine": "ready", "page": False}
    assert (await client.get("/api/openapi.json")).json()["info"]["title"] == "Tech Assistant"


async def test_an_unexpected_error_tells_nothing(
    client: httpx.AsyncClient, served: FakeServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "status", None)
    response = await client.get("/api/engine")
    assert is_problem(response, 500, "internal")
    assert "NoneType" not in response.text


async def test_a_reader_that_leaves_does_not_end_the_reply(
    client: httpx.AsyncClient, model: ScriptedModel
) -> None:
    chat = await new_chat(client)
    reply = (await ask(client, chat))["reply_id"]
    model.say("first ")
    await listen(client, reply, until=1)
    model.say("second")
    model.end()
    heard = await listen(client, reply)
    assert "".join(data["text"] for _, name, data in heard if name == "delta") == "first second"


async def test_what_other_servers_say_is_told_to_who_runs_the_application_alone(
    client: httpx.AsyncClient, served: FakeServed
) -> None:
    secret = "The upstream at http://10.66.77.88:8000/v1 cannot be reached."
    served.set(EngineState.FAILED, "The model cannot be reached.", cause=secret)
    assert (await client.get("/api/engine")).json()["detail"] == secret
    told = await client.get("/api/engine", headers={"X-Forwarded-For": "203.0.113.7"})
    assert told.json()["detail"] == "The model cannot be reached."
    chat = await new_chat(client)
    refused = await client.post(f"/api/conversations/{chat}/messages", json={"text": "q"})
    assert is_problem(refused, 503, "no_model")
    for answer in (told, refused, await client.get("/ready")):
        assert "10.66" not in answer.text
