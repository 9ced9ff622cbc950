"""Deleted text is in no file: the tests search the data directory for its bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from assistant.conversation import FinishReason, Rating, Source, Status
from storage.database import CLEAN, Database
from storage.errors import NotFound
from storage.feedback import FeedbackStore
from storage.journal import Journal
from storage.owners import OwnerStore
from storage.running import Outcome
from storage.store import ConversationStore, StoredQuestion
from tests.faults.conftest import Count
from tests.support.application import PATIENCE, running, serving, upstream
from tests.support.listening import ask, client_of, events, hear, messages_of, new_chat

CANARY = "Kanarienvogel"
OWNER, OTHER = "ann", "bob"
SEEDS = 2
AT_ONCE = timedelta(0)


def found_in(folder: Path, text: str = CANARY) -> dict[str, int]:
    """The names of the files that contain the text, and how often."""
    files = (path for path in folder.rglob("*") if path.is_file())
    counts = {path.name: path.read_bytes().count(text.encode()) for path in files}
    return {name: count for name, count in counts.items() if count}


async def chat_of(
    store: ConversationStore,
    journal: Journal,
    feedback: FeedbackStore,
    owner: str,
    word: str,
    chance: random.Random,
) -> str:
    """A conversation full of one word: short and long texts, branches, streamed replies, feedback, two
    titles."""
    chat = await store.create_conversation(owner, f"{word} at first")
    replies: list[StoredQuestion] = []
    for number in range(chance.randint(1, 5)):
        text = f"{word} " * chance.choice((1, 5, 40, 300, 5000))
        parent = chance.choice((None, *(asked.reply_id for asked in replies)))
        asked = await store.ask(owner, chat.id, text, parent_id=parent, client_id=f"{word}-{number}")
        entry = journal.open(asked.reply_id)
        for _ in range(chance.randint(0, 3)):
            journal.append(entry, f"{word} " * chance.choice((1, 30, 500)))
            await anext(aiter(entry.follow(entry.known)))
        journal.cite(entry, (Source(word, word, word, "1", word, word, word, f"{word} " * 50),))
        await journal.settle(entry, Outcome(Status.DONE, FinishReason.EOS_TOKEN))
        await feedback.give(owner, asked.reply_id, Rating.DOWN, f"{word} " * chance.choice((1, 40)))
        replies.append(asked)
    await store.change(owner, chat.id, title=f"{word} and {word}")
    return chat.id


async def test_what_is_purged_or_renamed_is_in_no_file(
    store: ConversationStore, journal: Journal, database: Database, tmp_path: Path, count: Count
) -> None:
    feedback = FeedbackStore(database)
    before = chats = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        doomed: list[str] = []
        for _ in range(24):
            is_doomed = chance.random() < 0.5
            owner, word = (OWNER, CANARY) if is_doomed else (OTHER, "another")
            chat = await chat_of(store, journal, feedback, owner, word, chance)
            doomed += [chat] if is_doomed else []
        renamed, _ = await store.conversations(OTHER, limit=5)
        for one in renamed:
            await store.change(OTHER, one.id, title=f"{CANARY} was its name")
            await store.change(OTHER, one.id, title="renamed")
            _, (*_, reply) = await store.conversation(OTHER, one.id)
            await feedback.give(OTHER, reply.id, Rating.DOWN, f"{CANARY} is wrong")
            await feedback.give(OTHER, reply.id, Rating.UP if seed else None)
        before += sum(found_in(tmp_path).values())
        kept = [await store.conversation(OTHER, one.id) for one in renamed]
        chance.shuffle(doomed)
        for chat in doomed[1:]:
            await store.delete(OWNER, chat)
        await store.purge(older_than=AT_ONCE)
        await OwnerStore(database).erase(OWNER)
        assert await store.purge(older_than=AT_ONCE) == 1
        await database.clean(rewrite=True, patience=PATIENCE)
        assert found_in(tmp_path) == {}, seed
        assert [await store.conversation(OTHER, one.id) for one in renamed] == kept
        chats += len(doomed)
    count(f"deleted and renamed: chats {chats}, found before {before:,} times, afterwards 0")
    assert before > 1000


async def test_what_an_earlier_release_left_in_free_pages_is_cleaned_away(
    database_file: Path, tmp_path: Path
) -> None:
    Database(database_file).close()
    with contextlib.closing(sqlite3.connect(database_file, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE earlier (text)")
        connection.executemany("INSERT INTO earlier VALUES (?)", [(f"{CANARY} " * 500,)] * 50)
        connection.execute("DROP TABLE earlier")
        connection.execute("PRAGMA user_version = 0")
    assert found_in(tmp_path)
    database = Database(database_file)
    await database.clean(rewrite=False)
    assert found_in(tmp_path)
    await database.clean(rewrite=True, patience=PATIENCE)
    assert found_in(tmp_path) == {}
    version = await database.read(lambda one: one.exec_driver_sql("PRAGMA user_version").scalar())
    assert version == CLEAN
    database.close()


async def test_a_reader_is_waited_for_and_nobody_else_waits(
    database: Database, store: ConversationStore, database_file: Path, tmp_path: Path
) -> None:
    await store.create_conversation(OWNER, CANARY)
    with contextlib.closing(sqlite3.connect(database_file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM conversation").fetchone()
        await OwnerStore(database).erase(OWNER)
        await store.purge(older_than=AT_ONCE)
        cleaning = asyncio.create_task(database.clean(rewrite=True, patience=PATIENCE))
        for number in range(20):
            await store.create_conversation(OTHER, str(number))
        assert not cleaning.done()
        reader.execute("COMMIT")
    await cleaning
    assert found_in(tmp_path) == {}
    assert len((await store.conversations(OTHER, limit=50))[0]) == 20


async def test_erasing_ends_what_runs_and_leaves_nothing_anywhere(tmp_path: Path, count: Count) -> None:
    answer = " ".join(f"{CANARY}{number}" for number in range(1000))
    data = tmp_path / "data"
    with (
        upstream(answer, rate=100) as url,
        serving("--upstream", url) as layer,
        running(data, "--serving-url", layer.url, page=False, until="ready") as application,
    ):
        neighbour = httpx.AsyncClient(base_url=application.address, timeout=PATIENCE)
        async with client_of(application) as client, neighbour, asyncio.timeout(PATIENCE):
            kept = await new_chat(neighbour)
            await neighbour.patch(f"/api/conversations/{kept}", json={"title": "kept"})
            *chats, idle = [await new_chat(client) for _ in range(5)]
            body = {"text": f"{CANARY}, too"}
            for number, chat in enumerate(chats):
                reply = await ask(client, chat, f"{CANARY}? " * 10 ** (number + 1))
                async for _ in events(client, reply):
                    break
                await client.post(f"/api/replies/{reply}/stop")
                await client.patch(f"/api/conversations/{chat}", json={"title": f"{CANARY} {number}"})
            await client.delete(f"/api/conversations/{chats[0]}")  # it could still be restored
            replies = [await ask(client, chat, f"{CANARY}!") for chat in chats[1:]]
            listening = [asyncio.create_task(hear(client, reply)) for reply in replies]
            await asyncio.gather(*(anext(events(client, reply)) for reply in replies))
            before = found_in(data)
            racing = asyncio.create_task(client.post(f"/api/conversations/{idle}/messages", json=body))
            erased = await client.post("/api/me/erase", json={"confirm": "erase everything"})
            assert erased.status_code == 204
            assert (await racing).status_code in (202, 404)
            assert found_in(data) == {}
            ended = {one.end for one in await asyncio.gather(*listening)}
            assert ended == {"done"}, ended  # as stopped
            for chat in chats[1:]:
                with pytest.raises(httpx.HTTPStatusError, match="404"):
                    await messages_of(client, chat)
            assert (await client.get("/api/me/export")).json()["conversations"] == []
            assert (await neighbour.get(f"/api/conversations/{kept}")).json()["title"] == "kept"
        assert application.end() == 0
        assert found_in(data) == {}
        assert "Traceback" not in application.log
        assert CANARY not in application.log
    count(f"erased: found before {sum(before.values()):,} times in {len(before)} files, at once after it 0")
    assert sum(before.values()) > 1000


async def test_what_is_erased_cannot_be_had_again(database: Database, store: ConversationStore) -> None:
    chat = await store.create_conversation(OWNER, "mine")
    asked = await store.ask(OWNER, chat.id, "q")
    await store.delete(OWNER, chat.id)
    await OwnerStore(database).accept(OWNER, "terms")
    assert await OwnerStore(database).erase(OWNER)
    assert not await OwnerStore(database).erase(OWNER)
    for attempt in (store.restore(OWNER, chat.id), store.reply(OWNER, asked.reply_id)):
        with pytest.raises(NotFound):
            await attempt
    assert not await OwnerStore(database).has_accepted(OWNER, "terms")
