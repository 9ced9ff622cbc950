from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.answer import answer, reference
from assistant.knowledge.passage import SearchResult
from assistant.knowledge.rest_in_words import in_words, without_backticks
from tests.support.fake_documentation import RMTREE

WORDS = {
    # Roles
    ":func:`os.path.join`": "``os.path.join``",
    "See :py:meth:`~pathlib.Path.joinpath`, :c:type:`int`.": "See ``joinpath``, ``int``.",
    ":attr:`!x`": "``x``",
    ":ref:`the tutorial <tut>`, :class:`a list <list>`": "the tutorial, a list",
    ":term:`iterable`, :pep:`8`, :rfc:`2822`": "iterable, PEP 8, RFC 2822",
    "(:func:`f`)": "(``f``)",
    "a :func:`long\nname` there": "a ``long\nname`` there",
    "`text <https://x.org>`_, `page`_ and `plain`": "text, page and ``plain``",
    "``code`` and ``:func:`f` ``": "``code`` and ``:func:`f` ``",
    # Directives
    ".. versionadded:: 3.2": "New in version 3.2.",
    ".. versionchanged:: 3.3\n   The x.\n\n   More.": "Changed in version 3.3: The x.\n\nMore.",
    "  .. deprecated:: 2.0 Use `y`.": "  Deprecated since version 2.0: Use ``y``.",
    ".. deprecated-removed:: 3.4 3.6": "Deprecated since version 3.4, to be removed in version 3.6.",
    ".. note::\n   Take :func:`g`\n   now.\nafter": "Note: Take ``g``\nnow.\nafter",
    ".. warning:: Danger!": "Warning: Danger!",
    ".. seealso:: :mod:`os`": "See also: ``os``",
    ".. admonition:: Read\n\n   this": "Read:\n\nthis",
    ".. note::\n\n   .. versionadded:: 1.0\n\n   end": "Note:\n\nNew in version 1.0.\n\nend",
    ".. code-block:: python\n   :linenos:\n\n   x = 1\n\nend": "\n   x = 1\n\nend",
    "Like this::\n\n    x = 1\n\n::\n\n    y": "Like this:\n\n    x = 1\n\n\n    y",
    ".. function:: f(x)\n   :async:\n\n   Does it.": "f(x)\n\nDoes it.",
    "a\n.. index:: x\n   single: y\n.. _label:\n.. a comment\n   goes on\nb": "a\nb",
    ".. [1] A footnote.": "[1] A footnote.",
    # Fields
    ":param path: a folder\n:param int n: many": "path: a folder\nn (int): many",
    ":returns: it\n:rtype: str": "Returns: it\nReturn type: str",
    ":raises KeyError: never": "Raises KeyError: never",
    # Not reStructuredText
    "a: b\n::1 is an address, x[::2] a slice": "a: b\n::1 is an address, x[::2] a slice",
    ":-) :smile: 10:30:15 {key: `v`}": ":-) :smile: 10:30:15 {key: ``v``}",
    "`two\nlines <https://x.org>`_ and |name|_": "two\nlines and name",
    "...\n.. \n..": "...\n..",
    ">>> x[::]\n>>> print('a::')": ">>> x[::]\n>>> print('a::')",
    ".. a comment alone": ".. a comment alone",
}


@pytest.mark.parametrize(("text", "words"), WORDS.items())
def test_marks_become_words(text: str, words: str) -> None:
    assert in_words(text) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("``a`` and ``b\nc``", "a and b\nc"),
        ("`a`, ```b```, `` c``, ``d\n\ne``", "`a`, ```b```, `` c``, ``d\n\ne``"),
    ],
)
def test_a_quote_has_no_marks_of_code(text: str, shown: str) -> None:
    assert without_backticks(text) == shown


PIECES = st.sampled_from(
    [".. ", "note", "::", ":func:", "`", "``", "\n", "   ", ":param", " x", ":", "<", ">", "_"]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_words_are_never_lost_altogether(text: str) -> None:
    assert bool(in_words(text).strip()) == bool(text.strip())


MARKED = "Like :func:`os.walk`, takes ``None``.\n\n.. versionadded:: 3.2"
SHOWN = "Like os.walk, takes None.\n\nNew in version 3.2."


def test_the_quotes_of_all_sources_are_in_words() -> None:
    first, other = replace(RMTREE, text=MARKED), replace(RMTREE, name="os.walk", text=MARKED)
    shown = answer("?", SearchResult((first, other)))
    quotes = [source.quote for source in shown.sources]
    assert quotes == [SHOWN, "Like os.walk, takes None."]
    assert "> Like ``os.walk``, takes ``None``." in shown.text
    assert ":func:" not in shown.text
    assert reference(first).quote == SHOWN


def test_the_quote_of_a_markdown_file_stays_as_it_is() -> None:
    text = "Write ``x`` or :func:`f` in Markdown."
    passage = replace(RMTREE, text=text, corpus="docs", location="a.md:1")
    assert reference(passage).quote == text
