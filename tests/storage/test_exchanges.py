"""What the report of a site reads, and feedback."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from assistant.conversation import Feedback, Rating, Source, Status
from assistant.provenance import Provenance
from storage.database import Database
from storage.errors import DatabaseUnavailable, NotFound
from storage.exchanges import LONGEST_QUESTION, ExchangeStore
from storage.feedback import FeedbackStore
from storage.journal import Journal
from storage.read_only import ReadOnlyDatabase
from storage.running import Outcome
from storage.schema import conversations, feedback, messages
from storage.store import ConversationStore, StoredQuestion
from tests.storage.conftest import Clock

OWNER, SITE, OTHER_SITE = "ann", "site", "other"
SOURCE = Source("n", "Title", "p", "1", "", "page.md:3", "https://docs.example.org/page", "quote")
CITED = replace(SOURCE, quote="")  # what a report reads of it
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def given(database: Database, clock: Clock) -> FeedbackStore:
    return FeedbackStore(database, now=clock)


async def asked_at_site(
    database: Database, store: ConversationStore, journal: Journal, site: str | None, question: str
) -> StoredQuestion:
    """A question and its answer, in a new conversation of a site."""
    asked = await store.ask(OWNER, None, question)
    await database.write(
        lambda connection: connection.execute(
            update(conversations).where(conversations.c.id == asked.conversation_id).values(site=site)
        )
    )
    await end(journal, asked)
    return asked


async def end(journal: Journal, asked: StoredQuestion) -> None:
    entry = journal.open(asked.reply_id)
    journal.append(entry, "answer")
    journal.cite(entry, (SOURCE, replace(SOURCE, cited=False)))
    await journal.settle(entry, Outcome(Status.DONE, provenance=Provenance(model="m", seconds=2.0)))


async def test_a_site_has_its_own_exchanges_alone_and_only_those_that_are_over(
    database: Database, store: ConversationStore, journal: Journal, given: FeedbackStore, clock: Clock
) -> None:
    exchanges = ExchangeStore(database)
    old = await asked_at_site(database, store, journal, SITE, "old")
    clock.now += timedelta(days=2)
    since = clock.now
    first = await asked_at_site(database, store, journal, SITE, "x" * 2 * LONGEST_QUESTION)
    for site in (OTHER_SITE, None, SITE.upper(), ""):
        await asked_at_site(database, store, journal, site, f"of {site}")
    deleted = await asked_at_site(database, store, journal, SITE, "deleted")
    await store.delete(OWNER, deleted.conversation_id)
    running = await store.ask(OWNER, old.conversation_id, "runs")
    again = await store.retry(OWNER, first.reply_id)
    await end(journal, again)
    await given.give(OWNER, first.reply_id, Rating.DOWN, "wrong")

    found = await exchanges.of_site(SITE, since=since)
    assert [(one.question_id, one.feedback and one.feedback.text) for one in found] == [
        (first.message_id, None),
        (first.message_id, "wrong"),
    ]
    assert found[0].question == "x" * LONGEST_QUESTION
    assert (found[0].status, found[0].cited, found[0].provenance.seconds) == (Status.DONE, (CITED,), 2.0)
    everything = await exchanges.of_site(SITE, since=BEGINNING)
    assert [one.question_id for one in everything if one not in found] == [old.message_id]
    assert await exchanges.of_site(SITE, since=BEGINNING, limit=1) == found[:1]
    await end(journal, running)
    assert (await exchanges.of_site(SITE, since=since))[0].question == "runs"


async def test_exchanges_are_found_by_an_index(database: Database) -> None:
    ran: list[tuple[str, Any]] = []
    event.listen(database._reader, "before_cursor_execute", lambda *call: ran.append((call[2], call[3])))
    await ExchangeStore(database).of_site(SITE, since=BEGINNING)
    ((statement, values),) = [call for call in ran if "feedback" in call[0]]
    steps = await database.read(
        lambda connection: [
            row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    )
    assert "ix_conversation_site (site=? AND updated_at>?)" in steps[0]
    assert [step for step in steps if step.startswith("SCAN")] == []


async def test_feedback_is_its_owners_and_goes_with_the_reply(
    database: Database, store: ConversationStore, journal: Journal, given: FeedbackStore
) -> None:
    asked = await store.ask(OWNER, None, "why?")
    await end(journal, asked)
    await given.give(OWNER, asked.reply_id, Rating.UP)
    await given.give(OWNER, asked.reply_id, Rating.DOWN, "wrong")
    for owner, message in (("bob", asked.reply_id), (OWNER, asked.message_id), (OWNER, "nobody's")):
        with pytest.raises(NotFound):
            await given.give(owner, message, None)
    reply = await store.reply(OWNER, asked.reply_id)
    assert reply.feedback is not None
    assert replace(reply.feedback, given_at=BEGINNING) == Feedback(Rating.DOWN, "wrong", BEGINNING)
    _, (question, same) = await store.conversation(OWNER, asked.conversation_id)
    assert (question.feedback, same) == (None, reply)

    await store.delete(OWNER, asked.conversation_id)
    with pytest.raises(NotFound):
        await given.give(OWNER, asked.reply_id, Rating.UP)
    await store.purge(older_than=timedelta(0))
    assert await database.read(lambda connection: connection.execute(select(feedback)).all()) == []


@pytest.mark.parametrize("damage", ["rating = 'good'", "text = x'00'", "given_at = 'today'"])
async def test_damaged_feedback_is_damage(
    database: Database, store: ConversationStore, journal: Journal, given: FeedbackStore, damage: str
) -> None:
    asked = await asked_at_site(database, store, journal, SITE, "why?")
    await given.give(OWNER, asked.reply_id, Rating.UP, "good")
    await database.write(lambda connection: connection.execute(text(f"UPDATE feedback SET {damage}")))
    for attempt in (
        store.reply(OWNER, asked.reply_id),
        ExchangeStore(database).of_site(SITE, since=BEGINNING),
    ):
        with pytest.raises(DatabaseUnavailable, match="is damaged"):
            await attempt


async def test_another_process_reads_what_is_stored_and_changes_nothing(
    database: Database, store: ConversationStore, journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "chats.db"
    asked = await asked_at_site(database, store, journal, SITE, "why?")
    other = ReadOnlyDatabase(path)
    found = await ExchangeStore(other).of_site(SITE, since=BEGINNING)
    assert [one.question_id for one in found] == [asked.message_id]
    with pytest.raises(DatabaseUnavailable, match="cannot be read: SQLite says SQLITE_READONLY"):
        await other.read(lambda connection: connection.execute(messages.delete()))
    await asked_at_site(database, store, journal, SITE, "and now?")
    assert len(await ExchangeStore(other).of_site(SITE, since=BEGINNING)) == 2


def test_a_database_that_cannot_be_read_alone_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with pytest.raises(DatabaseUnavailable, match="no database"):
        ReadOnlyDatabase(path)
    database = Database(path)
    asyncio.run(
        database.write(lambda one: one.exec_driver_sql("UPDATE alembic_version SET version_num = '0006'"))
    )
    database.close()
    with pytest.raises(DatabaseUnavailable, match="of another release"):
        ReadOnlyDatabase(path)
    path.write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseUnavailable, match="is no database"):
        ReadOnlyDatabase(path)
