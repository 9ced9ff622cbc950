"""The files of questions: their form, their halves, that accepted names exist, and how answers are judged."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from typing import Any

import pytest

from assistant.knowledge.passage import Passage, SearchResult
from benchmarks.answers import FILES, questions
from benchmarks.judging import is_helpful, is_right, judge, resolve, says_missing
from tests.knowledge.search.test_questions_file import exists

FORMS: dict[str, set[str]] = {
    "needs": {"accepted"},
    "packages": {"package", "accepted", "kind"},
    "errors": {"explains", "signature", "fix"},
    "refusals": {"kind"},
    "languages": {"english", "language", "accepted"},
    "folders": {"folder", "accepted"},
}
ALL = {kind: questions(kind) for kind in FORMS if FILES[kind].exists()}
KINDS = pytest.mark.parametrize("kind", ALL)


@KINDS
def test_every_question_has_the_agreed_form(kind: str) -> None:
    for entry in ALL[kind]:
        assert set(entry) - {"missing", "unnamed"} == FORMS[kind] | {"text", "split", "row"}
        assert ("missing" in entry) == (entry.get("kind") in {"name", "parameter"})
        assert entry["text"].strip()
        assert entry["split"] in {"tune", "measured"}
        assert len(set(entry.get("accepted", ()))) == len(entry.get("accepted", ()))
        assert entry.get("accepted") != []
        assert len(entry.get("accepted", ())) >= 2 or entry.get("kind") != "difference"


@KINDS
def test_half_of_the_questions_are_only_measured(kind: str) -> None:
    splits = Counter(entry["split"] for entry in ALL[kind])
    assert abs(splits["tune"] - splits["measured"]) <= 0.1 * splits.total()


def test_no_question_is_asked_twice() -> None:
    texts = Counter(
        re.sub(r"\W+", " ", entry["text"]).strip().lower()
        for kind in ("library", *ALL)
        for entry in questions(kind)
        if entry["row"] != "their twins"
    )
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in {"errors", "refusals", "folders"}])
def test_accepted_names_exist(kind: str) -> None:
    names = {name for entry in ALL[kind] for name in entry["accepted"]}
    unknown = [name for name in sorted(names) if not exists(name) and resolve(name) is None]
    assert [name for name in unknown if not is_attribute(name)] == []


def is_attribute(name: str) -> bool:
    """Whether the instances of a class have an attribute, by its annotations or its code."""
    owner, _, last = name.rpartition(".")
    thing = resolve(owner)
    annotations = getattr(thing, "__annotations__", {})
    return isinstance(thing, type) and (last in annotations or f"self.{last} =" in inspect.getsource(thing))


def test_unknown_names_do_not_exist() -> None:
    names = [entry["missing"] for entry in ALL["refusals"] if entry["kind"] == "name"]
    assert [name for name in names if resolve(name) is not None] == []


def passage(name: str, **fields: Any) -> Passage:
    given = {"kind": "function", "title": name, "corpus": "packages"}
    empty = dict.fromkeys(("text", "package", "version", "licence", "location"), "")
    return Passage(name=name, **{**given, **empty, **fields})


@pytest.mark.parametrize(
    ("found", "accepted", "right"),
    [
        ("os.path.join", "os.path.join", True),
        ("posixpath.join", "os.path.join", True),
        ("starlette.applications.Starlette.add_middleware", "fastapi.FastAPI.add_middleware", True),
        ("shlex.join", "os.path.join", False),
        ("no.such.module.join", "os.path.join", False),
        ("os.path.sep", "os.sep", False),  # equal strings prove nothing
    ],
)
def test_another_name_of_the_same_object_is_right(found: str, accepted: str, right: bool) -> None:
    resolve("fastapi.FastAPI")
    assert is_right({}, passage(found), accepted) == right


@pytest.mark.parametrize(
    ("accepted", "right"),
    [
        ("config.rst#built-in values", True),
        ("docs/config.rst#", True),
        (".rst#secret_key", True),
        ("config.rst#debug", False),
        ("api.rst#", False),
    ],
)
def test_a_section_is_right_by_its_file_and_heading(accepted: str, right: bool) -> None:
    title = "Config > *Built-in*  values > `SECRET_KEY`"
    section = passage("SECRET_KEY", title=title, location="docs/config.rst:40", package="flask")
    assert is_right({"folder": "flask"}, section, accepted) == right
    assert not is_right({"folder": "celery"}, section, accepted)


def test_a_difference_needs_both_and_silence_is_no_answer() -> None:
    entry = {"text": "hypot vs dist", "accepted": ["math.hypot", "math.dist"], "kind": "difference"}
    both = judge(entry, SearchResult((passage("math.hypot"), passage("math.dist"))))
    one = judge(entry, SearchResult((passage("math.hypot"),)))
    nothing = judge(entry, SearchResult())
    assert [(v.first, v.three, v.silent) for v in (both, one, nothing)] == [
        (True, True, False),
        (True, False, False),
        (False, False, True),
    ]


def test_an_answer_may_say_that_a_name_does_not_exist() -> None:
    assert says_missing("`os.listdir` has no parameter `recursive`.\n\n> Return a list.", "recursive")
    assert not says_missing("> There is no recursive search.", "recursive")
    assert not says_missing("Use `recursive`.", "recursive")


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        ("```python\nint(x)\n```\n\n> The string must have digits.\n\nLook at line 3.", True),
        ("```python\nint(x)\n```\n\n> The string must have digits.", False),  # no fix
        ("```python\nint(x)\n```\n\nLook at line 3.", False),  # nothing explained
        ("    price = int(text)\n\n> The string must have digits. Look at line 3.", False),  # the user's call
    ],
)
def test_an_error_is_helped_by_its_meaning_its_signature_and_a_fix(answer: str, helps: bool) -> None:
    pasted = 'File "app.py", line 3\n    price = int(text)\nValueError: invalid literal'
    entry = {"text": pasted, "explains": [r"\bdigits"], "signature": ["int("], "fix": ["isdigit", "line 3"]}
    assert is_helpful(entry, answer) == helps


def test_a_message_does_not_explain_itself() -> None:
    for entry in ALL["errors"]:
        for pattern in entry["explains"]:
            assert not re.search(pattern, entry["text"], re.IGNORECASE), (pattern, entry["text"])


def test_only_an_answer_without_passages_refuses_small_talk() -> None:
    assert judge({"text": "thanks"}, SearchResult()).refused
    assert not judge({"text": "thanks"}, SearchResult((passage("math.hypot"),))).is_perfect
