"""The disk runs full: what was shown stays, and what is new is refused until there is room again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from assistant.conversation import FinishReason, Status
from assistant.events import Delta
from storage.database import Database
from storage.errors import DiskFull
from storage.journal import Journal
from storage.owners import OwnerStore
from storage.running import Outcome, Running
from storage.store import ConversationStore
from tests.faults.conftest import Count
from tests.support.application import PATIENCE, ROOT, running, serving, upstream
from tests.support.listening import ask, client_of, events, hear, messages_of, new_chat
from tests.support.small_disk import SmallDisk

OWNER = "ann"
MEGABYTE = 1 << 20
CHATS = 4
ANSWER = " ".join(f"wörd{number}🦀" for number in range(400))
ADD = sa.text("INSERT INTO piece VALUES (:id, :start, :text)")
PURGE = sa.text("DELETE FROM conversation")


@pytest.fixture
def database_file(disk: SmallDisk) -> Path:
    return disk.path / "chats.db"


async def test_below_the_floor_nothing_new_begins_and_what_was_begun_ends(
    disk: SmallDisk, database: Database, store: ConversationStore, journal: Journal
) -> None:
    chat, other = [await store.create_conversation(OWNER) for _ in range(2)]
    entry = journal.open((await store.ask(OWNER, chat.id, "why?")).reply_id)
    disk.fill(leave=3 * MEGABYTE)
    for attempt in (
        store.create_conversation(OWNER),
        store.ask(OWNER, other.id, "how?"),
        store.retry(OWNER, entry.reply_id),
        database.check(),
    ):
        with pytest.raises(DiskFull, match=r"almost full \(3\.0 MB left\)"):
            await attempt
    journal.append(entry, "Because.")
    assert await anext(aiter(entry.follow())) == Delta("Because.", 8)
    await journal.settle(entry, Outcome(Status.DONE, FinishReason.EOS_TOKEN))
    assert (await store.reply(OWNER, entry.reply_id)).status is Status.DONE
    await store.delete(OWNER, other.id)
    disk.empty()
    await database.check()
    await store.ask(OWNER, chat.id, "how?")


async def test_what_is_deleted_makes_room_although_the_file_stays_as_large(
    disk: SmallDisk, database: Database, database_file: Path
) -> None:
    store = ConversationStore(database)
    chat = await store.create_conversation(OWNER)
    await store.ask(OWNER, chat.id, "x" * (2 * MEGABYTE))
    database.close()
    database = Database(database_file)
    store = ConversationStore(database)
    disk.fill(leave=3 * MEGABYTE)
    with pytest.raises(DiskFull):
        await store.create_conversation(OWNER)
    await database.write(lambda connection: connection.execute(PURGE), makes_room=True)
    await database.clean(rewrite=False)  # deleting overwrites the text, which filled the database's log
    await database.check()
    await store.create_conversation(OWNER)
    database.close()


async def test_on_a_disk_filled_to_the_last_byte_people_can_read_and_delete(
    disk: SmallDisk, database: Database, store: ConversationStore
) -> None:
    chats = [await store.create_conversation(OWNER, str(n)) for n in range(50)]
    disk.fill()
    assert disk.free == 0
    for chat in chats[:40]:
        await store.delete(OWNER, chat.id)
    page, _ = await store.conversations(OWNER, limit=100)
    assert [chat.title for chat in page] == [str(n) for n in range(49, 39, -1)]
    with pytest.raises(DiskFull):
        await store.create_conversation(OWNER)
    disk.empty()
    await store.create_conversation(OWNER)


async def test_much_text_is_erased_though_its_disk_has_no_room_for_as_much_again(
    disk: SmallDisk, database: Database, store: ConversationStore
) -> None:
    """Deleting overwrites the text, and the database's log has to hold that too."""
    chat = await store.create_conversation(OWNER)
    for _ in range(40):
        await store.ask(OWNER, chat.id, "x" * 100_000)
        await Running(database, process="next").settle_abandoned()
    await database.clean(rewrite=False)
    disk.fill()
    assert await OwnerStore(database).erase(OWNER)
    assert await store.purge(older_than=timedelta(0)) == 1
    await database.clean(rewrite=True)
    files = [path for path in disk.path.iterdir() if path.name.startswith("chats.db")]
    assert [path.name for path in files if b"x" * 50 in path.read_bytes()] == []


@pytest.mark.parametrize("length", [100, 3 * MEGABYTE])
async def test_text_for_which_there_is_no_room_is_not_stored_and_not_half_of_it(
    disk: SmallDisk, database: Database, store: ConversationStore, length: int
) -> None:
    """Even if the text is larger than the cache of the transaction."""
    chat = await store.create_conversation(OWNER)
    asked = await store.ask(OWNER, chat.id, "why?")
    disk.fill()
    stored = 0

    def add(connection: sa.Connection) -> None:
        row = {"id": asked.reply_id, "start": stored, "text": "x" * length}
        connection.execute(ADD, row)

    with contextlib.suppress(DiskFull):
        while True:
            await database.execute(add)
            stored += length
    reply = await store.reply(OWNER, asked.reply_id)
    assert reply.content == "x" * stored
    disk.empty()
    await database.execute(add)


async def test_when_the_reserve_is_used_up_every_writer_gets_the_reason(
    disk: SmallDisk, database: Database, store: ConversationStore
) -> None:
    asked = await store.ask(OWNER, (await store.create_conversation(OWNER)).id, "why?")
    disk.fill()
    rows = [{"id": asked.reply_id, "start": start, "text": "x" * 10_000} for start in range(1000)]
    written = 0
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(DiskFull):
            for row in rows:
                await database.write(
                    lambda connection, row=row: connection.execute(ADD, row), makes_room=True
                )
                written += 1
    assert 0 < written < len(rows)
    assert len((await store.reply(OWNER, asked.reply_id)).content) == written * 10_000
    with pytest.raises(DiskFull):  # the reserve is only for what makes room
        await database.execute(lambda connection: connection.execute(ADD, rows[-1]))


async def test_a_database_on_a_full_disk_opens_and_is_read(
    disk: SmallDisk, database: Database, store: ConversationStore, database_file: Path
) -> None:
    chat = await store.create_conversation(OWNER, "kept")
    asked = await store.ask(OWNER, chat.id, "why?")
    database.close()
    disk.fill()
    for _ in range(2):
        database = Database(database_file)
        store = ConversationStore(database)
        assert (await store.conversation(OWNER, chat.id))[0].title == "kept"
        with pytest.raises(DiskFull):
            await database.check()
        await Running(database, process="next").settle_abandoned()
        assert (await store.reply(OWNER, asked.reply_id)).status is Status.INTERRUPTED
        database.close()
    disk.empty()
    database = Database(database_file)
    await database.check()
    database.close()


async def test_an_application_whose_disk_runs_full_stays_readable_and_recovers_by_itself(
    disk: SmallDisk, count: Count
) -> None:
    with (
        upstream(ANSWER, rate=40) as url,
        serving("--upstream", url) as layer,
        running(disk.path, "--serving-url", layer.url, page=False, until="ready") as application,
    ):
        async with client_of(application) as client, asyncio.timeout(PATIENCE):
            chats = [await new_chat(client) for _ in range(CHATS)]
            spare = [await new_chat(client) for _ in range(CHATS)]
            replies = [await ask(client, chat, "q") for chat in chats]
            listening = [asyncio.create_task(hear(client, reply)) for reply in replies]
            await asyncio.gather(*(anext(events(client, reply)) for reply in replies))
            disk.fill()
            refused = 0
            for method, address, body in (
                ("POST", f"conversations/{spare[0]}/messages", {"text": "and now?"}),
                ("POST", "conversations", {}),
                ("PATCH", f"conversations/{spare[0]}", {"title": "new"}),
            ):
                answer = await client.request(method, f"/api/{address}", json=body)
                assert (answer.status_code, answer.json()["type"]) == (503, "storage"), answer.text
                assert "almost full" in answer.json()["detail"]
                assert int(answer.headers["Retry-After"]) > 0
                refused += 1
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()["type"]) == (503, "storage")
            for chat in spare[1:]:
                assert (await client.delete(f"/api/conversations/{chat}")).status_code == 204
            heard = await asyncio.gather(*listening)  # until the journal gives up
            for chat, one in zip(chats, heard, strict=True):
                assert one.end_data["type"] == "storage", one.end_data
                assert (await messages_of(client, chat))[-1]["content"].startswith(one.text)
        application.kill()
        await asyncio.to_thread(application.start)
        async with client_of(application) as client, asyncio.timeout(PATIENCE):
            missing = unsettled = 0
            for chat, one in zip(chats, heard, strict=True):
                stored = (await messages_of(client, chat))[-1]
                missing += not stored["content"].startswith(one.text)
                unsettled += stored["status"] not in ("failed", "interrupted")
            disk.empty()
            assert (await client.get("/ready")).status_code == 200
            name, data = await anext(events(client, await ask(client, spare[0], "and now?"), 0))
            assert name == "delta", data
    shown = sum(len(one.text) for one in heard)
    count(
        f"disk full: replies under way {CHATS}, shown {shown:,} code points, missing {missing}, unsettled "
        f"{unsettled}, refused with a reason {refused}, deleted {CHATS - 1}, restarted once"
    )
    assert (missing, unsettled) == (0, 0)
    assert "Traceback" not in application.log, application.log


@pytest.mark.skipif(os.geteuid() == 0, reason="root has run these tests already")
def test_the_same_where_nobody_is_root(count: Count) -> None:
    """Runs this file in a namespace of its own, where it may mount; not every system allows that."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("this system does not let every user have a namespace")
    tests = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", __file__]
    ended = subprocess.run([*namespace, *tests], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "no small disk" not in ended.stdout, ended.stdout
    for line in ended.stdout.splitlines():
        if line.startswith("disk full: "):
            count(line)
