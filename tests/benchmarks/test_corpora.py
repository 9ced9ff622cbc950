"""Folders of real documentation: their download, and the form and proportions of the questions about them."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.corpora import Corpus, CorpusError, corpora, fetch

QUESTIONS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[2] / "benchmarks" / "questions" / "folders.toml").read_text(encoding="utf-8")
)["question"]
FOLDERS = sorted({entry["folder"] for entry in QUESTIONS})
PLACE = re.compile(r"[^\s#/\\][^#\\]*#[^\n]*")  # the end of a path, and part of a title or nothing


def of(folder: str) -> list[dict[str, Any]]:
    return [entry for entry in QUESTIONS if entry["folder"] == folder]


def test_every_corpus_is_pinned_and_can_be_downloaded_safely() -> None:
    names = [corpus.name for corpus in corpora()]
    assert len(set(names)) == len(names) >= 12
    for corpus in corpora():
        assert corpus.registry in {"pypi", "npm"}
        assert re.fullmatch(r"[0-9a-f]{64}", corpus.sha256)
        assert re.fullmatch(r"\d+(\.\d+)+", corpus.version)
        assert not {"", ".", ".."} & set(corpus.folder.split("/"))


def fetched(folder: Path, *members: str | tarfile.TarInfo, sha256: str | None = None) -> set[str]:
    """The files that remain of an archive with these members, which an imitated PyPI serves."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member in members:
            tar.addfile(tarfile.TarInfo(member) if isinstance(member, str) else member)
    data = packed.getvalue()
    corpus = Corpus(
        "pypi", "it", "1.0", sha256 or hashlib.sha256(data).hexdigest(), "docs", without=("build",)
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/simple/it/":
            files = [{"filename": "it-1.0.tar.gz", "url": "../../files/it-1.0.tar.gz"}]
            return httpx.Response(200, json={"files": files})
        return httpx.Response(200 if request.url.path == "/files/it-1.0.tar.gz" else 404, content=data)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        target = fetch(corpus, folder, client)
    assert list(folder.iterdir()) == [target]
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


def test_only_the_documentation_of_an_archive_remains(tmp_path: Path) -> None:
    link = tarfile.TarInfo("it-1.0/docs/passwords")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    names = ("it-1.0/docs/a.md", "it-1.0/docs/b/c.rst", "it-1.0/docs/build/d.md", "it-1.0/setup.py")
    assert fetched(tmp_path, *names, link) == {"docs/a.md", "docs/b/c.rst"}


def test_a_path_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="leads out"):
        fetched(tmp_path, "it-1.0/docs/a.md", "it-1.0/docs/../../../b.md")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("member", "sha256"), [("it-1.0/docs/a.md", "0" * 64), ("it-1.0/setup.py", None)])
def test_another_archive_than_the_pinned_one_is_refused(
    tmp_path: Path, member: str, sha256: str | None
) -> None:
    with pytest.raises(CorpusError):
        fetched(tmp_path, member, sha256=sha256)
    assert not list(tmp_path.iterdir())


def test_every_question_has_the_agreed_form() -> None:
    for entry in QUESTIONS:
        assert (
            {"folder", "text", "accepted", "split"}
            <= set(entry)
            <= {
                "folder",
                "text",
                "accepted",
                "unnamed",
                "split",
            }
        )
        assert entry["text"].strip() == entry["text"] != ""
        assert entry["split"] in {"tune", "measured"}
        assert len(set(entry["accepted"])) == len(entry["accepted"]) > 0
        assert all(PLACE.fullmatch(place) for place in entry["accepted"]), entry["accepted"]


def test_no_question_is_asked_twice() -> None:
    texts = Counter(re.sub(r"\W+", " ", entry["text"]).strip().lower() for entry in QUESTIONS)
    assert [text for text, count in texts.items() if count > 1] == []


def test_there_are_ten_questions_for_each_corpus() -> None:
    assert sorted(corpus.name for corpus in corpora()) == FOLDERS
    assert all(len(of(folder)) >= 10 for folder in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_half_of_a_folders_questions_is_measured_and_half_names_the_project(folder: str) -> None:
    entries = of(folder)
    halves = Counter(entry["split"] for entry in entries)
    assert abs(halves["tune"] - halves["measured"]) <= 1
    named = [entry for entry in entries if folder in entry["text"].lower()]
    assert abs(2 * len(named) - len(entries)) <= 2
    assert not any("unnamed" in entry for entry in named)
    assert all(entry.get("unnamed", True) is True for entry in entries)


def test_enough_questions_without_a_name_can_be_asked_of_one_index() -> None:
    assert sum("unnamed" in entry for entry in QUESTIONS) >= 40
