"""What this machine gives to this process.

Knows Linux's control groups and the calls that other systems have; refuses to know what it is for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use: the machine's, or less where its control group (a container)
    is limited. None where the system does not tell. `root` is where `sys` and `proc` are."""
    limits = list(_limits(root))
    with contextlib.suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def _limits(root: Path) -> Iterator[int]:
    groups = root / "sys/fs/cgroup"
    files = [groups / "memory.max", groups / "memory/memory.limit_in_bytes"]
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            kind, name = ("", "memory.max") if not controllers else ("memory", "memory.limit_in_bytes")
            if not controllers or "memory" in controllers.split(","):
                own = groups / kind / path.lstrip("/")
                # A group is limited by those around it as well.
                around = [own, *own.parents]
                files += [group / name for group in around if group.is_relative_to(groups)]
    for file in files:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            yield int(file.read_text(encoding="ascii"))
