"""The vendored libraries of the page are those that the build wrote, and their licences are with them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from assistant.web.application import STATIC

VENDOR = STATIC / "vendor"
SOURCES = Path(__file__).parents[2] / "scripts" / "vendored"
FREE = {"MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "(MPL-2.0 OR Apache-2.0)"}
HEADING = re.compile(r"^(@?[\w./-]+) (\d+\.\d+\.\d+) \((.+)\)$", re.MULTILINE)


def test_files_are_those_that_the_build_wrote() -> None:
    listed = dict(line.split()[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    files = [path for path in VENDOR.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    } == listed


def test_each_package_is_pinned_and_has_its_licence() -> None:
    locked = json.loads((SOURCES / "package-lock.json").read_text())["packages"]
    wanted = json.loads((SOURCES / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    packages = {
        (path.rpartition("node_modules/")[2], package.get("version")): package
        for path, package in locked.items()
    }
    licences = HEADING.findall((VENDOR / "LICENCES.txt").read_text())
    assert set(wanted) <= {name for name, _, _ in licences}
    for name, version, licence in licences:
        package = packages[name, version]
        assert package.get("license", "MIT") == licence
        assert package["integrity"].startswith("sha512-")
        assert licence in FREE
