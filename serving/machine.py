"""What this machine gives to this process.

Knows Linux's control groups and the calls that other systems have; refuses to know what it is for.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use: the machine's, or less where its control group (a container)
    is limited. None where the system does not tell. `root` is where `sys` and `proc` are."""
    limits = []
    for file in _files_of_groups(root, "memory", "memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text(encoding="ascii")))
    with contextlib.suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def cpus(root: Path = Path("/")) -> int:
    """Processors that this process may use, by affinity and by the quota of its control group; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    least = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for file in _files_of_groups(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no limit, nor is -1
            quota, *period = file.read_text(encoding="ascii").split()
            if not period:
                period = [file.with_name("cpu.cfs_period_us").read_text(encoding="ascii")]
            if (share := int(quota) / int(period[0])) > 0:
                least = min(least, share)
    return max(1, math.ceil(least))


def _files_of_groups(root: Path, controller: str, name: str, older_name: str) -> Iterator[Path]:
    """The files that may limit this process: of its control group and those around it, new ones and old."""
    groups = root / "sys/fs/cgroup"
    yield from (groups / name, groups / controller / older_name)
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                # Older groups have a tree for each controller, whatever else is mounted with it.
                own = groups / (controller if controllers else "") / path.lstrip("/")
                for group in (own, *own.parents):
                    if group.is_relative_to(groups):
                        yield group / (older_name if controllers else name)
