"""The free space on the database's disk: a floor for new work, and a reserve.

Below the floor, nothing new begins. What has begun must still end, and users must be able to free space, so
the ends of replies and deletions are written even then. The reserve is a file that we remove when other
programs have filled the disk to its last byte. A start may need that too: SQLite needs 32 KiB beside a
database even to read it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from storage.errors import DiskFull

log = logging.getLogger(__name__)

FLOOR = 32 << 20  # bytes; of a small disk, a quarter
RESERVE = 4 << 20  # bytes, about what SQLite's log grows to; of a small disk, a sixteenth
MEBIBYTE = 1 << 20


class Disk:
    """The disk of the `reserve`, a file beside the database that need not exist."""

    def __init__(self, reserve: Path) -> None:
        self._reserve = reserve
        self._is_kept = reserve.exists()
        self._is_told = False  # whether the log has that the disk is full
        self.is_spending = False  # the reserve was removed, and there is no space for a new one yet

    def look(self, reusable: int = 0) -> DiskFull | None:
        """The reason why nothing new may be written now, or None.

        `reusable` is the number of bytes inside the database that it no longer uses. They count for at most
        half of the floor: what fills them goes through the log first, which takes space on the disk.
        """
        total, free = self._space()
        floor = _floor(total)
        if free + min(reusable, floor // 2) < floor:
            return self.full(free)
        self._is_told = False
        return None

    def full(self, free: int | None = None) -> DiskFull:
        """The error of a full disk with `free` bytes left. Only the log names the folder."""
        left = self._space()[1] if free is None else free
        if not self._is_told:
            self._is_told = True
            log.error("the disk of %s is almost full", self._reserve.parent)
        return DiskFull(
            f"The disk that stores the chats is almost full ({left / MEBIBYTE:.1f} MB left). "
            "You can read and delete chats. To write new messages, free some space first."
        )

    def keep_reserve(self) -> None:
        """Create the reserve, if it does not exist and there is space for it."""
        if self._is_kept:
            return
        total, free = self._space()
        size = min(RESERVE, total // 16)
        if free < _floor(total) + size:
            return
        self._is_kept = True  # even if it fails: we try only once until it is removed
        self.is_spending = False
        with contextlib.suppress(OSError), self._reserve.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.write(bytes(size))

    def give_up_reserve(self) -> None:
        with contextlib.suppress(OSError):  # it does not exist or cannot be removed
            self._reserve.unlink()
        self._is_kept = False
        self.is_spending = True

    def prepare(self) -> None:
        """Make the space that the database needs to be opened."""
        if self._space()[1] < MEBIBYTE:
            self.give_up_reserve()

    def _space(self) -> tuple[int, int]:
        """The bytes of the whole disk, and the free ones. A disk that reports neither counts as free."""
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(self._reserve.parent)
            if usage.total:
                return usage.total, usage.free
        return 4 * FLOOR, 4 * FLOOR


def _floor(total: int) -> int:
    return min(FLOOR, total // 4)
