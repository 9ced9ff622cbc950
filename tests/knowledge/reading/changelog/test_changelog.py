"""Changelogs without markup: each version is a section."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.knowledge.reading.folders import files_of, read_file


def titles(folder: Path, name: str, text: str) -> list[str]:
    (folder / name).write_text(text)
    return [each.title for file in files_of(folder) for each in read_file(file, folder)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "CHANGES",
            "Version 2.1 (2026-01-31)\n\n- Added x in 2.0.\n\nVersion 2.0\n\n- First.\n",
            "Version 2.1 (2026-01-31), Version 2.0",
        ),
        (
            "NEWS",
            "* Noteworthy changes in release 9.1 (2026-01-31) [stable]\n\n** Bug fixes\n\n  ls 9.0 works.\n\n"
            "* Noteworthy changes in release 9.0\n\n  New.\n",
            "Noteworthy changes in release 9.1 (2026-01-31) [stable], Noteworthy changes in release 9.0",
        ),
        ("HISTORY.txt", "2.1.0\n-----\nAdded.\n\n2.0.0\n-----\nFirst.\n", "2.1.0, 2.0.0"),
        (
            "changelog",
            "box (2.1-1) unstable; urgency=medium\n\n  * New.\n\n -- Ann <a@b>  Sat\n\n"
            "box (2.0-1) unstable; urgency=low\n\n  * First.\n",
            "box (2.1-1) unstable; urgency=medium, box (2.0-1) unstable; urgency=low",
        ),
        (
            "CHANGELOG",
            "# Changelog\n\n## [2.1.0] - 2026-01-31\n\n### Added\n\n- `x`\n\n## 2.0.0\n\n- First.\n",
            "Changelog › [2.1.0] - 2026-01-31 › Added, Changelog › 2.0.0",
        ),
        (
            "RELEASES",
            "Releases\n========\n\n2.1\n---\n\nAdded ``x``.\n\n2.0\n---\n\nFirst.\n",
            "Releases › 2.1, Releases › 2.0",
        ),
        (
            "notes.txt",
            "Version 2.1 is good.\n\nVersion 2.0 was not, and nobody knows why it was released.\n",
            "notes",
        ),
    ],
)
def test_each_version_is_a_section(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert ", ".join(titles(tmp_path, name, text)) == expected


def test_llms_txt_is_markdown(tmp_path: Path) -> None:
    text = "# Box\n\n> A box.\n\n## Docs\n\n- [Open](https://docs.example/open.md): how\n"
    (tmp_path / "llms.txt").write_text(text)
    passages = read_file(tmp_path / "llms.txt", tmp_path, base_url="https://docs.example")
    assert [(each.title, each.location, each.url) for each in passages] == [
        ("Box", "llms.txt (Markdown):3", "https://docs.example/llms.txt"),
        ("Box › Docs", "llms.txt (Markdown):7", "https://docs.example/llms.txt"),
    ]
