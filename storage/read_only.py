"""Reads a database that the application may have open at the same time, for commands that only look.

SQLite lets other processes read. This one can neither write nor checkpoint, so it disturbs nobody.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from storage.database import BUSY_MS, NEWEST, revision_of
from storage.diagnosis import TROUBLE, reason_of
from storage.errors import DatabaseUnavailable

T = TypeVar("T")


class ReadOnlyDatabase:
    """Raises `DatabaseUnavailable` if there is no such database, or not of the newest schema."""

    def __init__(self, path: Path) -> None:
        self._path = path
        address = f"{path.absolute().as_uri()}?mode=ro"
        seconds = BUSY_MS / 1000
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(address, uri=True, timeout=seconds, check_same_thread=False),
            poolclass=sa.NullPool,
            hide_parameters=True,
        )
        if not path.is_file():
            raise DatabaseUnavailable(f"There is no database {path}. Start the application once.")
        if self._snapshot(revision_of) != NEWEST:
            raise DatabaseUnavailable(
                f"The database {path} is of another release. Start the application of this release once."
            )

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` on one snapshot of the database."""
        return await asyncio.to_thread(self._snapshot, work)

    def _snapshot(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except TROUBLE as error:
            reason = reason_of(error)
            raise DatabaseUnavailable(f"The database {self._path} cannot be read: {reason}.") from None
