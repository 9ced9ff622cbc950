"""One SQLite database: its connections, its threads, its lock and its migrations.

Knows how to run a function in a transaction; refuses to know what the function does. There is one
writing connection, in one thread, which also checkpoints (SQLite up to 3.51.2 can corrupt a WAL that two
connections write or checkpoint at once); readers have their own connections, which cannot write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.errors import DatabaseInUse, DatabaseUnavailable, SchemaTooNew

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = "0002"  # the revision that the rows of `schema.py` are written for
READERS = 2  # connections and threads for reading
MOST_TOGETHER = 100  # works in one transaction


class Database:
    """An open SQLite database file, migrated to the newest schema.

    Raises `DatabaseInUse` while another process has it, `SchemaTooNew` when a newer release wrote it and
    `DatabaseUnavailable` when it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_name(path.name + ".lock"))
        try:
            self._writer = _engine(path, writes=True)
            self._reader = _engine(path, writes=False)
            migrate(self._writer)
        except sa.exc.DatabaseError as error:
            self._lock.close()
            raise DatabaseUnavailable(f"The database {path} cannot be opened: {error.orig}") from error
        except SchemaTooNew:
            self._lock.close()
            raise
        self._waiting: SimpleQueue[tuple[Callable[[sa.Connection], Any], Future[Any]]] = SimpleQueue()
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="storage-write")
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="storage-read")

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` on the writing connection; committed when this returns, or nothing of it is.

        Whatever waits to be written is written in one transaction, each work in a savepoint of its own:
        the disk is waited for once, however many people have asked at the same moment.
        """
        return await self._enqueue(partial(_in_session, work))

    async def execute(self, work: Callable[[sa.Connection], T]) -> T:
        """Like `write`, without the ORM: for the journal, whose rows are many and plain."""
        return await self._enqueue(work)

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on a consistent snapshot of what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._snapshot, work)

    def close(self) -> None:
        """Wait for what is under way, then close; readers first, so that the writer checkpoints last."""
        self._read_threads.shutdown(wait=True)
        self._write_thread.shutdown(wait=True)
        self._reader.dispose()
        self._writer.dispose()
        self._lock.close()

    async def _enqueue(self, work: Callable[[sa.Connection], T]) -> T:
        done: Future[T] = Future()
        self._waiting.put((work, done))
        self._write_thread.submit(self._transact)
        return await asyncio.wrap_future(done)

    def _transact(self) -> None:
        """Write what waits now, in the order in which it came; runs in the writing thread."""
        jobs: list[tuple[Callable[[sa.Connection], Any], Future[Any]]] = []
        with contextlib.suppress(Empty):
            while len(jobs) < MOST_TOGETHER:
                work, done = self._waiting.get_nowait()
                if done.set_running_or_notify_cancel():
                    jobs.append((work, done))
        if not jobs:
            return
        ended: list[tuple[Any, Exception | None]] = []
        try:
            with self._writer.begin() as connection:
                ended = [_attempt(connection, work) for work, _ in jobs]
        except sa.exc.DBAPIError as error:  # the database itself refuses: nothing of all this is stored
            unavailable = DatabaseUnavailable(f"The database refused to write: {error.orig}")
            ended = [(None, unavailable)] * len(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            ended = [(None, error)] * len(jobs)
        for (_, done), (result, failure) in zip(jobs, ended, strict=True):
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)

    def _snapshot(self, work: Callable[[Session], T]) -> T:
        try:
            with Session(self._reader, expire_on_commit=False) as session, session.begin():
                return work(session)
        except sa.exc.OperationalError as error:
            raise DatabaseUnavailable(f"The database could not be read: {error.orig}") from error


def _attempt(
    connection: sa.Connection, work: Callable[[sa.Connection], T]
) -> tuple[T | None, Exception | None]:
    """What one work returns or raises; when it raises, nothing of it stays."""
    try:
        with connection.begin_nested():
            return work(connection), None
    except sa.exc.OperationalError:
        raise
    except Exception as error:  # noqa: BLE001 - carried over to whoever waits for this work
        return None, error


def _in_session(work: Callable[[Session], T], connection: sa.Connection) -> T:
    with (
        Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session,
        session.begin(),
    ):
        return work(session)


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest revision. The caller holds the database's lock."""
    with engine.begin() as connection:
        if _revision(connection) == NEWEST:
            return
        # Late: most starts have nothing to migrate, and would wait for the import.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        current = _revision(connection)
        if current is not None and current not in known:
            raise SchemaTooNew(
                f"The database has schema {current}, which this release does not know. "
                "It was written by a newer release: update, or use another data directory."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _engine(path: Path, *, writes: bool) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        pool_size=1 if writes else READERS,
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.execute("PRAGMA foreign_keys = ON")
        if writes:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    # The driver's own transaction handling begins too late (only at the first change): begin ourselves.
    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _lock(path: Path) -> IO[str]:
    """Hold `path` for this process; the system lets go of it when the process ends, however it ends."""
    file = path.open("a+")
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        file.close()
        raise DatabaseInUse(
            f"Another Tech Assistant is using {path.parent}. Stop it, or give this one its own --data DIR."
        ) from None
    return file
