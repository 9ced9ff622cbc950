"""What an answer shows of a passage: the part that answers, a parameter, a signature, an example."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge.excerpts import (
    SIGNATURE_WIDTH,
    about_parameter,
    answering,
    name_of,
    own_example,
    parameters,
    wrapped,
)

SIGNATURE = "m.f(a, /, b: dict[str, int]={}, *, c='x, (', d=(1, 2), **rest) -> tuple[int, str]"
SECTIONS = (
    "Waxing keeps wood dry.",
    "Sanding takes rough paper.",
    "Gluing needs clamps.",
    "Painting comes last.",
)
LONG = "\n\n".join(f"{first} " + "It goes on and on. " * 20 for first in SECTIONS)


def test_the_parameters_of_a_signature_are_separated() -> None:
    assert parameters(SIGNATURE)[2:5] == ["b: dict[str, int]={}", "*", "c='x, ('"]
    assert [name_of(each) for each in parameters(SIGNATURE)] == ["a", "", "b", "", "c", "d", "rest"]
    assert parameters("m.x") == parameters("m.f()") == []
    assert name_of(parameters("range(stop[, step])")[0]) == "stop"


def test_a_long_signature_has_its_parameters_on_one_line_or_each_on_its_own() -> None:
    assert wrapped(SIGNATURE, 1000) == SIGNATURE
    short = f"package.module.{'function' * 6}(first, second, third, fourth, fifth)"
    assert wrapped(short, 1000).split("\n")[1:] == ["    first, second, third, fourth, fifth", ")"]
    many = f"f({', '.join(f'parameter_{n}: int = {n}' for n in range(20))}) -> None"
    lines = wrapped(many, 1000).split("\n")
    assert lines[0] == "f("
    assert lines[1] == "    parameter_0: int = 0,"
    assert lines[-2:] == ["    parameter_19: int = 19", ") -> None"]


def test_a_signature_that_is_far_too_long_ends_between_parameters() -> None:
    many = f"f({', '.join(f'parameter_{n}: int = {n}' for n in range(500))}) -> None"
    shown = wrapped(many, 600)
    assert len(shown) < 700
    assert shown.endswith(",\n    …\n) -> None")


@settings(deadline=None)
@given(st.text(st.sampled_from("ab,()[]{}'\"\\=*: ."), max_size=300), st.integers(50, 400))
def test_any_signature_keeps_its_characters(signature: str, longest: int) -> None:
    shown = wrapped(signature, longest)
    assert len(shown) <= 10 * longest
    if len(signature) <= longest:
        assert "".join(shown.split()) == "".join(signature.split())
    if len(signature) <= SIGNATURE_WIDTH:
        assert shown == signature


# The part that answers


@pytest.mark.parametrize(
    ("question", "number"), [("How do I glue?", 2), ("gluing with clamps", 2), ("paint", 3)]
)
def test_the_part_of_a_long_text_that_is_nearest_to_the_question_is_shown(question: str, number: int) -> None:
    quote, is_later, is_cut = answering(LONG, question, 500, 0)
    assert quote.startswith(SECTIONS[number])
    assert is_later
    assert is_cut is (number < 3)


@pytest.mark.parametrize("question", ["?", "waxing", "oil", "How does it go on?", ""])
def test_else_the_beginning_is_shown(question: str) -> None:
    assert answering(LONG, question, 500, 0)[0].startswith("Waxing")
    assert not answering(LONG, question, 500, 0)[1]


def test_a_text_that_fits_is_shown_whole() -> None:
    assert answering(LONG, "paint", 5000, 0) == (LONG.rstrip(), False, False)


def test_a_block_of_code_is_not_begun_in_the_middle() -> None:
    code = "```python\nx = 1\n\nvarnish = 2\n```"
    quote, is_later, _ = answering(f"{LONG}\n\n{code}", "varnish", 500, 0)
    assert is_later
    assert quote.startswith("```python\nx = 1")


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \n`~>"), max_size=400), st.text(max_size=20), st.integers(10, 200))
def test_what_is_shown_is_in_the_text(text: str, question: str, longest: int) -> None:
    assert answering(text, question, longest, 20)[0] in text


# Parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Go.\n\n:param int depth: How\n    deep.\n:param other: No.", ":param int depth: How\n    deep."),
        ("Go.\n\nArgs:\n    depth (int): How\n        deep.\n    other: No.", "depth (int): How\n    deep."),
        ("Go.\n\nParameters\n-----\ndepth : int\n    How.\nother : int\n", "depth : int\n    How."),
        ("Options:\n\n- `depth`: how deep\n- `other`: no", "- `depth`: how deep"),
        ("Options:\n\n* **depth** – how deep\n* other", "* **depth** – how deep"),
        ("Go on.\n\nIf *depth* is given, stop there.\n\nEnd.", "If *depth* is given, stop there."),
        ("depth\n=====\n\nA heading.", ""),
        ("In depth.", ""),
    ],
)  # fmt: skip
def test_the_lines_of_a_parameter_are_found(text: str, expected: str) -> None:
    assert about_parameter(text, "depth") == expected


@settings(deadline=None)
@given(st.text(st.sampled_from("ab :-*`(\n\t"), max_size=400), st.text(max_size=5))
def test_any_text_is_searched_for_a_parameter(text: str, name: str) -> None:
    for line in about_parameter(text, name).split("\n"):
        assert line.strip() in text


# Examples


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Do so:\n\n```js\nlet x = 1\n\nlet y = 2\n```\n\nEnd.", ("let x = 1\n\nlet y = 2", "js")),
        ("Do so:\n\n    >>> f(1)\n    2\n\nEnd.", (">>> f(1)\n2", "python")),
        ("No example.", ("", "")),
        ("```\nnever closed", ("", "")),
    ],
)
def test_the_own_example_of_a_text_is_found(text: str, expected: tuple[str, str]) -> None:
    assert own_example(text) == expected
