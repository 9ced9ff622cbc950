"""Questions and their replies."""

import re

import pytest
from httpx import AsyncClient

from assistant.engine import EngineState
from assistant.errors import GenerationFailed
from assistant.knowledge.documentation import DocumentationState, DocumentationStatus
from tests.support.fake_documentation import RMTREE, FakeDocumentation
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.web.api_client import (
    answered,
    ask,
    engine_of,
    is_problem,
    listen,
    messages_of,
    new_chat,
    try_ask,
)

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_question_is_answered_and_read_again(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
    ids = await answered(client, model, chat, "Why 🦀?", "Because\r\n", "🦀\u2028.")
    heard = await listen(client, ids["reply_id"])
    assert "".join(data["text"] for _, name, data in heard if name == "delta") == "Because\r\n🦀\u2028."
    assert heard[-1] == ("12!", "done", {"status": "done", "finish_reason": "eos_token"})
    found = (await client.get(f"/api/conversations/{chat}")).json()
    question, reply = found["messages"]
    assert (found["title"], found["active_leaf_id"]) == ("Why 🦀?", ids["reply_id"])
    expected = {"id": ids["message_id"], "role": "user", "status": "done", "finish_reason": None}
    assert expected.items() <= question.items()
    expected = {"id": ids["reply_id"], "role": "assistant", "parent_id": ids["message_id"]}
    expected |= {"content": "Because\r\n🦀\u2028.", "status": "done", "finish_reason": "eos_token"}
    assert expected.items() <= reply.items()
    assert TIME.fullmatch(question["created_at"])
    assert TIME.fullmatch(found["updated_at"])


async def test_event_ids_count_code_points_and_resume(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
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


async def test_a_failed_reply_ends_with_an_error(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
    reply = (await ask(client, chat))["reply_id"]
    model.say("half")
    model.fail(GenerationFailed("The engine broke."))
    heard = await listen(client, reply)
    assert heard[-1] == ("4!", "error", {"type": "engine_failed", "message": "The engine broke."})
    message = (await messages_of(client, chat))[1]
    assert (message["status"], message["content"]) == ("failed", "half")
    assert message["error"] == {"type": "engine_failed", "message": "The engine broke."}


async def test_stop_and_retry(client: AsyncClient, chat: str, model: ScriptedModel) -> None:
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


async def test_a_question_follows_the_parent_that_it_names(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
    first = await answered(client, model, chat, "one")
    second = await answered(client, model, chat, "root", parent_id=None)
    third = await ask(client, chat, "three", parent_id=first["reply_id"])
    messages = {message["id"]: message for message in await messages_of(client, chat)}
    assert messages[second["message_id"]]["parent_id"] is None
    assert messages[third["message_id"]]["parent_id"] == first["reply_id"]
    await client.post(f"/api/replies/{third['reply_id']}/stop")
    assert is_problem(await try_ask(client, chat, parent_id="nobody"), 422, "unknown_parent")
    assert len(await messages_of(client, chat)) == 6


async def test_a_conversation_begins_with_its_first_question(
    client: AsyncClient, model: ScriptedModel
) -> None:
    body = {"text": "Why?", "client_id": "k", "grounding": False}
    first, again = [await client.post("/api/messages", json=body) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, again.json())
    other = await client.post("/api/messages", json={**body, "text": "other"})
    assert is_problem(other, 409, "client_id_reused")
    wrong: list[dict[str, object]] = [{"text": " "}, {}, {"text": "a\0b"}]
    for refused in (*wrong, {**body, "client_id": ""}, {**body, "parent_id": "x"}):
        assert (await client.post("/api/messages", json=refused)).status_code == 422, refused
    (chat,) = (await client.get("/api/conversations")).json()["conversations"]
    assert (chat["id"], chat["title"]) == (first.json()["conversation_id"], "Why?")
    assert chat["grounding"] is False
    model.say("So.")
    model.end()
    await listen(client, first.json()["reply_id"])
    assert [message["content"] for message in await messages_of(client, chat["id"])] == ["Why?", "So."]


async def test_the_same_client_id_is_answered_the_same(client: AsyncClient, chat: str) -> None:
    first = await ask(client, chat, "q", client_id="k")
    assert await ask(client, chat, "q", client_id="k") == first
    assert is_problem(await try_ask(client, chat, "other", client_id="k"), 409, "client_id_reused")
    assert is_problem(await try_ask(client, chat), 409, "still_answering")


async def test_a_full_queue_says_when_to_retry(client: AsyncClient) -> None:
    chats = [await new_chat(client) for _ in range(4)]
    for chat in chats[:3]:
        await ask(client, chat)
    response = await try_ask(client, chats[3])
    assert is_problem(response, 429, "queue_full")
    assert int(response.headers["retry-after"]) > 0
    assert await messages_of(client, chats[3]) == []


@pytest.mark.parametrize("state", [EngineState.NONE, EngineState.FAILED])
async def test_without_a_model_a_question_is_refused(
    client: AsyncClient, chat: str, served: FakeServed, state: EngineState
) -> None:
    served.set(state, "Because.")
    assert is_problem(await try_ask(client, chat), 503, "no_model")
    assert await messages_of(client, chat) == []
    assert (await client.get("/ready")).json() == {"engine": state, "page": False}
    assert (await engine_of(client))["detail"] == "Because."


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"{}", b"[]", b"\xff\xfe", b'{"text": ""}', b'{"text": " \\n"}', b'{"text": 3}'),
        *(b'{"text": "\\ud800"}', b'{"text": "a\\u0000b"}', b'{"text": "q", "client_id": "\\udfff"}'),
        b'{"text": "q", "parent": "typo"}',
        b'{"text": "q", "client_id": ""}',
        b'{"text": "q", "parent_id": 3}',
    ],
)
async def test_bad_bodies_are_422_and_store_nothing(client: AsyncClient, chat: str, body: bytes) -> None:
    response = await client.post(
        f"/api/conversations/{chat}/messages", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert await messages_of(client, chat) == []


async def test_a_reply_can_be_read_alone(client: AsyncClient, chat: str, model: ScriptedModel) -> None:
    ids = await answered(client, model, chat, "q", "an answer")
    reply = (await client.get(f"/api/replies/{ids['reply_id']}")).json()
    assert reply == (await messages_of(client, chat))[-1]
    assert (reply["content"], reply["provenance"]["model"]) == ("an answer", "scripted")


async def test_an_answer_of_the_documentation_has_its_sources(
    client: AsyncClient, served: FakeServed, documentation: FakeDocumentation
) -> None:
    served.set(EngineState.NONE)
    documentation.status = DocumentationStatus(DocumentationState.BUILDING, passages=5, done=1, total=2)
    documentation.is_searchable = True
    engine = await engine_of(client)
    assert (engine["state"], engine["answers"]) == ("none", "documentation")
    reading = {"state": "building", "passages": 5, "done": 1, "total": 2, "detail": None}
    assert engine["documentation"] == reading
    chat = await new_chat(client)
    reply = (await ask(client, chat))["reply_id"]
    first, *_ = await listen(client, reply)
    stored = (await client.get(f"/api/replies/{reply}")).json()
    assert first == ("", "sources", {"sources": stored["sources"]})
    source = {"name": RMTREE.name, "title": RMTREE.title, "package": "Python", "version": RMTREE.version}
    source |= {"licence": RMTREE.licence, "location": RMTREE.location, "url": ""}
    assert source.items() <= stored["sources"][0].items()
    assert stored["sources"][0]["quote"] in RMTREE.text
    assert (stored["finish_reason"], stored["provenance"]["model"]) == ("eos_token", "documentation")


async def test_a_reader_that_leaves_does_not_end_the_reply(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
    reply = (await ask(client, chat))["reply_id"]
    model.say("first ")
    await listen(client, reply, until=1)
    model.say("second")
    model.end()
    heard = await listen(client, reply)
    assert "".join(data["text"] for _, name, data in heard if name == "delta") == "first second"


async def test_feedback_is_the_last_that_was_given(
    client: AsyncClient, chat: str, model: ScriptedModel
) -> None:
    ids = await answered(client, model, chat)
    address = f"/api/messages/{ids['reply_id']}/feedback"

    async def shown() -> tuple[str | None, str | None]:
        alone = (await client.get(f"/api/replies/{ids['reply_id']}")).json()
        question, reply = await messages_of(client, chat)
        assert (reply, question["feedback"]) == (alone, None)
        return reply["feedback"], reply["feedback_text"]

    for body, feedback in (
        ({"rating": "up"}, ("up", None)),
        ({"rating": "down", "text": "x" * 2000}, ("down", "x" * 2000)),
        ({"rating": "down", "text": ""}, ("down", None)),
        ({"rating": None, "text": None}, (None, None)),
        ({"rating": None}, (None, None)),
    ):
        response = await client.put(address, json=body)
        assert (response.status_code, await shown()) == (204, feedback)
    for body in ({}, {"rating": "x"}, {"rating": "up", "text": "x" * 2001}, {"rating": None, "text": "why"}):
        assert is_problem(await client.put(address, json=body), 422, "invalid"), body
    of_question = f"/api/messages/{ids['message_id']}/feedback"
    assert is_problem(await client.put(of_question, json={"rating": "up"}), 404, "not_found")
    assert await shown() == (None, None)
