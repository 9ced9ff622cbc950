"""The file of questions: its form, its proportions, and that every accepted name exists in Python."""

from __future__ import annotations

import builtins
import importlib
import inspect
import keyword
import pydoc_data.topics
import re
import tomllib
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

QUESTIONS: list[dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("questions.toml").read_text(encoding="utf-8")
)["question"]
SHARES = {"how": 143, "what": 39, "signature": 21, "difference": 21, "error": 10, "unknown": 26}
HEADING = re.compile(r"^(?P<heading>\S.*)\n\*{3,}$", re.MULTILINE)
TOPIC_HEADINGS = {
    found["heading"]
    for text in pydoc_data.topics.topics.values()
    if (found := HEADING.search(text)) is not None
}


def exists(name: str) -> bool:
    """Whether this Python has a name: a keyword, a built-in, a public path, or the heading of a topic."""
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in TOPIC_HEADINGS:
        return True
    parts = name.split(".")
    if any(part.startswith("_") or not part.isidentifier() for part in parts):
        return False
    for cut in range(len(parts), 0, -1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecated modules still exist
                thing: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        return _has(thing, parts[cut:])
    return _has(builtins, parts)


def _has(thing: Any, path: list[str]) -> bool:
    for part in path:
        try:
            thing = getattr(thing, part)
        except AttributeError:  # attributes of instances, such as the name of a member of an enumeration
            thing = inspect.getattr_static(thing, part, None)
        if thing is None:
            return False
    return True


def test_every_question_has_the_agreed_form() -> None:
    for entry in QUESTIONS:
        assert set(entry) == {"text", "accepted", "kind", "split"}
        assert entry["text"].strip() == entry["text"] != ""
        assert entry["kind"] in SHARES
        assert entry["split"] in {"tune", "measured"}
        assert len(set(entry["accepted"])) == len(entry["accepted"]) <= 5


def test_kinds_are_in_proportion_and_halved_at_random() -> None:
    assert Counter(entry["kind"] for entry in QUESTIONS) == SHARES
    assert Counter(entry["split"] for entry in QUESTIONS) == {"tune": 130, "measured": 130}
    for kind in SHARES:
        halves = Counter(entry["split"] for entry in QUESTIONS if entry["kind"] == kind)
        assert abs(halves["tune"] - halves["measured"]) <= 1


def test_no_question_is_asked_twice() -> None:
    texts = Counter(re.sub(r"\W+", " ", entry["text"]).strip().lower() for entry in QUESTIONS)
    assert [text for text, count in texts.items() if count > 1] == []


def test_a_difference_has_two_accepted_names_and_an_unknown_none() -> None:
    for entry in QUESTIONS:
        if entry["kind"] == "difference":
            assert len(entry["accepted"]) == 2, entry["text"]
        assert (entry["kind"] == "unknown") == (entry["accepted"] == []), entry["text"]


@pytest.mark.parametrize("name", sorted({name for entry in QUESTIONS for name in entry["accepted"]}))
def test_accepted_name_exists(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("name", ["json.parse_file", "os.teleport", "list.push", "quuxify", "os._exit_", ""])
def test_a_made_up_name_does_not_exist(name: str) -> None:
    assert not exists(name)
