"""A build reads only what has changed, reports what is broken, and continues without it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assistant.knowledge.build import LONGEST_WARNING, MOST_PROBLEMS, MOST_WARNINGS, Folder, build
from assistant.knowledge.index import Index, IndexFailed
from assistant.knowledge.index_writer import IndexWriter
from assistant.knowledge.passage import Passage


class Built:
    """The index of a folder, with the reports of its last build."""

    def __init__(self, folder: Path, into: Path) -> None:
        self.folder, self.into = folder, into
        self.reports: list[Mapping[str, Any]] = []

    def again(self, *environments: Path, folders: Sequence[Path] = ()) -> dict[str, str]:
        """Build, and return the texts in the index by name."""
        self.reports.clear()
        build(
            self.into,
            lambda report: self.reports.append(dict(report)),
            environments=environments,
            folders=[Folder(self.folder), *map(Folder, folders)],
            python=False,
            processes=1,
        )
        with closing(Index(self.into)) as index:
            self.fingerprints = index.fingerprints()
            rows = index.connection.execute("SELECT name FROM passage ORDER BY id").fetchall()
            return {name: index.named(name)[0].passage.text for (name,) in rows}

    def named(self, name: str) -> Passage:
        with closing(Index(self.into)) as index:
            return index.named(name)[0].passage

    def changed_since(self, before: Mapping[str, str]) -> list[str]:
        """The names of the files that have been read again."""
        return [Path(key).name for key, stamp in self.fingerprints.items() if stamp != before[key]]

    @property
    def warnings(self) -> list[str]:
        return [report["warning"] for report in self.reports if "warning" in report]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Alpha\n\nThe first.\n")
    (folder / "b.md").write_text("# Beta\n\nThe second.\n")
    return Built(folder, tmp_path / "documentation.db")


def test_only_what_has_changed_is_read_again(built: Built) -> None:
    assert built.again() == {"Alpha": "The first.", "Beta": "The second."}
    before = built.fingerprints
    with sqlite3.connect(built.into) as connection:
        rows = connection.execute("SELECT name, id FROM passage").fetchall()
    (built.folder / "b.md").write_text("# Beta\n\nThe second, bettered.\n")
    assert built.again() == {"Alpha": "The first.", "Beta": "The second, bettered."}
    assert built.changed_since(before) == ["b.md"]
    with sqlite3.connect(built.into) as connection:
        assert dict(rows)["Alpha"] == dict(connection.execute("SELECT name, id FROM passage"))["Alpha"]


def test_a_removed_file_is_no_longer_found(built: Built) -> None:
    built.again()
    (built.folder / "a.md").unlink()
    assert list(built.again()) == ["Beta"]
    with closing(Index(built.into)) as index:
        assert index.matching("first") == []
        assert [entry.passage.name for entry in index.matching("second")] == ["Beta"]


def test_a_broken_index_is_built_again(built: Built) -> None:
    built.again()
    built.into.write_bytes(b"nonsense" * 1000)
    assert list(built.again()) == ["Alpha", "Beta"]


def test_a_missing_environment_is_reported_and_the_rest_is_read(built: Built, tmp_path: Path) -> None:
    assert list(built.again(tmp_path / "nothing")) == ["Alpha", "Beta"]
    assert any("There is no Python environment" in warning for warning in built.warnings)


def test_unreadable_files_do_not_stop_the_build(built: Built) -> None:
    (built.folder / "binary.md").write_bytes(bytes(range(256)) * 100)
    (built.folder / "mixed.md").write_bytes(b"# Caf\xe9\n\nna\xefve \xf0\x9f\xa6\x80\n")
    (built.folder / "self.md").symlink_to("self.md")
    (built.folder / "loop").symlink_to(built.folder)
    os.mkfifo(built.folder / "pipe.md")
    found = built.again()
    assert {"Alpha", "Beta"} <= found.keys()
    assert "na\xefve" in next(text for name, text in found.items() if name.startswith("Caf"))


def test_an_index_that_cannot_be_written_is_reported(built: Built, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    built.into = tmp_path / "file" / "documentation.db"
    with pytest.raises(IndexFailed, match="cannot be written"):
        built.again()


def test_left_out_parts_of_a_file_are_reported(built: Built) -> None:
    (built.folder / "long.md").write_text("# Long\n\n```\n" + "x = 1\n" * 2000 + "```\n")
    (built.folder / "cells.ipynb").write_text('{"cells": [7, {"cell_type": "markdown", "source": "Fine."}]}')
    (built.folder / "open.html").write_text("<p>Seen.</p><a " + "x " * 10_000)
    assert {"Long", "cells"} <= built.again().keys()
    assert sorted(built.warnings) == [
        "The block at long.md:3 is too long to quote; its end is left out.",
        "cells.ipynb is read without one broken cell.",
        "open.html is read without what follows a tag in line 1 that is not closed.",
    ]
    built.again()
    assert built.warnings == []  # what has not changed is not read again


def test_very_many_warnings_are_counted(built: Built) -> None:
    for number in range(MOST_WARNINGS + 7):
        (built.folder / f"{number:03}.ipynb").write_text("nothing")
    block = "```\n" + "x = 1\n" * 2000 + "```\n\nText.\n\n"
    (built.folder / "a.md").write_text(block * 3 * MOST_PROBLEMS)
    built.again()
    assert len(built.warnings) == MOST_WARNINGS + 2  # one says that most of the folder is not read
    assert built.warnings[-2].startswith("2 of 59 files in the folder “docs” could be read.")
    assert built.warnings[-1] == f"{7 + MOST_PROBLEMS} more warnings are not shown."
    assert all(len(warning) <= LONGEST_WARNING for warning in built.warnings)


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 300, "nothing", "caf\udce9"])
def test_a_missing_folder_is_reported_and_the_rest_is_read(built: Built, tmp_path: Path, name: str) -> None:
    if len(name) < 10:
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.md").write_text("# Gamma\n\nThe third.\n")
        if name == "nothing":
            shutil.rmtree(tmp_path / name)
    assert list(built.again(folders=[tmp_path / name])) == ["Alpha", "Beta"]
    (warning,) = built.warnings
    assert warning.isprintable()


def test_a_file_with_new_permissions_is_read_again(built: Built) -> None:
    built.again()
    before = built.fingerprints
    (built.folder / "a.md").chmod(0o600)  # neither its size nor its time has changed
    built.again()
    assert built.changed_since(before) == ["a.md"]


def environment(at: Path, *versions: str) -> Path:
    """An environment with a package with an example, and metadata of each of these versions."""
    site = at / "lib" / "python3.11" / "site-packages"
    (site / "crank").mkdir(parents=True)
    (site / "crank" / "__init__.py").write_text(
        'def turn(times):\n    """Turn it.\n\n    >>> x = turn(12)\n    """\n'
    )
    for version in versions:
        info = site / f"crank-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: crank\nVersion: {version}\n")
        (info / "RECORD").write_text("crank/__init__.py,,\n")
    return at


def test_a_package_with_two_versions_is_read_once(built: Built, tmp_path: Path) -> None:
    there = environment(tmp_path / "env", "1.0", "2.0")
    built.again(there)
    before = built.fingerprints
    built.again(there)
    assert built.fingerprints == before
    assert built.reports[-1]["done"] == built.reports[-1]["total"] == len(before)


def test_the_build_after_a_killed_one_counts_uses(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = environment(tmp_path / "env", "1.0")
    with monkeypatch.context() as patch:
        patch.setattr(IndexWriter, "count_uses", lambda _: sys.exit(1))
        with pytest.raises(SystemExit):
            built.again(there)
    built.again(there)
    assert built.named("crank.turn").example == ">>> x = turn(12)"


def test_a_damaged_index_is_built_again(built: Built) -> None:
    for number in range(100):
        (built.folder / f"{number}.md").write_text(f"# Title {number}\n\n{os.urandom(300).hex()}\n")
    built.again()
    data = bytearray(built.into.read_bytes())
    for start in range(20 * 4096, len(data), 4096):
        data[start : start + 100] = b"\xff" * 100
    built.into.write_bytes(data)
    assert len(built.again()) == 102
    assert any("damaged" in warning or "malformed" in warning for warning in built.warnings)
    assert len(built.again()) == 102
    assert built.warnings == []


def test_no_task_is_lost_with_a_broken_pool(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.knowledge.build.FILES_AT_ONCE", 1)
    submit = ProcessPoolExecutor.submit
    calls: list[object] = []

    def breaking(self: ProcessPoolExecutor, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise BrokenProcessPool
        return submit(self, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", breaking)
    assert sorted(built.again()) == ["Alpha", "Beta"]


def test_a_process_that_cannot_start_is_reported(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*arguments: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", refusing)
    with pytest.raises(IndexFailed, match=r"no process can be started .*unavailable"):
        built.again()
    monkeypatch.undo()
    assert list(built.again()) == ["Alpha", "Beta"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is not bounded everywhere")
def test_a_file_that_needs_too_much_memory_is_left_out(built: Built) -> None:
    attributes = "b=c " * 2_000_000
    (built.folder / "ab.html").write_text(f"<p>One.</p><a x='>' {attributes}>Two.</a>")
    assert {"Alpha", "Beta"} <= built.again().keys()
    (warning,) = built.warnings
    assert warning.endswith("ab.html): MemoryError().")


def test_a_changed_licence_is_read_again(built: Built) -> None:
    built.again()
    (built.folder / "LICENSE").write_text("SPDX-License-Identifier: MIT\n")
    built.again()
    assert built.named("Alpha").licence == "MIT"


def test_a_library_that_was_left_out_is_read_before_it_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.knowledge.reading.python_library.units", lambda: ["colorsys"])
    reports: list[Mapping[str, Any]] = []

    def again(python: bool) -> list[int]:
        reports.clear()
        build(tmp_path / "documentation.db", reports.append, python=python, processes=1)
        return [one["passages"] for one in reports if "searchable" in one]

    (passages,) = again(True)
    assert passages > 0
    assert again(True) == [passages]
    again(False)
    assert again(True) == [passages]
