"""Synonyms, and the correction of misspelt words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.search.words import LIBRARIES, PRODUCTS, STOP_WORDS, corrected

KNOWN = frozenset(
    "extension dictionary receive separate packages string comma shift extend integer environment".split()  # noqa: SIM905
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("extention", "extension"), ("recieve", "receive"), ("dictionery", "dictionary")),
        *(("seperate", "separate"), ("strng", "string"), ("intger", "integer")),
        ("enviroment", "environment"),
    ],
)
def test_a_misspelt_word_is_corrected(written: str, meant: str) -> None:
    assert corrected(written, KNOWN) == meant


@pytest.mark.parametrize(
    "word",
    ["", *"extension pancakes kubernetes swift react coma naïve json2 xtension read_csv".split()],  # noqa: SIM905
)
def test_a_word_that_is_known_short_or_unlike_all_others_stays(word: str) -> None:
    assert corrected(word, KNOWN) == word


@given(st.integers(1, 8))
def test_two_swapped_letters_are_corrected(at: int) -> None:
    word = "permission"
    assert corrected(word[:at] + word[at + 1] + word[at] + word[at + 2 :], {word}) == word


@given(st.text(max_size=30), st.frozensets(st.text("abcdef", min_size=1, max_size=9), max_size=20))
def test_any_text_keeps_its_first_letter(text: str, known: frozenset[str]) -> None:
    assert corrected(text, known)[:1] == text[:1]


def test_other_technologies_are_not_stop_words() -> None:
    assert not (PRODUCTS | LIBRARIES) & STOP_WORDS
    assert not PRODUCTS & LIBRARIES
