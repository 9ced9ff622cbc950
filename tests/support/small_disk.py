"""A disk of a few megabytes, which a test may fill to the last byte: a tmpfs, which root can mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        """Fill it until `leave` bytes are left, as another program would."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while self.free - size >= leave:
                        file.write(bytes(size))

    def empty(self) -> None:
        """Delete what `fill` wrote."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(at: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at the path `at`; skips the test where the system does not let us mount it."""
    at.mkdir()
    mount = f"mount -t tmpfs -o size={size} none '{at}'"
    mounted = subprocess.run(mount, shell=True, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(at)
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)
