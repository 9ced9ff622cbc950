"""Plain text as Markdown: text and layout are kept, and no character of the text acts as Markdown."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assistant.knowledge.plain_text import (
    block_quote,
    code,
    code_block,
    described,
    escaped,
    excerpt,
    first_sentence,
    is_markdown,
    link,
    readable,
    to_markdown,
)
from tests.knowledge.answer_reader import Piece, pieces_of, unescaped

# Texts full of the characters that Markdown interprets.
SIGNS = st.text(st.sampled_from("ab1. `*_~[]()<>#-+=|\\&;:!\"'\n\t>…é"), max_size=60)
LINES = st.sampled_from(
    "||word|- item|* item|  more|    deep|1. one|head|====|----|```|````|~~~".split("|")  # noqa: SIM905
)
MARKED = SIGNS | st.lists(LINES | SIGNS.map(lambda text: text.replace("\n", " ")), max_size=9).map("\n".join)


def folded(text: str) -> str:
    return " ".join(text.split())


def test_prose_stays_a_paragraph_and_markdown_in_it_is_escaped() -> None:
    text = "Takes *args and **kwargs, returns __name__ or a_b [see `x`] <tag> a < b, 2 * 3."
    shown = to_markdown(text)
    assert (
        shown == r"Takes \*args and \*\*kwargs, returns \_\_name\_\_ or a_b \[see \`x\`] \<tag> a < b, 2 * 3."
    )
    assert pieces_of(shown) == [Piece("prose", text)]


def test_a_restructuredtext_literal_stays_code() -> None:
    shown = to_markdown("Use ``*args`` here, not ``` or ``  x.")
    assert shown == r"Use ``*args`` here, not \`\`\` or \`\`  x."


@pytest.mark.parametrize(
    "line",
    "# no heading|> no quote|- no item|+ none|1. one|12) two|===|---|- - -|~~~|```".split("|"),  # noqa: SIM905
)
def test_a_line_of_prose_never_begins_a_block(line: str) -> None:
    shown = escaped(line)
    assert "\\" in shown
    assert pieces_of(f"word\n{shown}\n\n{shown}") == [Piece("prose", f"word\n{line}"), Piece("prose", line)]


def test_the_layout_of_indented_text_survives_in_a_block_of_code() -> None:
    text = "Split it.\n\n  sep\n    By it.\n\n    When None, any.\n  maxsplit\n    How many.\n\nThat is all."
    assert pieces_of(to_markdown(text)) == [
        Piece("prose", "Split it."),
        Piece("code", "sep\n  By it.\n\n  When None, any.\nmaxsplit\n  How many.", "text"),
        Piece("prose", "That is all."),
    ]


def test_an_interpreter_session_is_python_but_its_introduction_is_not() -> None:
    text = "For example:\n>>> f(1)\n1\n\n>>> f('`')\n'`'\n\nDone."
    assert pieces_of(to_markdown(text)) == [
        Piece("prose", "For example:"),
        Piece("code", ">>> f(1)\n1\n\n>>> f('`')\n'`'", "python"),
        Piece("prose", "Done."),
    ]


def test_indented_code_is_python() -> None:
    shown = to_markdown("The code:\n\n   with A() as a:\n       work(a)\n\nis the same.")
    assert Piece("code", "with A() as a:\n    work(a)", "python") in pieces_of(shown)


def test_a_list_keeps_further_paragraphs_of_an_item() -> None:
    text = "Rules:\n\n* one is\n  long\n\n  and has *two* parts\n\n* two"
    assert to_markdown(text) == "Rules:\n\n* one is\n  long\n\n  and has \\*two\\* parts\n\n* two"


def test_a_list_that_markdown_would_change_becomes_code() -> None:
    text = "- one\n      far to the right\n- two"
    assert pieces_of(to_markdown(text)) == [Piece("code", text, "text")]


def test_a_heading_with_its_underline_becomes_bold() -> None:
    shown = to_markdown('The "with" statement\n********************\n\nText.')
    assert shown == '**The "with" statement**\n\nText.'


def test_short_lines_stay_separate_lines() -> None:
    text = "dict() -> new\ndict(mapping) -> other\n\n" + "word " * 12 + "end\nof it"
    assert to_markdown(text) == "dict() -> new\\\ndict(mapping) -> other\n\n" + "word " * 12 + "end\nof it"


@pytest.mark.parametrize("inner", ["```\nout\n```", "~~~~", "`````python"])
def test_a_fence_in_a_text_does_not_end_the_block_of_code(inner: str) -> None:
    assert pieces_of(code_block(inner, "python")) == [Piece("code", inner, "python")]


def test_a_block_quote_ends_an_open_fence() -> None:
    assert block_quote("```\nnever closed\n\nx") == "> ```\n> never closed\n>\n> x"


def test_invisible_characters_are_removed() -> None:
    assert readable("a\u202eb\u2066c\x00d\x1b[31me\ud800\r\nf\rg\tx\ufeff") == "abcd[31me\nf\ng       x"
    assert readable("می\u200cخواهم") == "می\u200cخواهم"


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "", "/relative", "https://x/<b>", "https://x y", "https://" + "x" * 600],
)
def test_an_unsafe_address_makes_no_link(address: str) -> None:
    assert link("`a.py:1`", address) == "`a.py:1`"


def test_a_link_keeps_its_address() -> None:
    assert link("`a`", "https://e.org/a_(b)?x=1&amp;y") == "[`a`](<https://e.org/a_(b)?x=1&amp;amp;y>)"


def test_an_excerpt_ends_with_a_paragraph() -> None:
    text = "First.\n\n" + "x" * 50 + "\n\n" + "y" * 500
    assert excerpt(text, 100) == ("First.\n\n" + "x" * 50, True)
    assert excerpt(text, 100, 500) == (text, False)


def test_an_excerpt_does_not_end_with_a_heading_or_announcement() -> None:
    long = "x" * 60
    assert excerpt(f"{long}\n\nHead\n====\n\n{long}", 80) == (long, True)
    assert excerpt(f"{long}\n\nAs follows:\n\n{long}", 80) == (long, True)


def test_an_excerpt_of_one_long_paragraph_ends_with_a_line_or_a_word() -> None:
    assert excerpt("one two\n" * 100, 50) == ("\n".join(["one two"] * 6), True)
    assert excerpt("one two " * 100, 50) == ("one two " * 5 + "one two", True)
    assert excerpt("x" * 100, 50) == ("x" * 50, True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Remove a file. It must exist.", "Remove a file."),
        (
            "Things that are wrapped, e.g. This one, because they\nare long.  More.",
            "Things that are wrapped, e.g. This one, because they are long.",
        ),
        ("Head\n****\n\nThe rest is here.", "The rest is here."),
        ("dict() -> new\ndict(x) -> other", "dict() -> new"),
        ("f(a)\n    indented", "f(a)"),
        ("Version 3.11 is out", "Version 3.11 is out"),
        (">>> only()\n1", ">>> only()"),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == (sentence, False)


def test_a_long_first_sentence_is_cut_between_words() -> None:
    sentence, is_cut = first_sentence("word " * 100)
    assert is_cut
    assert re.fullmatch("(word ){40,47}word", sentence)


@given(MARKED)
def test_no_character_of_a_text_becomes_markdown(text: str) -> None:
    """A quoted text parses back to the text, and what follows it is not part of it."""
    text = readable(text)
    assume(not is_markdown(text))
    answer = f"{block_quote(to_markdown(text))}\n\nafter" if text.strip() else "after"
    *pieces, last = pieces_of(answer)
    assert last == Piece("prose", "after")
    assert all(piece.kind != "block" for piece in pieces)
    without_underlines = folded(re.sub(r"(?m)^([=*~^\"'#+-])\1{2,}\s*$", "", text))
    shown = folded(re.sub(r"(?m)^([=*~^\"'#+-])\1{2,}\s*$", "", "\n\n".join(piece.text for piece in pieces)))
    assert shown == without_underlines


def test_a_docstring_in_markdown_is_shown_as_markdown() -> None:
    text = """\
Declare it. Read the [guide](https://a.example/).

!!! tip "Use it"
    Once.

## Example

```python
>>> f(1)  # (1)!
2
```
"""
    assert to_markdown(text) == (
        "Declare it. Read the [guide](https://a.example/).\n\n\n**Use it**\n\nOnce.\n\n**Example**\n\n"
        "```python\n>>> f(1)\n2\n```"
    )


@pytest.mark.parametrize(
    "text", ["Call it:\n\n>>> f()  # [x](https://a.b)\n2", "# a comment", "See `it <https://a.b>`_.", "``` a"]
)
def test_other_docstrings_are_not_taken_for_markdown(text: str) -> None:
    assert not is_markdown(text)


@given(MARKED)
def test_a_span_of_code_is_its_text(text: str) -> None:
    span = code(text)
    if folded(text):
        mark = re.match("`+", span)
        assert mark is not None
        inner = span[len(mark[0]) : -len(mark[0])]
        assert mark[0] not in inner
        assert folded(inner) == folded(text)


@given(MARKED)
def test_an_escaped_line_reads_as_itself(text: str) -> None:
    line = text.replace("\n", " ")
    assert unescaped(escaped(line)) == line


@given(MARKED, st.integers(1, 60), st.integers(0, 30))
def test_an_excerpt_is_the_beginning(text: str, longest: int, grace: int) -> None:
    whole = text.strip("\n").rstrip()
    shown, is_cut = excerpt(text, longest, grace)
    assert whole.startswith(shown)
    assert len(shown) <= longest + grace
    assert is_cut == (shown != whole)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("removedirs(name)\n\nSuper-rmdir; remove a leaf. More.", "Super-rmdir; remove a leaf."),
        ("int([x]) -> integer\nint(x, base=10) -> integer\n\nConvert a number.", "Convert a number."),
        ("D.clear() -> None.  Remove all items from D.", "Remove all items from D."),
        ("x = reader(a [, b]\n           [more])\n    for row in x:\n        f(row)\n\nRead.", "Read."),
        ("f(x)\nDoes it.", "Does it."),
        ("random() -> x in the interval [0, 1).", "random() -> x in the interval [0, 1)."),
        ("dict() -> new\ndict(x) -> new dictionary with all of x", "dict() -> new"),
        ("Le(le=x) implies that it is less.", "Le(le=x) implies that it is less."),
        ("f(x)", "f(x)"),
        ("f(x", "f(x"),
    ],
)
def test_a_signature_is_skipped_if_a_description_follows(text: str, sentence: str) -> None:
    assert first_sentence(text)[0] == sentence


@given(st.text(alphabet="fx ().,->\n", max_size=200))
def test_a_description_is_the_end_of_its_text(text: str) -> None:
    assert text.strip("\n").endswith(described(text).strip("\n"))
