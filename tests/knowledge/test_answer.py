"""The answer that quotes the documentation: its layout, its sources and its limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge import answer as module
from assistant.knowledge.answer import (
    INTERFACE,
    LONGEST_QUOTE,
    LONGEST_TEXT,
    MOST_SOURCES,
    DocumentationAnswer,
    answer,
)
from assistant.knowledge.passage import ExplainedError, Fact, Passage, Raised, SearchResult
from assistant.knowledge.plain_text import readable
from assistant.knowledge.rest_in_words import in_words
from tests.knowledge.answer_reader import Piece, pieces_of
from tests.support import fake_documentation

RMTREE = replace(
    fake_documentation.RMTREE,
    text="Recursively delete a directory tree.\n\nIf ignore_errors is set, errors are ignored.",
    example="def tearDown(self):\n    shutil.rmtree(self.folder)",
    example_location="zipfile.py:12",
    url="https://docs.python.org/3.11/library/shutil.html#shutil.rmtree",
)
RMDIR = fake_documentation.passage(
    "os.rmdir",
    "Remove a directory.\n\nIt must be empty.",
    location="os.rmdir.__doc__",
    signature="os.rmdir(path)",
)
GUIDE = Passage(
    *("Cleaning up", "section", "Guide › Cleaning up"),
    text="Call `clean()` **last**:\n\n```python\nclean()\n```",
    package="guide",
    version="",
    licence="",
    location="guide/clean.md:12",
    corpus="docs",
)


def another(name: str, **fields: str) -> Passage:
    return replace(RMDIR, name=name, title=name, **fields)


def answered(question: str, *passages: Passage) -> DocumentationAnswer:
    return answer(question, SearchResult(passages))


def test_a_whole_answer() -> None:
    shown = answered("How do I delete a folder?", RMTREE, RMDIR)
    assert (
        shown.text
        == """\
```python
shutil.rmtree(path, ignore_errors=False, onerror=None)
```

> Recursively delete a directory tree.
>
> If ignore_errors is set, errors are ignored.

`shutil.rmtree`, Python 3.11.2 (PSF-2.0), [`shutil.py:722`](<https://docs.python.org/3.11/library/shutil.html#shutil.rmtree>)

**Example**

```python
def tearDown(self):
    shutil.rmtree(self.folder)
```

From `zipfile.py:12`

**See also**

- `os.rmdir`: “Remove a directory.” (`os.rmdir.__doc__`)
"""
    )


def test_sources_are_in_the_order_answer_alternatives_examples() -> None:
    shown = answered("How do I delete a folder?", RMTREE, RMDIR)
    example = RMTREE.source(RMTREE.example, location="zipfile.py:12")
    assert shown.sources == (
        RMTREE.source(RMTREE.text),
        RMDIR.source("Remove a directory."),
        replace(example, title="Example", url=""),
    )


def test_pieces_are_the_lines_of_the_text() -> None:
    shown = answered("?", RMTREE, RMDIR)
    pieces = list(shown.pieces())
    assert "".join(pieces) == shown.text
    assert all(piece.count("\n") == 1 and piece.endswith("\n") for piece in pieces)


def test_at_most_three_alternatives_are_shown() -> None:
    shown = answered("?", RMTREE, *(another(f"os.other{n}") for n in range(6)))
    assert [source.name for source in shown.sources[1:4]] == ["os.other0", "os.other1", "os.other2"]
    assert "os.other3" not in shown.text


def test_a_difference_shows_both_in_the_same_detail() -> None:
    walk = another("os.walk", text="Walk a tree.")
    shown = answered("difference between shutil.rmtree and os.rmdir", RMTREE, RMDIR, walk)
    pieces = pieces_of(shown.text)
    quoted = [piece.text for piece in pieces if piece.quoted]
    assert quoted == [*RMTREE.text.split("\n\n"), *RMDIR.text.split("\n\n")]
    names = [source.name for source in shown.sources]
    assert names == ["shutil.rmtree", "os.rmdir", "os.walk", "shutil.rmtree"]
    items = [piece.text for piece in pieces if piece.kind == "item"]
    assert items == ["- `os.walk`: “Walk a tree.” (`os.rmdir.__doc__`)"]


def test_a_difference_shows_the_two_subjects_though_another_is_between() -> None:
    shown = answered("rmtree vs rmdir", RMTREE, another("os.removedirs"), RMDIR)
    assert [source.name for source in shown.sources][:3] == ["shutil.rmtree", "os.rmdir", "os.removedirs"]


def test_a_difference_with_one_unknown_name_shows_the_other() -> None:
    shown = answered("difference between shutil.rmtree and os.teleport", RMTREE, another("os.walk"))
    assert sum(piece.quoted for piece in pieces_of(shown.text)) == 2
    assert "- `os.walk`" in shown.text


def test_a_long_passage_is_cut_at_a_paragraph() -> None:
    paragraphs = [f"Paragraph {n} " + "goes on and on " * 20 for n in range(12)]
    shown = answered("?", replace(RMTREE, text="\n\n".join(paragraphs)))
    quoted = [piece.text for piece in pieces_of(shown.text) if piece.quoted]
    assert quoted[-1] == "…"
    assert 2 <= len(quoted[:-1]) < 12
    assert [text.strip() for text in quoted[:-1]] == [text.strip() for text in paragraphs[: len(quoted) - 1]]
    assert not shown.sources[0].quote.endswith("…")


def test_a_passage_without_signature_is_headed_by_its_name() -> None:
    for kind in ("keyword", "data", "module", "property"):
        shown = answered("?", replace(RMTREE, name="with", kind=kind, signature="", example=""))
        assert pieces_of(shown.text)[0] == Piece("code", "with", "python")


def test_a_long_signature_is_broken_between_parameters() -> None:
    signature = f"f({', '.join(f'parameter_{n}=(1, 2)' for n in range(12))}, **rest) -> tuple[int, str]"
    code = pieces_of(answered("?", replace(RMTREE, signature=signature)).text)[0].text
    assert max(map(len, code.split("\n"))) <= 88
    assert code.replace("\n", "").replace(" ", "") == signature.replace(" ", "")
    assert code.split("\n")[0] == "f("
    assert code.split("\n")[-1] == ") -> tuple[int, str]"
    assert "(1,\n" not in code


def test_prose_that_is_markdown_is_shown_as_markdown() -> None:
    shown = answered("How do I clean up?", GUIDE)
    assert shown.text.startswith("**Guide › Cleaning up**\n\n> Call `clean()` **last**:\n>\n> ```python\n")
    assert "Guide › Cleaning up, guide, `guide/clean.md:12`\n" in shown.text
    assert shown.sources == (GUIDE.source(GUIDE.text),)


def test_an_open_fence_does_not_affect_the_rest() -> None:
    shown = answered("?", replace(GUIDE, text="```\nnever closed"), RMDIR)
    assert Piece("bold", "See also") in pieces_of(shown.text)


def test_a_fence_in_quoted_text_does_not_end_a_block() -> None:
    hostile = replace(
        RMTREE,
        text="See:\n\n    ```\n    # Not a heading\n    ```",
        example='text = """\n```\n**See also**\n"""',
        signature="f(a='```')",
    )
    pieces = pieces_of(answered("?", hostile).text)
    assert [piece.text for piece in pieces if piece.kind == "code"] == [
        "f(a='```')",
        "```\n# Not a heading\n```",
        hostile.example,
    ]
    assert Piece("bold", "See also") not in pieces


def test_no_part_of_an_answer_has_invisible_characters() -> None:
    evil = "a\u202eb\x1b[0m\x00"
    fields = "name title text signature example example_location location licence version package"
    hostile = replace(RMTREE, **{field: f"{field}{evil}" for field in fields.split()})
    found = SearchResult((hostile, replace(hostile, name="z")), unknown=evil, did_you_mean=(evil,))
    shown = answer("?", found)
    quotes = "".join(source.quote + source.name + source.location for source in shown.sources)
    assert not {"\u202e", "\x1b", "\x00"} & set(shown.text + quotes)


def test_only_addresses_for_browsers_become_links() -> None:
    assert "](" not in answered("?", replace(RMTREE, url="javascript:alert(1)")).text
    assert "](" not in answered("?", replace(RMTREE, url="")).text


def test_a_passage_without_text_shows_its_signature_and_place() -> None:
    shown = answered("?", replace(RMTREE, text="", example=""), replace(RMDIR, text=""))
    assert shown.text.startswith("```python\nshutil.rmtree(")
    assert "- `os.rmdir` (`os.rmdir.__doc__`)" in shown.text


def test_an_alternative_from_another_package_names_it() -> None:
    shown = answered("?", RMTREE, replace(RMDIR, package="trees", version="2.0", licence="MIT"))
    assert "(trees 2.0 (MIT), `os.rmdir.__doc__`)" in shown.text


def test_an_alternative_in_markdown_is_quoted_without_its_marks() -> None:
    text = "`/mcp` is a *server* of the [Protocol](https://protocol.example). It needs `**kwargs`."
    shown = answered("?", GUIDE, replace(GUIDE, name="The server", title="The server", text=text))
    assert "- The server: “/mcp is a server of the Protocol.” (`guide/clean.md:12`)" in shown.text
    assert shown.sources[1].quote == text.partition(" It")[0]
    table = replace(GUIDE, name="Colours", title="Colours", text="| name |\n|---|\n| red |")
    assert "- Colours (`guide/clean.md:12`)" in answered("?", GUIDE, table).text


def test_the_part_of_a_long_passage_that_answers_is_shown() -> None:
    sections = [f"{first} " + "goes on and on " * 40 for first in ("Waxing", "Sanding", "Gluing", "Painting")]
    shown = answered("How do I glue?", replace(RMTREE, text="\n\n".join(sections)))
    quoted = [piece.text for piece in pieces_of(shown.text) if piece.quoted]
    assert quoted[0] == "…"
    assert quoted[1].startswith("Gluing")
    assert shown.sources[0].quote.startswith("Gluing")


def test_an_example_of_the_passage_itself_comes_before_a_call_in_other_code() -> None:
    sessions = ">>> shutil.rmtree('old')\n>>> os.listdir()\n[]"
    long = replace(RMTREE, text=f"Delete it.\n\n{'It goes on. ' * 300}\n\n{sessions}")
    pieces = pieces_of(answered("?", long).text)
    assert Piece("code", sessions, "python") in pieces
    assert "zipfile.py" not in answered("?", long).text
    short = answered("?", replace(RMTREE, text=f"Delete it.\n\n{sessions}")).text
    assert short.count("rmtree('old')") == 1
    assert "**Example**" not in short


@pytest.mark.parametrize(
    ("location", "is_markdown"),
    [
        ("a/b.md:3", True), ("a/b.mdx:3", True), ("a/ls.1.gz:3", True), ("a/git.adoc:3", True),
        ("a/b.pdf:3", True), ("a/b.rst:3", False), ("a/b.txt:3", False),
        ("a/b.html:3", False), ("README:3", False),
    ],
)  # fmt: skip
def test_which_texts_are_markdown(location: str, is_markdown: bool) -> None:
    shown = answered("?", replace(GUIDE, text="Be **quick**.", location=location)).text
    assert ("Be **quick**." in shown) is is_markdown


# Errors and facts


def test_a_whole_answer_to_an_error() -> None:
    error = ExplainedError(
        "ValueError",
        "no 'x'",
        meaning=Fact("There is no {name} in {package}.", {"name": "x", "package": "Python 3.11.2"}),
        similar=("os.rmdir",),
        place="app.py:3",
        code="shutil.rmtree(x)",
        call=RMTREE,
        raised=Raised(
            "ValueError", "no …", "shutil.check", "shutil.py:7", "if not path:\n    raise ValueError()"
        ),
        cause="KeyError: 'x'",
    )
    shown = answer("?", SearchResult((RMTREE, RMDIR), error=error))
    assert shown.text.startswith("""\
There is no `x` in Python 3.11.2. Did you mean `os.rmdir`?

`shutil.py:7` raises it because `not path` is true:

```python
if not path:
    raise ValueError()
```

The error before it was `KeyError: 'x'`.

It comes from this line of your code (`app.py:3`):

```python
shutil.rmtree(x)
```

This is what it calls:

```python
shutil.rmtree(path, ignore_errors=False, onerror=None)
```

> Recursively delete a directory tree.
""")
    assert [source.location for source in shown.sources][-1] in ("shutil.py:7", "zipfile.py:12")
    assert "if not path:\n    raise ValueError()" in [source.quote for source in shown.sources]


def test_the_class_of_an_exception_is_shown_in_full_only_if_nothing_else_explains_it() -> None:
    a_class = another("shutil.SameFileError", text="Raised when both are the same.", signature="")
    for meaning in (None, Fact("They are the same.")):
        error = ExplainedError("shutil.SameFileError", "a", meaning=meaning)
        shown = answer("?", SearchResult((RMTREE, a_class), error=error)).text
        assert ("\n> Raised when both are the same." in shown) is (meaning is None)


def test_a_fact_stands_above_the_passage_with_its_quotation() -> None:
    fact = Fact("{name} says:", {"name": "os.rmdir"}, ".. versionadded:: 3.2", RMDIR)
    shown = answer("?", SearchResult((RMDIR,), facts=(fact,)))
    assert shown.text.startswith("`os.rmdir` says:\n\n> New in version 3.2.\n\n```python\nos.rmdir(path)")
    assert shown.sources[0].quote == "New in version 3.2."


# Nothing found


def test_an_answer_without_passages_says_what_to_try() -> None:
    shown = answer("best recipe for pancakes", SearchResult())
    assert shown.sources == ()
    assert shown.text == f"{module.NO_ANSWER}\n\n{module.NAME_IT} {module.LOAD_A_MODEL}\n"


def test_a_visitor_is_not_told_to_change_the_application() -> None:
    missing = SearchResult(covers=("Guide",), unknown="zebra.run", did_you_mean=("zebra.start",))
    shown = answer("How do I use zebra.run in Rust?", missing, by_visitor=True).text
    corrected = "The documentation has no `zebra.run`. Did you mean `zebra.start`?"
    assert shown == f"{module.NO_ANSWER_HERE}\n\n{corrected}\n\n{module.OTHER_WORDS}\n"


@pytest.mark.parametrize(
    ("question", "technology"),
    [
        ("How do I borrow a mutable reference in Rust?", "Rust"),
        ("c++ templates", "c++"),
        ("Sort a slice in Go", "Go"),
        ("Why does this not compile?\n```kotlin\nval x = 1\n```", "kotlin"),
        ("How do I go there?", ""),
        ("Call Rust from Python", ""),
    ],
)
def test_advice_fits_the_language_of_the_question(question: str, technology: str) -> None:
    for instead in (False, True):
        text = answer(question, SearchResult(covers=("Python 3.11.2", "my*docs")), instead=instead).text
        assert f"{module.NO_ANSWER} It covers Python 3.11.2 and my\\*docs.\n" in text
        assert (module.NAME_IT in text) is not bool(technology)
        assert (f"For {technology}, add other documentation" in text) is bool(technology)
        assert "shutil" not in text


def test_a_folder_named_like_the_language_is_searched_by_name() -> None:
    text = answer("How do I borrow in Rust?", SearchResult(covers=("Python 3.11.2", "rust-book"))).text
    assert module.NAME_IT in text


def test_an_answer_without_passages_lists_few_packages() -> None:
    text = answer("?", SearchResult(covers=tuple(f"p{number}" for number in range(100)))).text
    assert "It covers p0, p1, p2, p3, p4, p5 and 94 more." in text


def test_an_answer_without_passages_suggests_existing_names() -> None:
    found = SearchResult(unknown="json.parse_file", did_you_mean=("json.load", "json.loads", "json.dump"))
    text = answer("json.parse_file?", found).text
    assert "has no `json.parse_file`. Did you mean `json.load`, `json.loads` or `json.dump`?\n" in text
    one = answer("?", replace(found, did_you_mean=("json.load",))).text
    assert "Did you mean `json.load`?" in one


def test_an_unknown_name_is_reported_above_the_passages() -> None:
    shown = answer("os.rmtree", SearchResult((RMTREE,), unknown="os.rmtree", did_you_mean=("shutil.rmtree",)))
    sentences = "The documentation has no `os.rmtree`. Did you mean `shutil.rmtree`?"
    assert shown.text.startswith(f"{sentences}\n\n```python\n")


def test_an_unknown_name_is_always_shown_as_code() -> None:
    text = answer("?", SearchResult(unknown="a`b](x) **c**\n# d")).text
    assert "The documentation has no ``a`b](x) **c** # d``." in text


# Any passage at all

TEXTS = st.text(max_size=40) | st.text(
    st.sampled_from("ab `*_~[]()<>#-+=|\\&;:!\"'\n\t>.\u202e\r\x00"), max_size=200
)
LONG = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 200))
PASSAGES = st.builds(
    Passage,
    name=TEXTS | LONG,
    kind=st.sampled_from(["function", "class", "keyword", "topic", "section", "data"]),
    title=TEXTS | LONG,
    text=TEXTS | LONG,
    package=TEXTS | LONG,
    version=TEXTS,
    licence=TEXTS | LONG,
    location=TEXTS | LONG | st.just("guide/a.md:1"),
    corpus=st.sampled_from(["python", "packages", "docs"]),
    signature=TEXTS | LONG,
    example=TEXTS | LONG,
    example_location=TEXTS,
    url=TEXTS | st.just("https://example.org/a"),
)


@settings(deadline=None)
@given(TEXTS, st.lists(PASSAGES, max_size=6), st.none() | TEXTS, st.lists(TEXTS, max_size=6))
def test_any_passages_make_an_answer_within_its_limits(
    question: str, passages: list[Passage], unknown: str | None, near: list[str]
) -> None:
    shown = answer(question, SearchResult(tuple(passages), unknown, tuple(near)))
    assert shown.text.strip()
    assert len(shown.text) <= LONGEST_TEXT
    assert len(shown.sources) <= MOST_SOURCES
    assert all(len(source.quote) <= LONGEST_QUOTE for source in shown.sources)
    assert bool(shown.sources) == bool(passages)
    assert "".join(shown.pieces()) == shown.text
    shown.text.encode()  # no half of a surrogate pair


@settings(deadline=None)
@given(st.lists(TEXTS | LONG, min_size=8, max_size=8), st.lists(PASSAGES, max_size=3), PASSAGES)
def test_any_error_makes_an_answer_within_its_limits(
    texts: list[str], passages: list[Passage], other: Passage
) -> None:
    exception, message, name, similar, place, line, cause, quote = texts
    fact = Fact("There is {name}.", {"name": name}, quote, other)
    raised = Raised(exception, message, name, place, line)
    error = ExplainedError(exception, message, fact, (similar,), place, line, other, raised, None, cause)
    shown = answer(message, SearchResult(tuple(passages), error=error, facts=(fact,)))
    assert shown.text.strip()
    assert len(shown.text) <= LONGEST_TEXT
    assert len(shown.sources) <= MOST_SOURCES
    assert all(len(source.quote) <= LONGEST_QUOTE for source in shown.sources)
    shown.text.encode()


@settings(deadline=None)
@given(PASSAGES)
def test_the_quote_of_the_first_passage_is_its_beginning(passage: Passage) -> None:
    quote = answer("?", SearchResult((passage, passage))).sources[0].quote
    is_markdown = module._is_markdown(passage)
    shown = readable(passage.text) if is_markdown else in_words(readable(passage.text))
    # Backticks around code are not shown, and the quote may end within such code.
    assert shown.replace("`", "").strip("\n").startswith(quote.replace("`", ""))
    assert bool(quote.strip()) == bool(readable(passage.text).strip())


def test_the_interface_has_few_sentences() -> None:
    assert len(INTERFACE) == len(set(INTERFACE)) <= 19
