"""The answer in a model's text, however the text is cut into pieces."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.answer import AnswerText
from tests.prompts.chats import CHATML_TEMPLATE, OURS


def answered(pieces: list[str], reader: AnswerText) -> str:
    return "".join([*map(reader.feed, pieces), reader.flush()])


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Sure.", "Sure."),
        ("Sure.", "Sure."),
        ("\n\n  \nSure.", "Sure."),
        ("\n    return x\n", "    return x\n"),
        ("     return x", "    return x"),
        (" ```python\nx\n```", "```python\nx\n```"),
        ("", ""),
        (" \n ", ""),
        ("Sure.\n\n-----", "Sure."),
        ("Sure.\n\n-----\n\n", "Sure."),
        ("Sure.\r\n-----\r\n", "Sure.\r"),
        ("Sure.\n-----\n\n-----\n", "Sure."),
        ("-----\n", ""),
        ("Sure.\n\n", "Sure.\n\n"),
        ("Sure. -----", "Sure. -----"),
        ("Sure.\n----", "Sure.\n----"),
        ("Sure.\n------", "Sure.\n------"),
        ("Title\n-----\nText", "Title\n-----\nText"),
        ("a\n-----\n\nb\n-----", "a\n-----\n\nb"),
        ("| a |\n| - |\n|-----|", "| a |\n| - |\n|-----|"),
        (CERTIFICATE, CERTIFICATE),
        ("a\n-----\n\n--", "a\n-----\n\n--"),
    ],
)
def test_an_answer_loses_leading_blanks_and_trailing_separators(text: str, answer: str) -> None:
    assert answered([text], OURS.answer()) == answer
    assert answered(list(text), OURS.answer()) == answer


def test_an_answer_to_a_chat_template_keeps_separators() -> None:
    assert answered(list("\nTitle\n-----\n"), CHATML_TEMPLATE.answer()) == "Title\n-----\n"


PIECES = ("-----", "-", "--", "\n", "\r\n", " ", "\t", "word", "Title\n-----", "\n-----\n\n", "é")
ANSWERS = st.lists(st.sampled_from(PIECES), max_size=16).map("".join)


@settings(deadline=None)
@given(text=ANSWERS, places=st.lists(st.integers(0, 200), max_size=12))
def test_the_pieces_of_a_text_do_not_change_its_answer(text: str, places: list[int]) -> None:
    for template in (OURS, CHATML_TEMPLATE):
        assert answered(cut(text, places), template.answer()) == answered([text], template.answer())


@settings(deadline=None)
@given(text=ANSWERS)
def test_an_answer_is_the_text_without_separators_and_blanks_at_its_ends(text: str) -> None:
    answer = answered([text], OURS.answer())
    assert answer in text
    before, _, after = text.partition(answer) if answer else (text, "", "")
    assert not before.strip() or not answer
    assert set(after) <= set("- \t\r\n")
    assert not re.search(r"(\A|\n)-----\s*\Z", answer)


@settings(deadline=None)
@given(text=ANSWERS)
def test_only_a_possible_separator_is_held_back(text: str) -> None:
    reader = OURS.answer()
    shown = reader.feed(text)
    held = reader.flush()
    if held:
        assert re.fullmatch(r"(\A|\n)?([ \t\r]*\n|-----[ \t\r]*\n)*(-{0,5}|-----[ \t\r]*|[ \t\r]*)", held)
    assert shown + held == answered([text], OURS.answer())
