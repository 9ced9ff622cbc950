"""The files of an open database: whether they are still those that were opened.

SQLite goes on with the files that it has opened. Where somebody removes, replaces or cuts one short, what is
written afterwards goes into nothing, and nobody is told.

Knows names, inodes and sizes; refuses to know what is in a file.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Seen:
    device: int
    inode: int
    size: int

    def is_in(self, now: _Seen) -> bool:
        """Whether `now` is the same file, and no shorter."""
        return (now.device, now.inode) == (self.device, self.inode) and now.size >= self.size


class Files:
    """The database at `path`, its log and the index of that, as they were when this was made."""

    def __init__(self, path: Path) -> None:
        self._database, self._log = path, path.with_name(path.name + "-wal")
        paths = (self._database, self._log, path.with_name(path.name + "-shm"))
        self._seen = {path: seen for path in paths if (seen := _look(path)) is not None}

    @property
    def are_ours(self) -> bool:
        """Whether all of them are those that were opened, and no shorter than we know them to be."""
        for path, seen in self._seen.items():
            if (now := _look(path)) is None or not seen.is_in(now):
                return False
        return True

    def log_grew(self) -> None:
        """We have written: the log never gets shorter by that."""
        self._learn(self._log)

    def database_may_shrink(self) -> None:
        """We have rewritten it: it gets shorter when the log is emptied."""
        self._forget_size(self._database)

    def log_was_emptied(self) -> None:
        """It was we, and the database holds all of it."""
        for path in (self._log, self._database):
            self._forget_size(path)
            self._learn(path)

    def _forget_size(self, path: Path) -> None:
        if (seen := self._seen.get(path)) is not None:
            self._seen[path] = replace(seen, size=0)

    def _learn(self, path: Path) -> None:
        """Take the size that a file has now, if it is ours and no shorter than it was."""
        seen, now = self._seen.get(path), _look(path)
        if seen is not None and now is not None and seen.is_in(now):
            self._seen[path] = now


def _look(path: Path) -> _Seen | None:
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return _Seen(status.st_dev, status.st_ino, status.st_size)
    return None
