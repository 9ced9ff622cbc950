import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.conversation import Failure, FinishReason, Source, Status
from assistant.events import Cited, Delta, End, Reset
from assistant.provenance import Generation, Provenance
from storage import journal as journal_module
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.journal import Journal, JournalEntry
from storage.running import Outcome, Running
from storage.store import ConversationStore

OWNER = "ann"


async def opened(store: ConversationStore, journal: Journal) -> JournalEntry:
    return journal.open((await store.ask(OWNER, None, "why?")).reply_id)


@pytest.fixture
async def entry(store: ConversationStore, journal: Journal) -> JournalEntry:
    return await opened(store, journal)


class Refusing:
    """Stands for `Database.execute` and `write`, and refuses while `is_refused` says so."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.is_refused: Callable[[], bool] = lambda: False
        for name in ("execute", "write"):
            monkeypatch.setattr(database, name, partial(self._call, getattr(database, name)))
        monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0)

    async def _call(self, work: Callable[..., Any], *given: Any, **more: Any) -> Any:
        self.calls += 1
        if self.is_refused():
            raise DatabaseUnavailable("disk full")
        return await work(*given, **more)


@pytest.fixture
async def refusing(database: Database, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(database, monkeypatch)


async def collect(entry: JournalEntry, after: int = 0) -> str:
    """All the text that a listener gets."""
    return "".join([event.text async for event in entry.follow(after) if isinstance(event, Delta)])


async def test_every_listener_gets_every_character_wherever_it_began(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    text = "Ünï 🦀 code\r\n\u2028 end"
    early = []
    for character in text:
        early.append((entry.known, asyncio.create_task(collect(entry, entry.known))))
        journal.append(entry, character)
        while not entry.known:
            await asyncio.sleep(0)
    await journal.settle(entry, Outcome(Status.DONE, FinishReason.EOS_TOKEN))
    late = [await collect(entry, after) for after in range(len(text) + 1)]
    assert late == [text[after:] for after in range(len(text) + 1)]
    assert [await task for _, task in early] == [text[after:] for after, _ in early]
    reply = await store.reply(OWNER, entry.reply_id)
    assert (reply.content, reply.status, reply.finish_reason) == (text, Status.DONE, FinishReason.EOS_TOKEN)


async def test_what_is_shown_is_stored_first(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    shown = ""
    journal.append(entry, "0")
    async for event in entry.follow():
        assert isinstance(event, Delta)
        shown += event.text
        stored = await store.reply(OWNER, entry.reply_id)
        assert stored.content.startswith(shown)
        if len(shown) >= 20:
            break
        journal.append(entry, "x")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(pieces=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=12))
async def test_folding_keeps_the_text_whatever_the_pieces(database: Database, pieces: list[str]) -> None:
    store, journal = ConversationStore(database), Journal(database)
    journal.start()
    entry = await opened(store, journal)
    for piece in pieces:
        journal.append(entry, piece)
        await asyncio.sleep(0)
    await journal.settle(entry, Outcome(Status.STOPPED))
    assert (await store.reply(OWNER, entry.reply_id)).content == "".join(pieces) == await collect(entry)
    await journal.close()


SOURCE = Source("len", "len(obj)", "Python", "3.11.2", "PSF-2.0", "len.__doc__", "", "Return the “number”.")


async def test_sources_are_stored_before_they_are_shown_and_come_before_the_text(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    journal.cite(entry, (SOURCE,))
    following = aiter(entry.follow())
    assert await anext(following) == Cited((SOURCE,))
    stored = await store.reply(OWNER, entry.reply_id)
    assert (stored.sources, stored.status) == ((SOURCE,), Status.PENDING)
    journal.append(entry, "text")
    assert await anext(following) == Delta("text", 4)
    await journal.settle(entry, Outcome(Status.DONE))
    end = End(Status.DONE, None, None, 4)
    assert [event async for event in following] == [end]
    # A listener who comes back gets the sources again.
    assert [event async for event in entry.follow(2)] == [Cited((SOURCE,)), Delta("xt", 4), end]
    assert [event async for event in entry.follow(5)] == [Reset("text", 4), Cited((SOURCE,)), end]
    assert (await store.reply(OWNER, entry.reply_id)).sources == (SOURCE,)


async def test_the_last_sources_count(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    following = aiter(entry.follow())
    for sources in ((SOURCE, SOURCE), (SOURCE,), ()):
        journal.cite(entry, sources)
        assert await anext(following) == Cited(sources)
        assert (await store.reply(OWNER, entry.reply_id)).sources == sources
    await journal.settle(entry, Outcome(Status.DONE))
    assert [event async for event in entry.follow()] == [End(Status.DONE, None, None, 0)]


async def test_sources_of_a_reply_that_ends_at_once_are_kept(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    journal.cite(entry, (SOURCE, SOURCE))
    journal.append(entry, "all")
    await journal.settle(entry, Outcome(Status.DONE))
    end = End(Status.DONE, None, None, 3)
    assert [event async for event in entry.follow()] == [Cited((SOURCE, SOURCE)), Delta("all", 3), end]
    assert (await store.reply(OWNER, entry.reply_id)).sources == (SOURCE, SOURCE)


async def test_sources_outlive_a_crash(
    store: ConversationStore, database: Database, journal: Journal, entry: JournalEntry
) -> None:
    journal.cite(entry, (SOURCE,))
    await anext(aiter(entry.follow()))
    await Running(database, process="next").settle_abandoned()  # as the next start does
    reply = await store.reply(OWNER, entry.reply_id)
    assert (reply.sources, reply.status) == ((SOURCE,), Status.INTERRUPTED)


async def test_many_replies_share_a_commit(
    store: ConversationStore, journal: Journal, refusing: Refusing
) -> None:
    entries = [await opened(store, journal) for _ in range(50)]
    before = refusing.calls
    for entry in entries:
        journal.append(entry, "word")
    await asyncio.gather(*(anext(aiter(entry.follow())) for entry in entries))
    assert refusing.calls - before <= 2


async def test_the_journal_waits_out_a_database_that_refuses(
    journal: Journal, entry: JournalEntry, refusing: Refusing
) -> None:
    refusing.is_refused = iter([True, True, False]).__next__
    journal.append(entry, "kept")
    assert await anext(aiter(entry.follow())) == Delta("kept", 4)


async def test_text_that_cannot_be_stored_is_never_shown(
    store: ConversationStore, journal: Journal, entry: JournalEntry, refusing: Refusing
) -> None:
    journal.append(entry, "stored")
    assert await anext(aiter(entry.follow())) == Delta("stored", 6)
    refusing.is_refused = lambda: True
    journal.append(entry, " and late")
    async with asyncio.timeout(10):
        while entry.trouble is None:
            await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        journal.append(entry, " more")
    await journal.settle(entry, Outcome(Status.DONE, FinishReason.EOS_TOKEN))
    assert await collect(entry) == "stored"
    assert entry.outcome is not None
    assert (entry.outcome.status, entry.outcome.failure.type) == (Status.FAILED, "storage")
    refusing.is_refused = lambda: False  # the disk has room again: what was generated is stored after all
    async with asyncio.timeout(10):
        while (reply := await store.reply(OWNER, entry.reply_id)).status is not Status.DONE:
            await asyncio.sleep(0.01)
    assert reply.content == "stored and late"


async def test_a_reply_that_comes_while_the_database_refuses_does_not_wait_as_long_again(
    store: ConversationStore, journal: Journal, entry: JournalEntry, refusing: Refusing
) -> None:
    other = await opened(store, journal)
    refusing.calls = 0

    def refuse() -> bool:
        if refusing.calls == 2:
            journal.append(other, "late")
        return True

    refusing.is_refused = refuse
    journal.append(entry, "early")
    async with asyncio.timeout(20):
        while other.trouble is None:
            await asyncio.sleep(0)
    assert refusing.calls == journal_module.GIVE_UP_AFTER


async def test_a_commit_that_breaks_fails_its_replies_and_not_the_journal(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    other = await opened(store, journal)
    journal.append(entry, "\ud83e")  # half a character, which no database keeps
    async with asyncio.timeout(20):
        while entry.trouble is None:
            await asyncio.sleep(0)
        journal.append(other, "fine")
        assert await anext(aiter(other.follow())) == Delta("fine", 4)


async def test_the_outcome_is_stored_with_the_text(
    store: ConversationStore, journal: Journal, entry: JournalEntry
) -> None:
    journal.append(entry, "half")
    failure = Failure("engine_failed", "It broke.")
    made = Provenance(model="m", generation=Generation("abc", None, seed=3))
    await journal.settle(entry, Outcome(Status.FAILED, failure=failure, provenance=made))
    reply = await store.reply(OWNER, entry.reply_id)
    assert (reply.content, reply.status, reply.failure) == ("half", Status.FAILED, failure)
    assert reply.provenance == made
    assert (await store.conversation(OWNER, reply.conversation_id))[0].model == "m"


@pytest.mark.parametrize(("model", "is_cited"), [("documentation", True), ("Small", False), (None, False)])
async def test_sources_of_an_older_release_are_cited_if_the_reply_is_a_quotation(
    store: ConversationStore, database: Database, journal: Journal, model: str | None, is_cited: bool
) -> None:
    entry = await opened(store, journal)
    journal.cite(entry, (SOURCE,))
    await journal.settle(entry, Outcome(Status.DONE, provenance=Provenance(model=model)))
    older = sa.text("UPDATE message SET sources = json_remove(sources, '$[0].cited')")
    await database.write(lambda connection: connection.execute(older))
    (source,) = (await store.reply(OWNER, entry.reply_id)).sources
    assert source == dataclasses.replace(SOURCE, cited=is_cited)
