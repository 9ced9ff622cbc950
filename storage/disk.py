"""The room on a database's disk: a floor, below which nothing new begins, and a reserve.

What was begun has to end, and people have to be able to make room: the ends of replies and deletions are
written below the floor too. Where others have filled the disk to its last byte, a file that was kept for
this moment is removed. A start needs it as well: beside a database SQLite needs 32 KiB even to read it.

Knows bytes and files; refuses to know what is written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from storage.errors import DiskFull

FLOOR = 32 << 20  # bytes; of a small disk, a quarter
RESERVE = 4 << 20  # bytes, about what SQLite's log grows to; of a small disk, a sixteenth
MEBIBYTE = 1 << 20


class Disk:
    """The disk that holds `reserve`, a file beside the database; it may not be there."""

    def __init__(self, reserve: Path) -> None:
        self._reserve = reserve
        self._is_kept = reserve.exists()
        self.is_spending = False  # the reserve was given up, and there is not yet room for another

    def look(self, reusable: int = 0) -> DiskFull | None:
        """Why nothing new should be written now, or None.

        `reusable` are bytes that the database does not use any more but has not given back to the disk.
        They count, though only for half of the floor: what fills them goes through the log first, which
        needs the disk itself.
        """
        total, free = self._room()
        floor = _floor(total)
        return self.full(free) if free + min(reusable, floor // 2) < floor else None

    def full(self, free: int | None = None) -> DiskFull:
        """The error that says so; `free` bytes are left."""
        left = self._room()[1] if free is None else free
        return DiskFull(
            f"The disk of {self._reserve.parent} is almost full ({left / MEBIBYTE:.1f} MB left): "
            "chats can be read and deleted, but nothing new is written until there is room."
        )

    def keep_reserve(self) -> None:
        """Make the reserve, if it is not there and there is room for it."""
        if self._is_kept:
            return
        total, free = self._room()
        size = min(RESERVE, total // 16)
        if free < _floor(total) + size:
            return
        self._is_kept = True  # also when it fails: one try is enough until it was given up
        self.is_spending = False
        with contextlib.suppress(OSError), self._reserve.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.write(bytes(size))

    def give_up_reserve(self) -> None:
        with contextlib.suppress(OSError):  # there is none, or it must stay: then there is no room in it
            self._reserve.unlink()
        self._is_kept = False
        self.is_spending = True

    def prepare(self) -> None:
        """Before the database is opened: give it the room that it needs beside it."""
        if self._room()[1] < MEBIBYTE:
            self.give_up_reserve()

    def _room(self) -> tuple[int, int]:
        """Bytes of the whole disk, and those left; of a disk that does not tell, there is enough."""
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(self._reserve.parent)
            if usage.total:
                return usage.total, usage.free
        return 4 * FLOOR, 4 * FLOOR


def _floor(total: int) -> int:
    return min(FLOOR, total // 4)
