"""Replies of the documentation, and a model's replies that are grounded in it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from assistant.conversation import Failure, FinishReason, Message, Source, Status
from assistant.engine import EngineState, Licence
from assistant.errors import (
    GenerationFailed,
    LicenceNotAccepted,
    ModelError,
    NoModelLoaded,
    Overloaded,
    PromptTooLong,
    Refused,
    Unreachable,
)
from assistant.events import Cited, Delta, End
from assistant.knowledge.answer import INSTEAD, reference
from assistant.knowledge.documentation import DocumentationState, DocumentationUnreadable
from assistant.knowledge.passage import SearchResult
from assistant.replies import Answers
from storage.database import Database
from storage.errors import NotFound
from tests.assistant.conftest import OWNER, Parts, events
from tests.support.fake_documentation import FOUND, RMTREE

GIVEN = dataclasses.replace(reference(RMTREE), cited=False)
CITED = reference(RMTREE)
OPENRAIL = Licence("bigcode-openrail-m", "BigCode OpenRAIL-M", "https://example.org/terms", must_accept=True)


@pytest.fixture
async def parts(database: Database) -> AsyncIterator[Parts]:
    async with Parts(database, DocumentationState.READY) as parts:
        parts.served.set(EngineState.NONE)
        yield parts


async def ask(parts: Parts, text: str = "How do I remove a folder?", chat: str | None = None) -> str:
    return (await parts.replies.ask(OWNER, chat, text)).reply_id


async def answered(parts: Parts, reply_id: str) -> Message:
    """The stored reply, after its end."""
    await events(parts, reply_id)
    return await parts.chats.reply(OWNER, reply_id)


async def test_without_a_model_the_documentation_is_quoted(parts: Parts) -> None:
    assert parts.replies.answers is Answers.DOCUMENTATION
    reply_id = await ask(parts)
    cited, *deltas, end = await events(parts, reply_id)
    assert isinstance(cited, Cited)
    assert cited.sources[0].name == "shutil.rmtree"
    text = "".join(delta.text for delta in deltas if isinstance(delta, Delta))
    assert "Recursively delete a directory tree." in text
    assert end == End(Status.DONE, FinishReason.EOS_TOKEN, None, len(text))
    stored = await parts.chats.reply(OWNER, reply_id)
    assert (stored.content, stored.sources) == (text, cited.sources)
    assert stored.provenance.model == "documentation"
    assert stored.provenance.revision == parts.documentation.version
    # Who comes later is told the same.
    assert (await events(parts, reply_id))[0] == cited


async def test_it_is_asked_with_the_questions_before(parts: Parts) -> None:
    chat = (await answered(parts, await ask(parts))).conversation_id
    await events(parts, await ask(parts, "And a file?", chat))
    assert parts.documentation.asked[-1] == ("How do I remove a folder?", "And a file?")


async def test_what_it_does_not_know_has_no_sources(parts: Parts) -> None:
    parts.documentation.found = SearchResult(unknown="shutil.rmtre", did_you_mean=("shutil.rmtree",))
    reply_id = await ask(parts, "What does shutil.rmtre do?")
    assert not any(isinstance(event, Cited) for event in await events(parts, reply_id))
    reply = await parts.chats.reply(OWNER, reply_id)
    assert (reply.sources, reply.status) == ((), Status.DONE)
    assert "shutil.rmtree" in reply.content


async def test_a_question_waits_for_the_documentation_and_can_be_stopped(parts: Parts) -> None:
    parts.documentation.gate.clear()
    parts.documentation.status = parts.documentation.status.__class__(DocumentationState.BUILDING)
    stopped, kept = await ask(parts), await ask(parts)
    assert await parts.replies.stop(OWNER, stopped) is Status.STOPPED
    parts.documentation.gate.set()
    assert (await answered(parts, kept)).status is Status.DONE


async def test_a_reply_keeps_who_began_it_while_a_model_takes_over(parts: Parts) -> None:
    parts.served.set(EngineState.FETCHING)
    parts.documentation.gate.clear()
    begun = [await ask(parts), await ask(parts)]
    parts.served.set(EngineState.READY)
    assert parts.replies.answers is Answers.MODEL
    parts.documentation.found = SearchResult()
    parts.documentation.gate.set()
    parts.answer("From the model.")
    after = await ask(parts)
    by = [(await answered(parts, reply_id)).provenance.model for reply_id in (*begun, after)]
    assert by == ["documentation", "documentation", "scripted"]


@pytest.mark.parametrize("found", [EngineState.NONE, EngineState.FETCHING])
async def test_a_question_that_came_before_the_engine_was_known_is_answered_by_the_documentation(
    parts: Parts, found: EngineState
) -> None:
    parts.served.set(EngineState.LOADING)
    assert parts.replies.answers is Answers.MODEL
    reply_id = await ask(parts)
    parts.served.set(found)
    reply = await answered(parts, reply_id)
    assert (reply.status, reply.provenance.model) == (Status.DONE, "documentation")


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_model_that_is_lost_is_stood_in_for_and_the_reply_says_so(
    parts: Parts, is_lost: bool
) -> None:
    """Asked while it has failed, or is started again, and while it was still hoped for."""
    parts.served.set(EngineState.LOADING)
    waited = await ask(parts)
    lost = EngineState.LOADING if is_lost else EngineState.FAILED
    parts.served.set(lost, is_lost=is_lost)
    assert parts.replies.answers is Answers.DOCUMENTATION
    for reply_id in (waited, await ask(parts)):
        reply = await answered(parts, reply_id)
        assert reply.content.startswith(INSTEAD)
        assert "Recursively delete a directory tree." in reply.content
        assert (reply.status, reply.provenance.model) == (Status.DONE, "documentation")
    parts.served.set(EngineState.READY)
    parts.answer("From the model.")
    again = await parts.replies.retry(OWNER, waited)
    assert (await answered(parts, again.reply_id)).content == "From the model."


FAILURES = [
    (Unreachable("gone"), True),
    (GenerationFailed("broke"), True),
    (Overloaded("busy"), False),
    (Refused("no"), False),
    (PromptTooLong("too long"), False),
]


@pytest.mark.parametrize(("error", "stands_in"), FAILURES)
async def test_a_model_that_fails_before_any_text_is_stood_in_for_unless_it_only_refuses(
    parts: Parts, error: ModelError, stands_in: bool
) -> None:
    parts.served.set(EngineState.READY)
    reply_id = await ask(parts)
    parts.model.fail(error)
    reply = await answered(parts, reply_id)
    assert parts.served.looked is isinstance(error, Unreachable)
    if stands_in:
        assert (reply.status, reply.content.startswith(INSTEAD)) == (Status.DONE, True)
        assert (reply.provenance.model, reply.provenance.sampling) == ("documentation", None)
        assert reply.sources[0].name == "shutil.rmtree"
    else:
        assert (reply.status, reply.content) == (Status.FAILED, "")


@pytest.mark.parametrize("error", [error for error, _ in FAILURES])
async def test_what_a_model_has_said_is_kept_and_never_mixed_with_documentation(
    parts: Parts, error: ModelError
) -> None:
    parts.served.set(EngineState.READY)
    reply_id = await ask(parts)
    parts.model.say("half")
    parts.model.fail(error)
    reply = await answered(parts, reply_id)
    assert (reply.status, reply.content) == (Status.FAILED, "half")
    assert reply.failure == Failure(error.type, str(error))


async def test_nobody_answers_where_there_is_neither_a_model_nor_documentation(parts: Parts) -> None:
    parts.documentation.status = parts.documentation.status.__class__(DocumentationState.OFF)
    for state in (EngineState.NONE, EngineState.FAILED):
        parts.served.set(state, "It is broken.")
        assert parts.replies.answers is None
        with pytest.raises(NoModelLoaded, match="It is broken"):
            await ask(parts)
    parts.served.set(EngineState.LOADING, is_lost=True)  # it is waited for
    reply_id = await ask(parts)
    parts.served.set(EngineState.READY)
    parts.model.fail(Unreachable("gone"))
    end = (await events(parts, reply_id))[-1]
    assert end == End(Status.FAILED, None, Failure("engine_unreachable", "gone"), 0)


async def test_documentation_that_cannot_be_read_fails_in_words(parts: Parts) -> None:
    parts.documentation.error = DocumentationUnreadable("The documentation cannot be read: disk I/O error.")
    end = (await events(parts, await ask(parts)))[-1]
    assert isinstance(end, End)
    assert end.failure == Failure("no_documentation", str(parts.documentation.error))


async def test_a_model_is_given_what_the_documentation_has_and_its_citations_are_marked(parts: Parts) -> None:
    parts.served.set(EngineState.READY)
    reply_id = await ask(parts)
    following = aiter(await parts.replies.follow(OWNER, reply_id))
    assert await anext(following) == Cited((GIVEN,))
    parts.answer("Use it [1].")
    end = End(Status.DONE, FinishReason.EOS_TOKEN, None, 11)
    assert [event async for event in following if not isinstance(event, Delta)] == [Cited((CITED,)), end]
    assert parts.model.passages == [(GIVEN,)]
    assert (await parts.chats.reply(OWNER, reply_id)).sources == (CITED,)


@pytest.mark.parametrize(("text", "source"), [("Delete it [1], and", CITED), ("Delete it.", GIVEN)])
async def test_an_answer_that_is_stopped_or_fails_is_looked_through_too(
    parts: Parts, text: str, source: Source
) -> None:
    parts.served.set(EngineState.READY)
    reply_id = await ask(parts)
    parts.model.say(text)
    parts.model.fail(GenerationFailed("broke"))
    reply = await answered(parts, reply_id)
    assert (reply.status, reply.sources) == (Status.FAILED, (source,))


async def test_a_model_is_given_no_passages_for_small_talk_or_when_the_search_is_not_sure(
    parts: Parts,
) -> None:
    parts.served.set(EngineState.READY)
    parts.answer("Use rmtree.")
    chat = (await answered(parts, await ask(parts))).conversation_id
    for text, confidence, given in (
        ("And with a timeout?", 1.0, (GIVEN,)),
        ("thanks, that worked", 1.0, ()),
        ("How do I remove a file?", 0.3, ()),
        ("Write a haiku about it.", 1.0, ()),
    ):
        parts.documentation.found = dataclasses.replace(FOUND, confidence=confidence)
        parts.answer("Yes.")
        reply = await answered(parts, await ask(parts, text, chat))
        assert (text, parts.model.passages[-1], reply.sources) == (text, given, given)
    assert parts.documentation.asked[-1][0] == "How do I remove a folder?"


async def test_a_conversation_can_do_without(parts: Parts) -> None:
    parts.served.set(EngineState.READY)
    chat = await parts.chats.create(OWNER, grounding=False)
    parts.answer("Plain.")
    await events(parts, await ask(parts, chat=chat.id))
    assert (parts.model.passages, parts.documentation.asked) == ([None], [])
    await parts.chats.change(OWNER, chat.id, grounding=True)
    parts.answer("Grounded.")
    await events(parts, await ask(parts, chat=chat.id))
    assert parts.model.passages[-1] == (GIVEN,)


async def test_a_model_does_not_wait_for_documentation_and_does_without_what_is_broken(parts: Parts) -> None:
    parts.served.set(EngineState.READY)
    parts.documentation.is_searchable = False
    parts.documentation.gate.clear()
    parts.answer("Plain.")
    await events(parts, await ask(parts))
    parts.documentation.is_searchable = True
    parts.documentation.error = DocumentationUnreadable("broken")
    parts.documentation.gate.set()
    parts.answer("Plain.")
    assert (await answered(parts, await ask(parts))).status is Status.DONE
    assert parts.model.passages == [(), ()]


async def test_a_licence_is_accepted_before_the_first_reply(parts: Parts) -> None:
    parts.served.set(EngineState.READY, licence=OPENRAIL)
    with pytest.raises(LicenceNotAccepted, match=r"https://example\.org/terms") as refused:
        await ask(parts)
    assert refused.value.licence == OPENRAIL.id
    with pytest.raises(NotFound):
        await parts.licences.accept(OWNER, "another")
    await parts.licences.accept(OWNER, OPENRAIL.id)
    assert await parts.licences.may_use(OWNER, OPENRAIL)
    assert not await parts.licences.may_use("bob", OPENRAIL)
    parts.answer("Yes.")
    assert (await answered(parts, await ask(parts))).status is Status.DONE
    with pytest.raises(LicenceNotAccepted):
        await parts.replies.ask("bob", None, "q")


async def test_a_licence_that_is_known_only_when_the_model_is_there_is_asked_for_too(parts: Parts) -> None:
    parts.served.set(EngineState.LOADING)
    reply_id = await ask(parts)
    parts.served.set(EngineState.READY, licence=OPENRAIL)
    end = (await events(parts, reply_id))[-1]
    assert isinstance(end, End)
    assert end.failure.type == "licence_not_accepted"
