"""Detects that the files of an open database were removed, replaced or cut short.

SQLite keeps using the files that it has opened. If another program removes or replaces one, SQLite's later
writes are lost without an error.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _FileState:
    device: int
    inode: int
    size: int

    def matches(self, now: _FileState) -> bool:
        """Whether the file is still the same, and not shorter."""
        return (now.device, now.inode) == (self.device, self.inode) and now.size >= self.size


class Files:
    """The files of the database at `path`: the database, its log, and the index of the log."""

    def __init__(self, path: Path) -> None:
        self._database, self._log = path, path.with_name(path.name + "-wal")
        paths = (self._database, self._log, path.with_name(path.name + "-shm"))
        self._known = {path: state for path in paths if (state := _state(path)) is not None}

    @property
    def are_ours(self) -> bool:
        """Whether all are still the files that were opened, and not shorter than their known size."""
        for path, known in self._known.items():
            if (now := _state(path)) is None or not known.matches(now):
                return False
        return True

    def log_grew(self) -> None:
        """We have written to the log, which only makes it longer."""
        self._learn(self._log)

    def database_may_shrink(self) -> None:
        """We have rewritten the database, which may become shorter when the log is emptied."""
        self._forget_size(self._database)

    def log_was_emptied(self) -> None:
        """We have copied the log into the database, and emptied it."""
        for path in (self._log, self._database):
            self._forget_size(path)
            self._learn(path)

    def _forget_size(self, path: Path) -> None:
        if (known := self._known.get(path)) is not None:
            self._known[path] = replace(known, size=0)

    def _learn(self, path: Path) -> None:
        """Remember the current size of a file, if it is ours and not shorter than before."""
        known, now = self._known.get(path), _state(path)
        if known is not None and now is not None and known.matches(now):
            self._known[path] = now


def _state(path: Path) -> _FileState | None:
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return _FileState(status.st_dev, status.st_ino, status.st_size)
    return None
