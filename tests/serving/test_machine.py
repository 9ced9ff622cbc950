import os
from pathlib import Path

import pytest

from serving.machine import cpus, memory


def machine(root: Path, cgroup: str, **limits: str) -> Path:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for place, limit in limits.items():
        file = root / "sys" / "fs" / "cgroup" / place.replace("__", "/").replace("_max", ".max")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit)
    return root


@pytest.mark.parametrize(
    "limits",
    [
        {"memory_max": "1000\n"},
        {"a__b__memory_max": "1000\n"},
        {"a__memory_max": "1000\n", "a__b__memory_max": "max\n"},
        {"a__memory_max": "2000\n", "a__b__memory_max": "1000\n"},
    ],
)
def test_the_smallest_limit_of_all_parent_groups_counts(tmp_path: Path, limits: dict[str, str]) -> None:
    assert memory(machine(tmp_path, "0::/a/b\n", **limits)) == 1000


def test_control_groups_of_version_1_count_too(tmp_path: Path) -> None:
    root = machine(tmp_path, "5:cpu,memory:/a\n")
    file = root / "sys/fs/cgroup/memory/a/memory.limit_in_bytes"
    file.parent.mkdir(parents=True)
    file.write_text("1000\n")
    assert memory(root) == 1000


@pytest.mark.parametrize("cgroup", ["0::/a/b\n", "nonsense", ""])
def test_without_a_limit_it_is_the_memory_of_the_machine(tmp_path: Path, cgroup: str) -> None:
    found = memory(machine(tmp_path, cgroup, memory_max="max\n"))
    assert found is None or found > 1 << 28


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"cpu_max": "100000 100000"}, 1),
        ({"a__cpu_max": "50000 100000"}, 1),
        ({"a__cpu_max": "100000 100000", "a__b__cpu_max": "max 100000"}, 1),
        ({"cpu_max": "max 100000"}, None),
        ({"cpu_max": "99900000 100000"}, None),
        ({"cpu_max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_quota_limits_the_processors(tmp_path: Path, limits: dict[str, str], expected: int | None) -> None:
    everything = cpus(machine(tmp_path / "free", "0::/a/b\n"))
    assert 1 <= everything <= (os.cpu_count() or 1)
    assert cpus(machine(tmp_path / "limited", "0::/a/b\n", **limits)) == (expected or everything)


def test_a_quota_of_version_1_limits_the_processors(tmp_path: Path) -> None:
    root = machine(tmp_path, "4:cpu,cpuacct:/a\n")
    group = root / "sys/fs/cgroup/cpu/a"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("100000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert cpus(root) == 1
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpus(root) >= 1
