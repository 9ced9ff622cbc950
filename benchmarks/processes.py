"""The CPU time, memory and threads of processes, from the Linux kernel's /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MEBIBYTE = 1024  # in kibibytes, as /proc counts


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process in mebibytes: all of it, and with its share of what other processes use too."""

    rss: float
    pss: float


def cpu_seconds(*pids: int) -> float:
    """The CPU seconds that all threads of these processes have used."""
    ticks = 0
    for pid in pids:
        user, system = _stat(pid)[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> Memory:
    sizes = dict(
        re.findall(r"^(Rss|Pss): +(\d+) kB$", (PROC / f"{pid}/smaps_rollup").read_text(), re.MULTILINE)
    )
    return Memory(int(sizes["Rss"]) / MEBIBYTE, int(sizes["Pss"]) / MEBIBYTE)


def threads(pid: int) -> int:
    return int(_stat(pid)[17])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, which may contain blanks and brackets."""
    return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
