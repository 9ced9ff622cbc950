"""What processes cost, as the kernel counts it: CPU seconds, memory, threads, children. Linux alone.

Knows /proc; refuses to know what the processes do.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MEBIBYTE = 1024  # in kibibytes, as /proc counts


@dataclass(frozen=True, slots=True)
class Memory:
    """Mebibytes of a process: all that is mapped into it, and its share of what others have mapped too."""

    rss: float
    pss: float


def cpu_seconds(*pids: int) -> float:
    """CPU seconds that these processes have used, all their threads together."""
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
    """The fields of /proc/PID/stat after the command, which may itself contain blanks and brackets."""
    return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
