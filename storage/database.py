"""One SQLite database: its connections, threads, lock and migrations; a full disk and a damaged file.

One connection writes, in one thread, which also checkpoints: SQLite up to 3.51.2 can corrupt a WAL that two
connections write or checkpoint at once. Readers have their own connections, which cannot write. Whatever goes
wrong with the database is raised as `DatabaseUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import sqlalchemy as sa

from storage.diagnosis import CURE, DAMAGED, TROUBLE, Diagnosis, reason_of, sqlite_names
from storage.disk import Disk
from storage.errors import DatabaseInUse, DatabaseUnavailable, DiskFull, SchemaTooNew
from storage.files import Files

log = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = "0008"  # the revision that the rows of `schema.py` are written for
BUSY_MS = 5000  # how long to wait for another program that has the database
READERS = 2  # connections and threads for reading
MOST_TOGETHER = 100  # jobs in one transaction
EXAMINED_SECONDS = 5.0  # the most that looking for damage may take

# Whether copies of deleted text may be left in the file: see `leave_traces` and `Database.clean`.
UNCLEAN, CLEAN = 0, 1  # stored as SQLite's user_version; files of earlier releases have 0
REWRITTEN = 64 << 20  # bytes of the largest database that is rewritten, which takes as much memory
REST = 10  # after a rewrite, other work has the writing thread for so many times its duration


@dataclass(slots=True)
class _Job(Generic[T]):
    """Work that waits for the writing connection.

    On a disk that is almost full, work that `is_new` is refused; work that `makes_room` may use the reserve.
    """

    work: Callable[[sa.Connection], T]
    is_new: bool = False
    makes_room: bool = False
    done: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Database:
    """An open SQLite database file, migrated to the newest schema; of one event loop at a time.

    Raises `DatabaseInUse` while another process has it, `SchemaTooNew` when a newer release wrote it and
    `DatabaseUnavailable` when it cannot be opened.
    """

    is_shared = False  # whether several processes can have it open at once

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(path.with_name(path.name + ".lock"))
        except OSError as error:
            raise DatabaseUnavailable(
                f"The database {path} cannot be opened: {error.strerror or error}"
            ) from error
        self._path = path
        self.process = uuid.uuid4().hex  # names this process in the leases of running replies
        self._disk = Disk(path.with_name(path.name + ".reserve"))
        self._disk.prepare()
        try:
            self._writer = _engine(path, writes=True)
            self._reader = _engine(path, writes=False)
            migrate(self._writer)
        except TROUBLE as error:
            self._lock.close()
            reason = reason_of(error)
            cure = f" To put it right, {CURE}." if reason == DAMAGED else ""
            raise DatabaseUnavailable(f"The database {path} cannot be opened: {reason}.{cure}") from None
        except SchemaTooNew:
            self._lock.close()
            raise
        self._disk.keep_reserve()
        self._files = Files(path)
        self._diagnosis = Diagnosis(path, self._disk)
        self._examining: sqlite3.Connection | None = None
        self._may_rewrite_at = 0.0  # monotonic
        self._waiting: deque[_Job[Any]] = deque()
        self._is_writing = False
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="storage-write")
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="storage-read")

    async def write(self, work: Callable[[sa.Connection], T], *, makes_room: bool = False) -> T:
        """Run `work` on the writing connection. All of it is committed when this returns, or nothing.

        Work that waits at the same moment shares one transaction, so that all of it waits for the disk once.
        Each work still fails alone: one may therefore run twice, the first time in vain.

        On a disk that is almost full this raises `DiskFull` at once, unless the work `makes_room`: deletes
        something, or ends something that had begun.
        """
        return await self._enqueue(_Job(work, is_new=not makes_room, makes_room=makes_room))

    async def execute(self, work: Callable[[sa.Connection], T]) -> T:
        """Like `write`, for work on something that had begun while there was room: only SQLite refuses it."""
        return await self._enqueue(_Job(work))

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` on a consistent snapshot of what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._snapshot, work)

    async def check(self) -> None:
        """Raises `DatabaseUnavailable` if it cannot be read or written, `DiskFull` if nothing new can be."""
        if self._diagnosis.found_damage:
            raise self._diagnosis.damaged()
        await self.execute(lambda connection: None)
        reusable = await self.read(_reusable)
        if (full := self._disk.look(reusable)) is not None:
            raise full

    async def examine(self) -> None:
        """Look for damage, for a few seconds at most. If there is any, it is logged and `check` raises it."""
        await asyncio.to_thread(self._examine)

    async def clean(self, *, rewrite: bool, patience: float = 0.0) -> None:
        """Remove from the files what is left of deleted text.

        SQLite overwrites deleted text, but copies stay in the log and in gaps of pages. This empties the log
        and, with `rewrite`, rewrites a database that is not too large. While a reader is in the way, or right
        after a rewrite, it tries again for `patience` seconds, and then leaves it to the next call.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while not await loop.run_in_executor(self._write_thread, self._clean, rewrite):
            if loop.time() >= end:
                return
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Wait for work under way, then close: readers first, so that the writer checkpoints last."""
        if (examining := self._examining) is not None:
            examining.interrupt()
        self._read_threads.shutdown(wait=True)
        self._write_thread.shutdown(wait=True)
        while self._waiting:
            self._transact(self._next_jobs())
        self._reader.dispose()
        self._writer.dispose()
        self._lock.close()

    async def _enqueue(self, job: _Job[T]) -> T:
        self._waiting.append(job)
        self._write_on()
        return await job.done

    def _write_on(self) -> None:
        """Hand all waiting work to the writing thread in one call, then what has come meanwhile: when many
        ask at once, calls between threads cost more than writing does."""
        if not self._is_writing and (jobs := self._next_jobs()):
            self._write_thread.submit(self._transact, jobs)
            self._is_writing = True

    def _next_jobs(self) -> list[_Job[Any]]:
        """The next work that shares a transaction, in the order in which it came, without cancelled work."""
        jobs: list[_Job[Any]] = []
        while self._waiting and len(jobs) < MOST_TOGETHER:
            if not (job := self._waiting.popleft()).done.cancelled():
                jobs.append(job)
        return jobs

    def _transact(self, jobs: Sequence[_Job[Any]]) -> None:
        """Runs in the writing thread, and for the last work in the thread that closes the database."""
        if not jobs:
            return
        try:
            ended = self._write_all(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            ended = [(None, error)] * len(jobs)
        ended = [(result, failure and self._diagnosis.of(failure)) for result, failure in ended]
        try:
            jobs[0].done.get_loop().call_soon_threadsafe(self._written, jobs, ended)
        except RuntimeError:  # the loop has ended: nobody waits any more
            self._is_writing = False

    def _written(self, jobs: Sequence[_Job[Any]], ended: Sequence[tuple[Any, Exception | None]]) -> None:
        self._is_writing = False
        for job, (result, failure) in zip(jobs, ended, strict=True):
            if job.done.cancelled():
                continue
            if failure is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(failure)
        self._write_on()

    def _write_all(self, jobs: Sequence[_Job[Any]]) -> list[tuple[Any, Exception | None]]:
        """What each job returns or raises. On a full disk, jobs that make room have a second try."""
        ended = self._attempt_all(jobs)
        refused = [
            place
            for place, (job, (_, failure)) in enumerate(zip(jobs, ended, strict=True))
            if job.makes_room and isinstance(failure, DiskFull)
        ]
        if refused:
            self._make_room()
            again = self._attempt_all([jobs[place] for place in refused])
            for place, end in zip(refused, again, strict=True):
                ended[place] = end
        else:
            self._disk.keep_reserve()
        return ended

    def _attempt_all(self, jobs: Sequence[_Job[Any]]) -> list[tuple[Any, Exception | None]]:
        """What each job returns or raises, in one transaction."""
        try:
            try:
                return self._run(jobs, apart=False)
            except _Raised:  # nothing is stored yet: once more, each in a savepoint of its own
                return self._run(jobs, apart=True)
        except sa.exc.DBAPIError as error:  # the database refuses: nothing of all this is stored
            refusal = self._diagnosis.of(error)
            is_of_all = isinstance(refusal, DiskFull) or "SQLITE_BUSY" in sqlite_names(error)
            if len(jobs) > 1 and not is_of_all:
                return [end for job in jobs for end in self._attempt_all([job])]
            return [(None, refusal)] * len(jobs)

    def _run(self, jobs: Sequence[_Job[Any]], *, apart: bool) -> list[tuple[Any, Exception | None]]:
        if not self._files.are_ours:
            return [(None, self._diagnosis.moved())] * len(jobs)
        with self._writer.begin() as connection:
            full = self._disk.look() and self._disk.look(_reusable(connection))
            ended = [
                (None, full) if full and not self._may_write(job) else _end_of(job, connection, apart=apart)
                for job in jobs
            ]
        self._files.log_grew()
        return ended

    def _may_write(self, job: _Job[Any]) -> bool:
        """Whether a job may use the last free room of the disk. The reserve is for jobs that make room."""
        return job.makes_room or not (job.is_new or self._disk.is_spending)

    @contextlib.contextmanager
    def _between_transactions(self) -> Iterator[sqlite3.Connection]:
        """The driver's own connection for writing, in its thread, which raises the driver's own errors:
        SQLAlchemy would begin a transaction."""
        with self._writer.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            yield driver

    def _make_room(self) -> None:
        """Make room for last writes: give the reserve up, and let SQLite write the log from its beginning."""
        self._disk.give_up_reserve()
        with self._between_transactions() as connection, contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _clean(self, rewrite: bool) -> bool:
        """Whether nothing more can be done now to remove what is left of deleted text."""
        if self._diagnosis.found_damage or not self._files.are_ours:
            return True
        try:
            with self._between_transactions() as connection:
                is_clean = not rewrite or self._is_rewritten(connection)
                try:
                    connection.execute("PRAGMA busy_timeout = 0")  # nobody waits here for a slow reader
                    is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            if not is_busy:
                self._files.log_was_emptied()
        except TROUBLE as error:  # a full disk, above all: the next call tries again
            log.warning("deleted text could not be cleaned away: %s", self._diagnosis.of(error))
            return True
        return is_clean and not is_busy

    def _is_rewritten(self, connection: sqlite3.Connection) -> bool:
        """Rewrite the database if it must be and may be. False if that has to wait."""
        state, pages, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("user_version", "page_count", "page_size")
        )
        needed = 2 * pages * size  # the log holds all of it before the file does
        if state == CLEAN or pages * size > REWRITTEN or self._disk.look(-needed) is not None:
            return True
        began = time.monotonic()
        if began < self._may_rewrite_at:
            return False
        connection.execute("VACUUM")
        self._files.database_may_shrink()
        connection.execute(f"PRAGMA user_version = {CLEAN}")
        ended = time.monotonic()
        self._may_rewrite_at = ended + REST * (ended - began)
        return True

    def _examine(self) -> None:
        """Look through the file on a new connection, which has none of it in memory yet."""
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._examining = connection
            limit = threading.Timer(EXAMINED_SECONDS, connection.interrupt)
            limit.start()
            try:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    self._diagnosis.damage(found_by="a look at the whole file")
            finally:
                self._examining = None
                limit.cancel()
                limit.join()
                connection.close()
        except sqlite3.Error as error:
            if "SQLITE_INTERRUPT" not in sqlite_names(error):
                self._diagnosis.of(error)

    def _snapshot(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self._reader.begin() as connection:
                return work(connection)
        except TROUBLE as error:
            raise self._diagnosis.of(error) from None


class _Raised(Exception):
    """One of several jobs has raised an error of its own, which must not harm the others."""


def _end_of(job: _Job[T], connection: sa.Connection, *, apart: bool) -> tuple[T | None, Exception | None]:
    """What a job returns, or raises if it runs `apart` in a savepoint, so that nothing of it stays.

    Most jobs raise nothing and need no savepoint. One that raises without a savepoint raises `_Raised`.
    """
    try:
        with connection.begin_nested() if apart else contextlib.nullcontext():
            return job.work(connection), None
    except sa.exc.DBAPIError:
        raise
    except Exception as error:
        if apart:
            return None, error
        raise _Raised from error


def _reusable(connection: sa.Connection) -> int:
    """Bytes of the file that are free; new text goes there first."""
    pages, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("freelist_count", "page_size")
    )
    return int(pages) * int(size)


def leave_traces(connection: sa.Connection) -> None:
    """Mark a transaction that deletes text: copies of the text may stay until `Database.clean`."""
    connection.exec_driver_sql(f"PRAGMA user_version = {UNCLEAN}")


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest revision. The caller holds the database's lock."""
    with engine.begin() as connection:
        if revision_of(connection) == NEWEST:
            return
        # Imported late: most starts have nothing to migrate.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        current = revision_of(connection)
        if current is not None and current not in known:
            raise SchemaTooNew(
                f"The database has schema {current}, which this release does not know. "
                "It was written by a newer release: update, or use another data directory."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def revision_of(connection: sa.Connection) -> str | None:
    """The revision of a database's schema. None before the first."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _engine(path: Path, *, writes: bool) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        pool_size=1 if writes else READERS,
        max_overflow=0,
        hide_parameters=True,  # what people write is nothing for a log
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        if writes:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            # Overwrites deleted text. That takes as much room again until the checkpoint, so large deletions
            # are made in steps.
            cursor.execute("PRAGMA secure_delete = ON")
            # Undoing part of a transaction must not need room in a temporary directory, which may be full.
            cursor.execute("PRAGMA temp_store = MEMORY")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    # The driver's own transaction handling begins too late (only at the first change): begin ourselves.
    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _lock(path: Path) -> IO[str]:
    """Lock `path` for this process. The system releases it when the process ends, however it ends."""
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
