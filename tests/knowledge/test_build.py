"""A build: what has changed is read again and nothing else, and what is broken is said and passed over."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index, IndexFailed


class Built:
    """An index of a folder, built again and again."""

    def __init__(self, folder: Path, into: Path) -> None:
        self.folder, self.into = folder, into
        self.told: list[Mapping[str, Any]] = []

    def again(self, *environments: Path) -> dict[str, str]:
        """Build; returns the texts of the index by name."""
        self.told.clear()
        build(
            self.into,
            lambda told: self.told.append(dict(told)),
            environments=environments,
            folders=[Folder(self.folder)],
            python=False,
            processes=1,
        )
        with closing(Index(self.into)) as index:
            rows = index.connection.execute("SELECT name FROM passage ORDER BY id").fetchall()
            return {name: index.named(name)[0].passage.text for (name,) in rows}

    @property
    def fingerprints(self) -> dict[str, str]:
        with closing(Index(self.into)) as index:
            return index.fingerprints()

    @property
    def warnings(self) -> list[str]:
        return [told["warning"] for told in self.told if "warning" in told]


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
    after = built.fingerprints
    assert {key for key in before if before[key] != after[key]} == {key for key in before if "b.md" in key}
    with sqlite3.connect(built.into) as connection:
        assert dict(rows)["Alpha"] == dict(connection.execute("SELECT name, id FROM passage"))["Alpha"]


def test_what_is_gone_is_forgotten_and_not_found_any_more(built: Built) -> None:
    built.again()
    (built.folder / "a.md").unlink()
    assert list(built.again()) == ["Beta"]
    with closing(Index(built.into)) as index:
        assert index.matching("first") == []
        assert [entry.passage.name for entry in index.matching("second")] == ["Beta"]


def test_a_broken_index_is_made_anew(built: Built) -> None:
    built.again()
    built.into.write_bytes(b"nonsense" * 1000)
    assert list(built.again()) == ["Alpha", "Beta"]


def test_an_environment_that_is_none_is_said_and_the_rest_is_read(built: Built, tmp_path: Path) -> None:
    assert list(built.again(tmp_path / "nothing")) == ["Alpha", "Beta"]
    assert any("There is no Python environment" in warning for warning in built.warnings)


def test_files_that_cannot_be_read_do_not_keep_others_from_being_read(built: Built) -> None:
    (built.folder / "binary.md").write_bytes(bytes(range(256)) * 100)
    (built.folder / "mixed.md").write_bytes(b"# Caf\xe9\n\nna\xefve \xf0\x9f\xa6\x80\n")
    (built.folder / "self.md").symlink_to("self.md")
    (built.folder / "loop").symlink_to(built.folder)
    os.mkfifo(built.folder / "pipe.md")
    found = built.again()
    assert {"Alpha", "Beta"} <= found.keys()
    assert "na\xefve" in next(text for name, text in found.items() if name.startswith("Caf"))


def test_where_the_index_cannot_be_written_is_said(built: Built, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    built.into = tmp_path / "file" / "documentation.db"
    with pytest.raises(IndexFailed, match="cannot be written"):
        built.again()
