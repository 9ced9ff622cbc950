"""What is wrong with a SQLite database, in sentences that quote nothing that is stored.

SQLite's own messages may quote it.
"""

from __future__ import annotations

import logging
import sqlite3
import traceback
from pathlib import Path

import sqlalchemy as sa

from storage.disk import Disk
from storage.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

DAMAGED = "it is damaged, or is no database"
CURE = "restore a backup or save what can be read: docs/docker.md says how"
# What SQLite raises, and what reading a damaged row may raise.
TROUBLE = (
    *(sa.exc.SQLAlchemyError, sqlite3.Error),
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError),
)


class Diagnosis:
    """Turns the errors of one database file into `DatabaseUnavailable`, and logs each trouble once."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.found_damage = False
        self._path = path
        self._disk = disk
        self._logged: set[str] = set()

    def of(self, error: Exception) -> Exception:
        """The error that callers get; `error` itself if the database is not to blame."""
        if not isinstance(error, TROUBLE):
            return error
        names = sqlite_names(error)
        is_of_disk = any(name.startswith("SQLITE_IOERR") for name in names)
        if "SQLITE_FULL" in names or (is_of_disk and self._disk.look() is not None):
            return self._disk.full()
        reason = reason_of(error)
        if reason == DAMAGED:
            return self.damage(found_by=_origin(error))
        self._log_once(reason)
        return DatabaseUnavailable(f"The database cannot be used now: {reason}.")

    def damage(self, *, found_by: str) -> DatabaseUnavailable:
        """Remember that the file is damaged."""
        self.found_damage = True
        self._log_once(f"{self.damaged()} ({found_by})")
        return self.damaged()

    def damaged(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"The database {self._path.name} is damaged: not all of it can be read. Stop the application, "
            f"and {CURE}."
        )

    def moved(self) -> DatabaseUnavailable:
        moved = DatabaseUnavailable(
            f"The database {self._path.name} was removed, replaced or cut short by another program: nothing "
            f"is stored any more. Stop the application, and {CURE}."
        )
        self._log_once(str(moved))
        return moved

    def _log_once(self, message: str) -> None:
        """Every request may meet the same trouble; the log has it once."""
        if message not in self._logged:
            self._logged.add(message)
            log.error("%s", message)


def reason_of(error: Exception) -> str:
    """Why the database cannot be used."""
    names = sqlite_names(error)
    # An error without a SQLite name comes from a row that cannot be read.
    if not names or any(name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) for name in names):
        return DAMAGED
    return f"SQLite says {names[-1]}"


def sqlite_names(error: BaseException | None) -> list[str]:
    """SQLite's names of an error and of those that led to it.

    When SQLite has rolled a transaction back by itself, the last error says that a savepoint is missing, and
    an earlier one has the reason.
    """
    names = []
    while error is not None:
        if name := getattr(error, "sqlite_errorname", ""):
            names.append(name)
        error = error.__context__
    return names


def _origin(error: Exception) -> str:
    """What found the damage, for the log."""
    if names := sqlite_names(error):
        return names[-1]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
