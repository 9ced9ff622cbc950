"""How much memory and how many processors this process may use, inside a container too."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use: all of the machine's, or what its control group allows.

    None if the system does not report it. `root` is the directory that contains `sys` and `proc`."""
    limits = []
    for file in _files_of_groups(root, "memory", "memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" means no limit
            limits.append(int(file.read_text(encoding="ascii")))
    with contextlib.suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def cpus(root: Path = Path("/")) -> int:
    """Processors that this process may use, by its affinity and its control group's quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    least = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for file in _files_of_groups(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" and -1 mean no limit
            quota, *period = file.read_text(encoding="ascii").split()
            if not period:
                period = [file.with_name("cpu.cfs_period_us").read_text(encoding="ascii")]
            if (share := int(quota) / int(period[0])) > 0:
                least = min(least, share)
    return max(1, math.ceil(least))


def _files_of_groups(root: Path, controller: str, name: str, older_name: str) -> Iterator[Path]:
    """The files that may contain a limit: of the control group and its parents, in versions 1 and 2."""
    groups = root / "sys/fs/cgroup"
    yield from (groups / name, groups / controller / older_name)
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                # In version 1, each controller has its own tree.
                own = groups / (controller if controllers else "") / path.lstrip("/")
                for group in (own, *own.parents):
                    if group.is_relative_to(groups):
                        yield group / (older_name if controllers else name)
