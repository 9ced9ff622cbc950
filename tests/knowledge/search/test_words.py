"""Which words count as the same, and what a misspelt one stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.search.words import OTHER_TECHNOLOGIES, STOP_WORDS, THIRD_PARTY, corrected

KNOWN = frozenset(
    "extension dictionary receive separate packages string comma shift extend integer environment".split()  # noqa: SIM905
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("extention", "extension"),
        ("recieve", "receive"),
        ("dictionery", "dictionary"),
        ("seperate", "separate"),
        ("strng", "string"),
        ("intger", "integer"),
        ("enviroment", "environment"),
    ],
)
def test_a_misspelt_word_is_put_right(written: str, meant: str) -> None:
    assert corrected(written, KNOWN) == meant


@pytest.mark.parametrize(
    "word",
    [
        "extension",
        "pancakes",
        "kubernetes",
        "swift",
        "react",
        "coma",
        "naïve",
        "json2",
        "xtension",
        "read_csv",
        "",
    ],
)
def test_a_word_that_is_known_short_or_far_from_all_stays(word: str) -> None:
    assert corrected(word, KNOWN) == word


@given(st.integers(1, 8))
def test_two_letters_that_changed_places_are_one_slip(at: int) -> None:
    word = "permission"
    assert corrected(word[:at] + word[at + 1] + word[at] + word[at + 2 :], {word}) == word


@given(st.text(max_size=30), st.frozensets(st.text("abcdef", min_size=1, max_size=9), max_size=20))
def test_of_any_text_something_is_made_that_begins_alike(text: str, known: frozenset[str]) -> None:
    assert corrected(text, known)[:1] == text[:1]


def test_names_of_other_programs_are_no_words_of_asking() -> None:
    assert not (OTHER_TECHNOLOGIES | THIRD_PARTY) & STOP_WORDS
    assert not OTHER_TECHNOLOGIES & THIRD_PARTY
