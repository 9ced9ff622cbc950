"""Questions of versions and parameters: what is there is quoted, and what is absent is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge.answer import answer
from assistant.knowledge.index import Index
from assistant.knowledge.index_writer import IndexWriter
from assistant.knowledge.passage import Passage, SearchResult
from assistant.knowledge.search.search import search
from assistant.knowledge.search.versions import with_facts
from tests.support.fake_documentation import passage, unit

TURN = passage(
    "crank.turn",
    "Turn the crank.\n\n:param times: How often to turn it.\n\n.. versionadded:: 1.2\n\n"
    ".. versionchanged:: 1.4\n   *backwards* may be given.\n\n.. deprecated:: 2.0\n   Use crank.spin.",
    signature="crank.turn(times, *, backwards=False)",
)
SPIN = passage(
    "crank.spin", "Spin it.\n\nArgs:\n    speed (int): How fast.\n", signature="crank.spin(speed, **rest)"
)
CRANK = passage("crank.Crank", "A crank.", kind="class", signature="crank.Crank(size)")
CHANGES = replace(
    passage("Release 3.1", "- `crank.grease` was added.\n- Other things.", kind="section", corpus="docs"),
    package="crank-docs",
    location="docs/CHANGELOG.md:10",
)
GREASE = passage("crank.grease", "Grease it.")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path: Path = tmp_path_factory.mktemp("index") / "documentation.db"
    with closing(IndexWriter(path)) as writer:
        writer.put([unit("crank", TURN, SPIN, CRANK, GREASE)], {})
        writer.put([unit("docs", CHANGES)], {})
    with closing(Index(path)) as opened:
        yield opened


def said(index: Index, question: str, *found: Passage) -> str:
    """The answer, or "" if there is no fact."""
    known = with_facts(index, question, SearchResult(found)).facts
    return answer(question, SearchResult(facts=known)).text if known else ""


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("crank.turn sideways parameter", "`crank.turn` has no parameter `sideways`."),
        ("does crank.turn take backward?", "Its most similar parameters are `backwards`."),
        ("does crank.turn accept backwards", "`crank.turn` has the parameter `backwards`."),
        ("what does the times parameter of crank.turn do?", "> times: How often to turn it."),
        ("what is the argument `speed` of crank.spin", "speed (int): How fast."),
        ("can I pass a flag called loud to crank.spin", "no parameter `loud` of its own, but passes"),
        ("crank.spin(force=True)", "no parameter `force` of its own"),
        ("does crank.Crank have handle?", "Python 3.11.2 has no `crank.Crank.handle`."),
        (
            "since when does crank.turn have backwards?",
            "> Changed in version 1.4: \\*backwards\\* may be given.",
        ),
        ("in which version was crank.turn added", "> New in version 1.2."),
        ("is crank.turn deprecated?", "> Deprecated since version 2.0: Use crank.spin."),
        ("is crank.spin deprecated?", "has `crank.spin`, and its documentation does not call it deprecated."),
        (
            "since when is there crank.spin",
            "does not say since which version it exists; Python 3.11.2 has it.",
        ),
        ("when was crank.grease added?", "> - `crank.grease` was added."),
        ("which version of Python is installed?", "The version that was read is Python 3.11.2."),
        ("which Python version do I have?", "The version that was read is Python 3.11.2."),
        ("is crank.Crank.handle deprecated", "Python 3.11.2 has no `crank.Crank.handle`."),
        ("does Crank take a size?", "`crank.Crank` has the parameter `size`."),
        ("which version of crank-docs do I have", "The version that was read is crank-docs 3.11.2."),
    ],
)
def test_a_fact_answers_the_question(index: Index, question: str, expected: str) -> None:
    assert expected in said(index, question)


@pytest.mark.parametrize(
    "question",
    [
        "How do I turn a crank?",
        "How do I use crank.turn?",
        "What is the difference between crank.turn and crank.spin?",
        "which function turns the crank",
        "which version control system is best",
        "x" * 10_000,
    ],
)
def test_other_questions_have_no_fact(index: Index, question: str) -> None:
    assert said(index, question, TURN) == ""


def test_a_name_without_its_module_is_the_one_that_was_found(index: Index) -> None:
    assert "`crank.turn` has no parameter `sideways`." in said(index, "turn sideways parameter", SPIN, TURN)


def test_what_a_fact_is_about_is_the_first_passage(index: Index) -> None:
    found = with_facts(index, "does crank.spin take force", SearchResult((TURN, SPIN, GREASE)))
    assert [each.name for each in found.passages] == ["crank.spin", "crank.turn", "crank.grease"]
    unchanged = SearchResult((TURN, SPIN))
    assert with_facts(index, "How do I use crank.spin?", unchanged) == unchanged


def test_the_search_finds_facts(library: Index) -> None:
    shown = answer("?", search(library, "os.listdir recursive parameter")).text
    assert shown.startswith("`os.listdir` has no parameter `recursive`.\n\n```python\nos.listdir(path")


@settings(deadline=None, max_examples=50)
@given(
    st.text(max_size=40).map(lambda text: f"is crank.turn {text} deprecated parameter since when"), st.text()
)
def test_any_question_is_answered(index: Index, question: str, text: str) -> None:
    said(index, question, replace(TURN, text=text))
