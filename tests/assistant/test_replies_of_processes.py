"""Replies of two processes over one database: leases, stops and streams that cross from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from assistant import replies as replies_module
from assistant.conversation import Message, Source, Status
from assistant.events import Cited, Delta, End, Reset
from storage.database import Database
from storage.running import LEASE, Running, utc_now
from storage.schema import messages
from storage.store import ConversationStore
from tests.assistant.conftest import OWNER, Parts

SOURCE = Source(
    "os.remove", "os.remove(path)", "python", "3.11", "PSF-2.0", "library/os", "", "Remove a file."
)


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes have the database open, as far as its users can tell."""
    monkeypatch.setattr(Database, "is_shared", True)
    monkeypatch.setattr(replies_module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(replies_module, "LOOKS_A_RENEWAL", 1)


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Parts]:
    """The process whose model answers."""
    async with Parts(database, process="here") as parts:
        yield parts


@pytest.fixture
async def there(database: Database, here: Parts) -> AsyncIterator[Parts]:
    """Another process, which starts while the first answers."""
    async with Parts(database, process="there") as parts:
        yield parts


async def until(parts: Parts, reply_id: str, text: str = "", status: Status = Status.STREAMING) -> Message:
    """Wait for a stored state of a reply."""
    async with asyncio.timeout(20):
        while True:
            reply = await parts.chats.reply(OWNER, reply_id)
            if reply.status is status and reply.content == text:
                return reply
            await asyncio.sleep(0)


async def test_a_start_settles_only_replies_whose_lease_has_run_out(database: Database, here: Parts) -> None:
    asked = await here.begun("I do")
    long_ago = ConversationStore(
        database, process="gone", now=lambda: utc_now() - LEASE - timedelta(minutes=1)
    )
    just_now = ConversationStore(database, process="busy")
    abandoned, held = [await store.ask(OWNER, None, "q") for store in (long_ago, just_now)]
    async with Parts(database, process="another") as another:
        await until(another, abandoned.reply_id, "", Status.INTERRUPTED)
        assert (await another.chats.reply(OWNER, held.reply_id)).status is Status.PENDING
        here.answer(".")
        await until(another, asked.reply_id, "I do.", Status.DONE)


async def test_the_process_that_runs_a_reply_renews_its_lease(database: Database, here: Parts) -> None:
    asked = await here.replies.ask(OWNER, None, "q")
    lease = sa.select(messages.c.process, messages.c.lease_until).where(messages.c.id == asked.reply_id)
    process, first = await database.read(lambda connection: connection.execute(lease).one())
    assert (process, first > utc_now()) == ("here", True)
    async with asyncio.timeout(20):
        while (await database.read(lambda connection: connection.execute(lease).one())).lease_until <= first:
            await asyncio.sleep(0)
    here.model.end()


async def test_a_reply_of_another_process_is_stopped_by_a_request(here: Parts, there: Parts) -> None:
    asked = await here.begun("half")
    assert await there.replies.stop(OWNER, asked.reply_id) is Status.STOPPED
    assert here.model.cancelled.is_set()
    assert (await here.chats.reply(OWNER, asked.reply_id)).content == "half"


async def test_deleting_a_conversation_stops_its_reply_in_another_process(here: Parts, there: Parts) -> None:
    asked = await here.begun("half")
    following = await there.replies.follow(OWNER, asked.reply_id)
    assert await anext(following) == Delta("half", 4)
    await there.chats.delete(OWNER, asked.conversation_id)
    assert [event async for event in following] == [End(Status.STOPPED, None, None, 4)]
    async with asyncio.timeout(20):
        await here.model.cancelled.wait()
        await there.chats.restore(OWNER, asked.conversation_id)
        while not (reply := await there.chats.reply(OWNER, asked.reply_id)).status.is_final:
            await asyncio.sleep(0)
    assert reply.failure == replies_module.DELETED


async def test_a_reply_of_another_process_is_followed_from_the_journal(here: Parts, there: Parts) -> None:
    asked = await here.replies.ask(OWNER, None, "q")
    listeners = [aiter(await there.replies.follow(OWNER, asked.reply_id, after)) for after in (0, None, 99)]
    assert await asyncio.gather(*map(anext, listeners[1:])) == [Reset("", 0), Reset("", 0)]
    for piece in ("héllo", " 🦀", " world"):
        here.model.say(piece)
        told = [await anext(listener) for listener in listeners]
        assert {(event.text, type(event)) for event in told} == {(piece, Delta)}  # type: ignore[union-attr]
    late = await there.replies.follow(OWNER, asked.reply_id, 6)
    assert await anext(late) == Delta("🦀 world", 13)
    here.model.end()
    end = End(Status.DONE, replies_module.FinishReason.EOS_TOKEN, None, 13)
    for listener in (*listeners, late):
        assert [event async for event in listener] == [end]


async def test_a_process_that_has_lost_its_lease_shows_nothing_more(
    database: Database, here: Parts, there: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause that was longer than the lease: what is shown is stored, even then."""
    asked = await here.begun("shown")
    monkeypatch.setattr(replies_module, "LOOK_SECONDS", 1000)  # its next look comes too late
    later = Running(database, process="there", now=lambda: utc_now() + LEASE + timedelta(seconds=30))
    following = await here.replies.follow(OWNER, asked.reply_id)
    assert await anext(following) == Delta("shown", 5)
    async with asyncio.timeout(20):
        while not await later.settle_abandoned():
            await asyncio.sleep(0)
    here.model.say(" and lost")
    here.answer(" for good")
    rest = [event async for event in following]
    assert rest == [End(Status.INTERRUPTED, None, None, 5)]
    await until(there, asked.reply_id, "shown", Status.INTERRUPTED)
    assert (await there.replies.ask(OWNER, asked.conversation_id, "And now?")).is_new


async def test_sources_reach_listeners_in_another_process(here: Parts, there: Parts) -> None:
    asked = await here.replies.ask(OWNER, None, "q")
    run = here.replies._runs[asked.reply_id]
    here.replies._journal.cite(run.entry, (SOURCE,))
    async with asyncio.timeout(20):
        following = await there.replies.follow(OWNER, asked.reply_id)
        assert await anext(following) == Cited((SOURCE,))
