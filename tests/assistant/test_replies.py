import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from assistant import replies as replies_module
from assistant.conversation import Failure, FinishReason, Role, Status, Turn
from assistant.engine import EngineState
from assistant.errors import (
    Closing,
    EmptyText,
    GenerationFailed,
    NoModelLoaded,
    Overloaded,
    QueueFull,
    Unreachable,
)
from assistant.events import Delta, End, Reset, Waiting
from assistant.provenance import Generation, Provenance
from prompts.render import PromptError
from storage.database import Database
from storage.errors import DatabaseUnavailable, DiskFull, NotFound, StillAnswering
from storage.store import ConversationStore
from tests.assistant.conftest import OWNER, Parts, events, options, until


def text_of(heard: list[object]) -> str:
    return "".join(event.text for event in heard if isinstance(event, Delta | Reset))


async def test_an_answer_is_streamed_and_saved(parts: Parts) -> None:
    asked = await parts.replies.ask(OWNER, None, "How do I\nread a file?")
    parts.answer("Use ", "`open`", " 🦀.")
    heard = await events(parts, asked.reply_id)
    assert text_of(heard) == "Use `open` 🦀."
    assert heard[-1] == End(Status.DONE, FinishReason.EOS_TOKEN, None, 13)
    found, (_, reply) = await parts.chats.conversation(OWNER, asked.conversation_id)
    assert found.title == "How do I"
    assert (reply.content, reply.status) == ("Use `open` 🦀.", Status.DONE)
    generation = Generation(template_hash="abc", turns_dropped=None, seed=7)
    made = Provenance(model="scripted", sampling={"temperature": 0.0}, generation=generation)
    assert replace(reply.provenance, seconds=None) == made
    assert parts.model.asked == [[Turn(Role.USER, "How do I\nread a file?")]]


async def test_the_model_is_told_the_whole_branch(parts: Parts) -> None:
    chat = await parts.chats.create(OWNER)
    for question in ("q1", "q2"):
        asked = await parts.replies.ask(OWNER, chat.id, question)
        parts.answer(f"a to {question}")
        await events(parts, asked.reply_id)
    turns = [Turn(Role.USER, "q1"), Turn(Role.ASSISTANT, "a to q1"), Turn(Role.USER, "q2")]
    assert parts.model.asked[-1] == turns


async def test_a_listener_resumes_anywhere_during_and_after(parts: Parts) -> None:
    asked = await parts.begun("héllo 🦀")
    running = [asyncio.create_task(events(parts, asked.reply_id, after)) for after in (2, 7, 8, None)]
    for task in running:
        assert not task.done()
    await asyncio.sleep(0)
    parts.model.say(" done")
    parts.model.end("length")
    heard = [await task for task in running]
    assert [text_of(one) for one in heard] == ["llo 🦀 done", " done", "héllo 🦀 done", "héllo 🦀 done"]
    end = End(Status.DONE, FinishReason.LENGTH, None, 12)
    assert all(one[-1] == end for one in heard)
    assert await events(parts, asked.reply_id, 7) == [Delta(" done", 12), end]
    assert await events(parts, asked.reply_id, 12) == [end]
    assert await events(parts, asked.reply_id, 13) == [Reset("héllo 🦀 done", 12), end]
    assert await events(parts, asked.reply_id, None) == [Reset("héllo 🦀 done", 12), end]


async def test_stop_keeps_the_text_and_cancels_the_model(parts: Parts) -> None:
    asked = await parts.begun("half")
    following = asyncio.create_task(events(parts, asked.reply_id))
    assert await parts.replies.stop(OWNER, asked.reply_id) is Status.STOPPED
    assert parts.model.cancelled.is_set()
    assert await parts.replies.stop(OWNER, asked.reply_id) is Status.STOPPED
    heard = await following
    assert heard[-1] == End(Status.STOPPED, None, None, 4)
    _, (_, reply) = await parts.chats.conversation(OWNER, asked.conversation_id)
    assert (reply.content, reply.status, reply.finish_reason) == ("half", Status.STOPPED, None)


async def test_stop_before_the_first_step_is_kept(parts: Parts) -> None:
    asked = await parts.replies.ask(OWNER, None, "q")
    assert await parts.replies.stop(OWNER, asked.reply_id) is Status.STOPPED


async def test_stopping_what_has_ended_changes_nothing(parts: Parts) -> None:
    asked = await parts.replies.ask(OWNER, None, "q")
    parts.model.end()
    await events(parts, asked.reply_id)
    assert await parts.replies.stop(OWNER, asked.reply_id) is Status.DONE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unreachable("gone"), "engine_unreachable"),
        (Overloaded("busy"), "engine_overloaded"),
        (GenerationFailed("broke"), "engine_failed"),
        (PromptError("secret template"), "prompt"),
        (RuntimeError("secret detail"), "internal"),
    ],
)
async def test_a_failure_keeps_the_text_and_is_told_in_words(
    parts: Parts, error: Exception, kind: str
) -> None:
    asked = await parts.replies.ask(OWNER, None, "q")
    parts.model.say("half")
    parts.model.fail(error)
    heard = await events(parts, asked.reply_id)
    end = heard[-1]
    assert isinstance(end, End)
    assert (text_of(heard), end.status, end.failure.type) == ("half", Status.FAILED, kind)
    assert "secret" not in end.failure.message
    assert parts.served.looked is (kind == "engine_unreachable")
    again = await parts.replies.ask(OWNER, asked.conversation_id, "next")  # the next one works
    parts.answer("fine")
    assert text_of(await events(parts, again.reply_id)) == "fine"


@options(total_seconds=0.05)
async def test_an_answer_that_is_not_complete_in_time_is_ended_and_its_text_kept(parts: Parts) -> None:
    asked = await parts.replies.ask(OWNER, None, "q")
    parts.model.say("half")
    heard = await events(parts, asked.reply_id)
    assert text_of(heard) == "half"
    assert isinstance(heard[-1], End)
    assert heard[-1].failure == Failure("engine_failed", "The answer was not complete within 0.05 seconds.")
    assert parts.model.cancelled.is_set()  # nobody computes it any more


async def test_an_answer_without_an_end_has_failed(parts: Parts) -> None:
    asked = await parts.replies.ask(OWNER, None, "q")
    parts.model.say("half")
    parts.model.end(None)
    end = (await events(parts, asked.reply_id))[-1]
    assert (end.status, end.failure.type) == (Status.FAILED, "engine_failed")


async def test_a_retry_answers_the_same_question_again(parts: Parts) -> None:
    first = await parts.replies.ask(OWNER, None, "q")
    with pytest.raises(StillAnswering):
        await parts.replies.retry(OWNER, first.reply_id)
    parts.model.fail(GenerationFailed("broke"))
    await events(parts, first.reply_id)
    second = await parts.replies.retry(OWNER, first.reply_id)
    parts.answer("now")
    assert text_of(await events(parts, second.reply_id)) == "now"
    assert parts.model.asked == [[Turn(Role.USER, "q")]] * 2


async def test_without_a_model_nothing_is_stored(parts: Parts) -> None:
    parts.served.set(EngineState.NONE)
    chat = await parts.chats.create(OWNER)
    with pytest.raises(NoModelLoaded):
        await parts.replies.ask(OWNER, chat.id, "q")
    assert (await parts.chats.conversation(OWNER, chat.id))[1] == []


async def test_blank_text_is_refused(parts: Parts) -> None:
    for text in ("", " \n\t\u2028"):
        with pytest.raises(EmptyText):
            await parts.replies.ask(OWNER, None, text)


@options(max_replies=2)
async def test_a_full_queue_refuses_at_once_and_repeats_what_it_knows(parts: Parts) -> None:
    chats = [await parts.chats.create(OWNER) for _ in range(3)]
    first = await parts.replies.ask(OWNER, chats[0].id, "q", client_id="k")
    await parts.replies.ask(OWNER, chats[1].id, "q")
    with pytest.raises(QueueFull):
        await parts.replies.ask(OWNER, chats[2].id, "q")
    assert (await parts.chats.conversation(OWNER, chats[2].id))[1] == []
    again = await parts.replies.ask(OWNER, chats[0].id, "q", client_id="k")
    assert again.reply_id == first.reply_id
    await parts.replies.stop(OWNER, first.reply_id)
    await parts.replies.ask(OWNER, chats[2].id, "q")  # there is room again


async def test_a_question_sent_again_is_known_also_on_a_full_disk(
    parts: Parts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await parts.replies.ask(OWNER, None, "why?", client_id="k")
    full = SimpleNamespace(total=1 << 40, free=0)
    monkeypatch.setattr("storage.disk.shutil.disk_usage", lambda _: full)
    again = await parts.replies.ask(OWNER, asked.conversation_id, "why?", client_id="k")
    assert (again.message_id, again.reply_id) == (asked.message_id, asked.reply_id)
    with pytest.raises(DiskFull):
        await parts.replies.ask(OWNER, asked.conversation_id, "how?", client_id="l")


@options(max_replies=2)
async def test_questions_of_the_same_moment_do_not_overfill_the_queue(parts: Parts) -> None:
    asking = [parts.replies.ask(OWNER, None, "q") for _ in range(6)]
    asked = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(one, QueueFull) for one in asked) == 4


@options(max_replies=1)
async def test_a_refused_question_gives_its_place_back(parts: Parts) -> None:
    for _ in range(3):
        with pytest.raises(NotFound):
            await parts.replies.ask(OWNER, "nowhere", "q")
    await parts.replies.ask(OWNER, None, "q")


async def test_closing_interrupts_what_runs_and_stores_it(parts: Parts) -> None:
    asked = await parts.begun("half")
    following = asyncio.create_task(events(parts, asked.reply_id))
    await asyncio.sleep(0)
    await parts.close()
    assert (await following)[-1] == End(Status.INTERRUPTED, None, None, 4)
    with pytest.raises(Closing):
        await parts.replies.ask(OWNER, asked.conversation_id, "q")
    _, (_, reply) = await parts.chats.conversation(OWNER, asked.conversation_id)
    assert (reply.content, reply.status) == ("half", Status.INTERRUPTED)


async def test_what_cannot_be_settled_at_the_start_is_settled_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await ConversationStore(database, process="earlier").ask(OWNER, None, "q")
    write = database.write

    async def refuse(*arguments: object, **options: object) -> None:
        raise DatabaseUnavailable("disk full")

    monkeypatch.setattr(database, "write", refuse)
    monkeypatch.setattr(replies_module, "LOOK_SECONDS", 0)
    parts = Parts(database)
    await parts.start()
    assert (await parts.chats.reply(OWNER, left.reply_id)).status is Status.PENDING  # it can be read
    monkeypatch.setattr(database, "write", write)
    asked = await parts.replies.ask(OWNER, None, "q")
    async with asyncio.timeout(20):
        while (await parts.chats.reply(OWNER, left.reply_id)).status is not Status.INTERRUPTED:
            await asyncio.sleep(0)
    parts.answer("fine")
    assert (await events(parts, asked.reply_id))[-1] == End(Status.DONE, FinishReason.EOS_TOKEN, None, 4)
    await parts.close()


async def test_a_question_that_is_just_being_stored_is_interrupted_too(parts: Parts) -> None:
    asking = asyncio.create_task(parts.replies.ask(OWNER, None, "q"))
    await asyncio.sleep(0)  # it has its place, and waits for the database
    await parts.close()
    asked = await asking
    assert (await parts.chats.reply(OWNER, asked.reply_id)).status is Status.INTERRUPTED


async def test_deleting_a_conversation_ends_its_reply(parts: Parts) -> None:
    asked = await parts.begun("half")
    await parts.chats.delete(OWNER, asked.conversation_id)
    assert parts.model.cancelled.is_set()
    with pytest.raises(NotFound):
        await parts.replies.follow(OWNER, asked.reply_id)
    await parts.chats.restore(OWNER, asked.conversation_id)
    _, (_, reply) = await parts.chats.conversation(OWNER, asked.conversation_id)
    end = (reply.content, reply.status, reply.failure)
    assert end == ("half", Status.STOPPED, replies_module.DELETED)


async def test_a_reply_waits_for_its_turn_and_says_how_many_come_first(parts: Parts) -> None:
    parts.served.set(EngineState.READY, parallel=1)  # fewer than the application allows
    first, second, third = [(await parts.replies.ask(OWNER, None, "q")).reply_id for _ in range(3)]
    heard: list[object] = []

    async def listen() -> None:
        async for event in await parts.replies.follow(OWNER, third):
            heard.append(event)  # noqa: PERF401 (to be looked at while it grows)

    listening = asyncio.create_task(listen())
    await until(lambda: heard)
    assert heard == [Waiting(1)]
    assert len(parts.model.asked) <= 1
    assert await parts.replies.stop(OWNER, second) is Status.STOPPED  # while it waits
    await until(lambda: len(heard) == 2)
    assert heard == [Waiting(1), Waiting(0)]
    await parts.replies.stop(OWNER, first)
    parts.answer("at last")
    await listening
    assert heard[2:] == [Delta("at last", 7), End(Status.DONE, FinishReason.EOS_TOKEN, None, 7)]


async def test_an_engine_that_answers_more_at_once_lets_those_in_who_wait(parts: Parts) -> None:
    parts.served.set(EngineState.READY, parallel=1)
    for _ in range(2):
        await parts.replies.ask(OWNER, None, "q")
    parts.served.set(EngineState.READY, parallel=2)
    await until(lambda: len(parts.model.asked) == 2)


async def test_replies_of_another_owner_are_not_there(parts: Parts) -> None:
    asked = await parts.replies.ask(OWNER, None, "q")
    for attempt in (
        parts.replies.follow("bob", asked.reply_id),
        parts.replies.stop("bob", asked.reply_id),
        parts.replies.retry("bob", asked.reply_id),
        parts.chats.delete("bob", asked.conversation_id),
        parts.chats.restore("bob", asked.conversation_id),
        parts.chats.change("bob", asked.conversation_id, title="t"),
        parts.chats.reply("bob", asked.reply_id),
        parts.chats.conversation("bob", asked.conversation_id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert not parts.model.cancelled.is_set()


async def test_a_model_that_fails_to_load_while_a_question_waits(parts: Parts) -> None:
    parts.served.set(EngineState.LOADING)
    asked = await parts.replies.ask(OWNER, None, "q")
    parts.served.set(EngineState.FAILED)
    end = (await events(parts, asked.reply_id))[-1]
    assert (end.status, end.failure.type) == (Status.FAILED, "no_model")
