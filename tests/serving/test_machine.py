import os
from pathlib import Path

import pytest

from serving.machine import cpus, memory

V2, V1 = "0::/a/b\n", "5:cpu,memory:/a\n"
QUOTA, PERIOD = "cpu/a/cpu.cfs_quota_us", "cpu/a/cpu.cfs_period_us"


def machine(root: Path, cgroup: str, limits: dict[str, str]) -> Path:
    """A root directory with these control groups. `limits` has the texts of their files."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, limit in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit)
    return root


@pytest.mark.parametrize(
    ("cgroup", "limits"),
    [
        (V2, {"memory.max": "1000\n"}),
        (V2, {"a/b/memory.max": "1000\n"}),
        (V2, {"a/memory.max": "1000\n", "a/b/memory.max": "max\n"}),
        (V2, {"a/memory.max": "2000\n", "a/b/memory.max": "1000\n"}),
        (V1, {"memory/a/memory.limit_in_bytes": "1000\n"}),
    ],
)
def test_the_smallest_limit_of_all_parent_groups_counts(
    tmp_path: Path, cgroup: str, limits: dict[str, str]
) -> None:
    assert memory(machine(tmp_path, cgroup, limits)) == 1000


@pytest.mark.parametrize("cgroup", [V2, "nonsense", ""])
def test_without_a_limit_it_is_the_memory_of_the_machine(tmp_path: Path, cgroup: str) -> None:
    found = memory(machine(tmp_path, cgroup, {"memory.max": "max\n"}))
    assert found is None or found > 1 << 28


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        (V2, {"cpu.max": "100000 100000"}, 1),
        (V2, {"a/cpu.max": "50000 100000"}, 1),
        (V2, {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        (V2, {"cpu.max": "max 100000"}, None),
        (V2, {"cpu.max": "99900000 100000"}, None),
        (V2, {"cpu.max": "nonsense"}, None),
        (V2, {}, None),
        ("4:cpu,cpuacct:/a\n", {QUOTA: "100000\n", PERIOD: "100000\n"}, 1),
        ("4:cpu,cpuacct:/a\n", {QUOTA: "-1\n", PERIOD: "100000\n"}, None),
    ],
)
def test_a_quota_limits_the_processors(
    tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int | None
) -> None:
    everything = cpus(machine(tmp_path / "free", V2, {}))
    assert 1 <= everything <= (os.cpu_count() or 1)
    assert cpus(machine(tmp_path / "limited", cgroup, limits)) == (expected or everything)
