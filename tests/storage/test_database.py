import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from storage.database import MIGRATIONS, NEWEST, Database
from storage.errors import DatabaseInUse, DatabaseUnavailable, SchemaTooNew
from storage.schema import metadata
from storage.store import ConversationStore

INSERT = "INSERT INTO conversation (id, owner, title, created_at, updated_at)"


class Slow:
    """Work that holds the writing thread until it may end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, connection: sa.Connection) -> None:
        self.begun.set()
        self.may_end.wait(20)


async def test_migrations_lead_to_the_schema_of_the_rows(database: Database) -> None:
    def compare(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == NEWEST
        return list(compare_metadata(context, metadata))

    assert await database.execute(compare) == []


def test_a_database_of_each_earlier_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = "('c', 'ann', 'Kept', '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
        connection.exec_driver_sql(f"{INSERT} VALUES {values}")
    engine.dispose()
    database = Database(path)
    page, _ = asyncio.run(ConversationStore(database).conversations("ann", limit=10))
    assert [chat.title for chat in page] == ["Kept"]
    database.close()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_its_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    Database(tmp_path / "data" / "chats.db").close()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_second_process_is_told_that_the_data_is_in_use(tmp_path: Path) -> None:
    first = Database(tmp_path / "chats.db")
    with pytest.raises(DatabaseInUse, match="--data"):
        Database(tmp_path / "chats.db")
    first.close()
    Database(tmp_path / "chats.db").close()


def test_a_database_of_a_newer_release_is_refused_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for _ in range(2):  # the second time shows that the first one released its lock
        with pytest.raises(SchemaTooNew, match="newer release"):
            Database(path)


@pytest.mark.parametrize("name", ["file", "file/chats.db"])
def test_a_file_or_a_directory_that_cannot_be_used_is_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"not a database" * 1000)
    with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
        Database(tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"not a database" * 1000


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="SQLITE_READONLY"):
        await database.read(lambda session: session.execute(sa.text("DELETE FROM message")))


async def test_the_database_keeps_its_promises_to_disk(database: Database) -> None:
    def pragmas(connection: sa.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.execute(pragmas) == ["wal", 2, 1]


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"{INSERT} VALUES ('c', 'o', '', '2026-01-01', '2026-01-01')")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await database.execute(work)
    count = await database.read(lambda s: s.execute(sa.text("SELECT count(*) FROM conversation")).scalar())
    assert count == 0


async def test_works_that_wait_together_fail_apart(database: Database) -> None:
    def add(number: int) -> Callable[[sa.Connection], int]:
        def work(connection: sa.Connection) -> int:
            connection.exec_driver_sql(f"{INSERT} VALUES ('{number}', 'o', '', '2026', '2026')")
            if number % 3 == 0:
                raise ValueError(number)
            return number

        return work

    results = await asyncio.gather(*(database.execute(add(n)) for n in range(30)), return_exceptions=True)
    kept = await database.read(lambda s: s.execute(sa.text("SELECT id FROM conversation")).scalars().all())
    assert [n for n in results if isinstance(n, int)] == [n for n in range(30) if n % 3]
    assert sorted(map(int, kept)) == [n for n in range(30) if n % 3]


async def test_a_statement_that_fails_hurts_no_other(database: Database) -> None:
    def good(connection: sa.Connection) -> int:
        return 1

    def bad(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SELECT * FROM nothing")

    ended = await asyncio.gather(*map(database.write, (good, good, bad, good)), return_exceptions=True)
    assert isinstance(ended.pop(2), DatabaseUnavailable)
    assert ended == [1, 1, 1]


def test_a_loop_that_ends_in_mid_write_leaves_the_next_one_free(tmp_path: Path) -> None:
    database = Database(tmp_path / "chats.db")
    slow = Slow()

    async def leave() -> None:
        writing = asyncio.create_task(database.write(slow))
        await asyncio.to_thread(slow.begun.wait, 20)
        writing.cancel()

    asyncio.run(leave())
    slow.may_end.set()
    database._write_thread.submit(lambda: None).result()  # the slow one has come to its end
    assert asyncio.run(asyncio.wait_for(database.write(lambda connection: 1), 20)) == 1
    database.close()


@pytest.mark.parametrize("is_closing", [False, True])
async def test_a_work_that_is_given_up_before_its_turn_is_not_done(tmp_path: Path, is_closing: bool) -> None:
    database = Database(tmp_path / "chats.db")
    slow, ran = Slow(), threading.Event()
    first = asyncio.create_task(database.execute(slow))
    await asyncio.to_thread(slow.begun.wait, 20)
    second = asyncio.create_task(database.execute(lambda connection: ran.set()))
    await asyncio.sleep(0)
    second.cancel()
    slow.may_end.set()
    if not is_closing:
        await first
        await database.execute(lambda connection: None)
    database.close()
    await first  # closing writes what waits
    assert not ran.is_set()


async def test_whatever_breaks_a_commit_reaches_those_who_wait(database: Database) -> None:
    @sa.event.listens_for(database._writer, "commit", once=True)
    def break_once(connection: sa.Connection) -> None:
        raise RuntimeError("broken")

    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="broken"):
            await database.execute(lambda connection: None)
        assert await database.execute(lambda connection: 1) == 1
