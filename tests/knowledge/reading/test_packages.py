"""The packages of an environment are read without being imported, whatever they contain."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from assistant.knowledge.reading import packages
from assistant.knowledge.reading.packages import PackagesUnreadable, distributions, read, sites

SOURCE = '''"""A package of tests."""

def turn(crank, *, times=1):
    """Turn the crank.

    It turns `times` times.
    """
'''


def install(site: Path, name: str, *, metadata: str | None = "", source: str | bytes = SOURCE) -> Path:
    """Write a package as an installer does, and return its module."""
    module = site / name / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_bytes(source.encode() if isinstance(source, str) else source)
    info = site / f"{name}-1.5.dist-info"
    info.mkdir()
    if metadata is not None:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n{metadata}")
    (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}-1.5.dist-info/METADATA,,\n")
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    return site


def test_a_package_is_read_by_its_source_and_never_imported(site: Path) -> None:
    install(site, "crank", metadata="License-Expression: MIT\n", source=SOURCE + "\nraise SystemExit(3)\n")
    (found,) = distributions(site)
    passages = {passage.name: passage for passage in read(found).passages}
    turn = passages["crank.turn"]
    assert turn.signature == "crank.turn(crank, *, times=1)"
    assert turn.text == "Turn the crank.\n\nIt turns `times` times."
    assert (turn.package, turn.version, turn.licence, turn.corpus) == ("crank", "1.5", "MIT", "packages")
    assert turn.location == "crank/__init__.py:3"
    assert "crank" not in sys.modules


@pytest.mark.parametrize("metadata", ["", "License: \n", f"License: {'terms ' * 10_000}\n"])
def test_metadata_without_a_licence_name_gives_none(site: Path, metadata: str) -> None:
    install(site, "crank", metadata=metadata)
    (found,) = distributions(site)
    assert (found.name, found.version, found.licence) == ("crank", "1.5", "")


def test_without_metadata_name_and_version_come_from_the_folder(site: Path) -> None:
    install(site, "crank", metadata=None)
    found = [(one.name, one.version, one.licence) for one in distributions(site)]
    assert found in ([], [("crank", "1.5", "")])


@pytest.mark.parametrize(
    "source",
    [
        b"\xff\xfe\x00",
        b"def broken(:\n",
        b"\x00" * 100,
        b"# coding: nonsense\nx = 1\n",
        b"(" * 50_000,
        b"x=" + b"-" * 90_000 + b"1",
    ],
)
def test_unreadable_source_is_skipped_and_counted(site: Path, source: bytes) -> None:
    install(site, "broken", source=source)
    (found,) = distributions(site)
    batch = read(found)
    assert (list(batch.passages), batch.unread) == ([], 1)


def test_a_huge_source_file_is_skipped(site: Path) -> None:
    module = install(site, "huge")
    with module.open("r+b") as file:
        file.truncate(50_000_000)
    (found,) = distributions(site)
    assert read(found).unread == 1


def test_an_environment_is_given_by_its_folder_or_interpreter(site: Path) -> None:
    assert sites(site.parents[2]) == [site]
    assert any(path.name == "site-packages" for path in sites(Path(sys.executable)))


def test_a_path_without_an_environment_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackagesUnreadable, match="There is no Python environment"):
        sites(tmp_path / "nothing")
    with pytest.raises(PackagesUnreadable, match="has no site-packages"):
        sites(tmp_path)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho nonsense\n")
    with pytest.raises(PackagesUnreadable, match="not a working Python interpreter"):
        sites(script)
    script.chmod(0o755)
    with pytest.raises(PackagesUnreadable, match="not a working Python interpreter"):
        sites(script)
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(packages, "ANSWER_SECONDS", 0.1)
    with pytest.raises(PackagesUnreadable, match="did not report within"):
        sites(script)


def test_a_package_with_broken_metadata_is_reported_and_others_are_read(site: Path) -> None:
    install(site, "crank")
    install(site, "broken")
    record = site / "broken-1.5.dist-info" / "RECORD"
    record.unlink()
    record.symlink_to("RECORD")
    (site / "broken-1.5.dist-info" / "top_level.txt").write_bytes(b"../../..\n/etc\n\x00\n" + b"x" * 5000)
    warnings: list[str] = []
    found = list(distributions(site, warn=warnings.append))
    assert "crank" in [one.name for one in found]
    assert all(sentence.startswith("The package 'broken' cannot be read: ") for sentence in warnings)
    assert len(warnings) == 1


def test_an_environment_with_an_unprintable_name_is_reported(tmp_path: Path) -> None:
    site = tmp_path / "caf\udce9" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    install(site, "crank")
    with pytest.raises(PackagesUnreadable) as caught:
        sites(tmp_path / "caf\udce9")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_site_folder_without_permission_has_no_packages(site: Path) -> None:
    site.chmod(0)
    try:
        assert list(distributions(site)) == []
    finally:
        site.chmod(0o755)
