"""When an answer is grounded in documentation, and which of its sources it cites or quotes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assistant.conversation import Source
from assistant.grounding import SURE_ENOUGH, may_need_documentation, passages_for, with_citations
from tests.support.fake_documentation import FOUND

SMALL_TALK = """
hello | Hi there! | Good night, see you tomorrow | Thanks a lot! | thank you so much, this helps
that worked | it works now :) | ok, great | Perfect!! | sorry, my mistake | You are wrong | No problem
hey, how are you doing? | What can you do? | Who are you? | Can you help me, please? | Do you like me?
Write me a poem | Please write a haiku about autumn. | tell me another joke | Sing me a song | I love it
Could you tell me a bedtime story? | I'd like you to write a love poem for my wife | lol | Danke! | merci
can you compose a limerick about Mondays | Write a short story about a dragon who is afraid of fire.
"""
QUESTIONS = """
why? | how? | And with a timeout? | show me an example | thanks, and how do I close it? | which one?
How does it work? | that doesn't work | it still fails | What does it do? | can you do that? | continue
Can you explain? | Can you help me with pandas? | make it shorter | thank you, why is that? | print(ok)
write a function that tells jokes | write a joke API client | write a script for songs | os.path.join
How do I write a story file in Storybook? | Write a query that finds all poems | read a csv file | `ok`
I get an error when I open a file | like operator in sqlalchemy | good way to sort a list | and tuples?
"""


def texts(table: str) -> list[str]:
    return [text.strip() for line in table.strip().split("\n") for text in line.split("|")]


def test_small_talk_and_requests_for_literature_need_no_documentation_and_questions_may() -> None:
    assert [text for text in texts(SMALL_TALK) if may_need_documentation(text)] == []
    assert [text for text in texts(QUESTIONS) if not may_need_documentation(text)] == []


def test_passages_are_given_for_a_question_when_the_search_is_sure() -> None:
    unsure = replace(FOUND, confidence=SURE_ENOUGH - 0.01)
    assert passages_for("How do I remove a folder?", unsure) == ()
    assert passages_for("Thanks!", FOUND) == ()
    (passage,) = passages_for("How do I remove a folder?", FOUND)
    assert (passage.name, passage.cited) == ("shutil.rmtree", False)


def source(quote: str, title: str = "name") -> Source:
    return Source("name", title, "Python", "3.11", "PSF-2.0", "x.py:1", "", quote, cited=False)


RMTREE = source(
    "Delete an entire directory tree; path must point to a directory (but not a symbolic link).",
    "shutil.rmtree(path, ignore_errors=False, onerror=None)",
)
LOADS = source("Deserialize s to a Python object.", "json.loads(s)")


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("Use it [1].", "1"),
        ("Both do [1][2], see [3].", "12"),
        ("As in [1, 2].", "12"),
        ("`[1]` and argv[1] and f(x)[2]", ""),
        ("[1](https://example.org)", ""),
        ("```\n[1]\n```\nNo.", ""),
        ("~~~\n[1]\n~~~\nSee [2].", "2"),
        ("<think>[1] may help.</think>See [2].", "2"),
        ("It can delete an entire directory tree; *path* must point to a directory.", "1"),
        ("path must point to a directory\nand not a file", ""),
        ("```\nshutil.rmtree(path, ignore_errors=False,\n              onerror=None)\n```", "1"),
        ("Call `shutil.rmtree(path)` and `json.loads(s)`.", ""),
        ("Deserialize s\nto a *Python* object.", "2"),
        ("", ""),
    ],
)
def test_sources_are_cited_by_their_number_or_quoted_by_many_words_in_a_row(answer: str, cited: str) -> None:
    marked = with_citations(answer, (RMTREE, LOADS))
    assert "".join(str(number) for number, one in enumerate(marked, start=1) if one.cited) == cited
    assert [replace(one, cited=False) for one in marked] == [RMTREE, LOADS]


def test_marks_stay_and_without_new_ones_nothing_changes() -> None:
    sources = (replace(RMTREE, cited=True), LOADS)
    assert with_citations("No.", sources) is sources
    assert with_citations("[2]", sources)[0].cited


@given(st.text(), st.lists(st.text().map(source), max_size=3).map(tuple))
@example("[1]" * 40_000, (RMTREE,))
def test_any_text_may_be_looked_through(text: str, sources: tuple[Source, ...]) -> None:
    assert len(with_citations(text, sources)) == len(sources)
    may_need_documentation(text)


@pytest.mark.parametrize(
    "piece", ["`", "```", "~~~\n", "[1]", "[1, ", "(", "a ", "write a ", "you ", "<think>", "'a", "\u200b"]
)
def test_long_texts_take_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    with_citations(text, (RMTREE, LOADS))  # a quadratic rule would take minutes
    may_need_documentation(text)
