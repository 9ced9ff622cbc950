import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.titles import LONGEST_TITLE, MOST_LINES, UNTITLED, title_of

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    f()\nKeyError: 1'
TITLES = {
    # Fences
    "```python\nprint(1)\n```\nWhy does it print?": "Why does it print?",
    "~~~\nx = 1\n~~~\n\nWhat is x?": "What is x?",
    "````md\n```\nnot the end\n```\n````\nThe end?": "The end?",
    "> ```js\n> let a\n> ```\nWhat is a?": "What is a?",
    "```python\r\n\r\n{\r\n#!/usr/bin/python\r\n  import os\r\n```": "import os",
    "```\nHow do I close this?": "How do I close this?",
    "```\n```\n```": "```",
    "```rust": "rust",
    "```print(1)``` prints 1": "print(1) prints 1",
    "Fix this:\n```\nx\n```": "Fix this:",
    # Marks of Markdown
    "# Heading\n\ntext": "Heading",
    "## How? ##": "How?",
    "> > - [ ] **Fix** the parser": "Fix the parser",
    "1. first\n2. second": "first",
    "#include <stdio.h>": "#include <stdio.h>",
    "**kwargs or *args?": "**kwargs or *args?",
    "__init__ is not called": "__init__ is not called",
    "`open` fails": "`open` fails",
    "![](data:image/png;base64," + "A" * 3000 + ")\nWhat is this?": "What is this?",
    "See [the docs](https://example.org/) and handlers[x](y)": "See the docs and handlers[x](y)",
    "---\ntitle: Notes\ntags:\n- a\n---\nHow do I sort?": "How do I sort?",
    "---\n***\n| --- | :-: |\n=====\nWhy?": "Why?",
    "+++\ntitle = 'Notes'\n+++\nHow do I sort?": "How do I sort?",
    "- ```py\n  x = 1\n  ```\n- Why one?": "Why one?",
    "> somebody's words\n\nIs that so?": "Is that so?",
    "On Monday, Ann wrote:\n> Is it done?\n> I wait.": "Is it done?",
    # Tracebacks and prompts
    TRACEBACK: "KeyError: 1",
    f"```\n{TRACEBACK}\n```": "KeyError: 1",
    f"{TRACEBACK}\n\nDuring handling of the above exception, another exception occurred:\n\n"
    f"{TRACEBACK}2\n": "KeyError: 12",
    "\n".join(f"> {line}" for line in TRACEBACK.split("\n")): "KeyError: 1",
    '  + Exception Group Traceback (most recent call last):\n  |   File "a.py", line 2, in f\n  |     g()\n'
    "  | ExceptionGroup: two (2 sub-exceptions)": "ExceptionGroup: two (2 sub-exceptions)",
    ">>> import os\n>>> os.getcwd()": "import os",
    "$ pip install x\nERROR: no": "pip install x",
    "ann@host:~/src$ make\n": "make",
    "PS C:\\Users\\ann> dir": "dir",
    "In [12]: df.head()": "df.head()",
    "(.venv) $ pip list": "pip list",
    "bash-5.2# id": "id",
    "```\n#!/bin/sh\n# -*- coding: utf-8 -*-\necho\n```": "echo",
    # HTML and XML
    '<?xml version="1.0"?>\n<!DOCTYPE a>\n<a>\n<b x="1">Hello <i>you</i></b>\n</a>': "Hello <i>you</i>",
    "<!-- Please fill in\nthis form --> <p>Why is it red?": "Why is it red?",
    "How do I centre a <div>?": "How do I centre a <div>?",
    "<div> is not centred": "<div> is not centred",
    "<div></div>": "<div></div>",
    # Characters that cannot be seen, and lines without words
    "\u202eevil\u202c \u200bty\u200dpe\ufeff": "evil type",
    "\u200b\n\ufeff \nWhy?": "Why?",
    "\u200b": UNTITLED,
    "\tWhat\tis \x1b[31m red?\x00": "What is [31m red?",
    "می\u200cخواهم 👩\u200d💻": "می\u200cخواهم 👩\u200d💻",
    "🦀\nIs this Rust?": "Is this Rust?",
    "...\n🦀🦀": "🦀🦀",
    "???": "???",
    "\n\n  Why 🦀?  \nmore": "Why 🦀?",
    # Long lines
    "word " * 30: "word " * 15 + "word…",
    "x" * 81: "x" * 79 + "…",
    "日本語" * 40: ("日本語" * 27)[:79] + "…",
    "e\u0301" * 60: "e\u0301" * 39 + "…",
    "a" * 80: "a" * 80,
}


@pytest.mark.parametrize(("question", "title"), TITLES.items())
def test_a_title_is_the_first_words_that_say_something(question: str, title: str) -> None:
    assert title_of(question) == title


MARKS = [
    "```",
    "~~~py",
    "# ",
    "> ",
    "- ",
    "1. ",
    "---",
    "<b>",
    "</b>",
    "<!--",
    "-->",
    "**",
    "[",
    "](",
    ")",
    "$ ",
]
BREAKS = ["\n", "\n", "\r\n", "\t", " ", "\u200b", "\u202e", "\u200d", "\x00"]
WORDS = ["🦀", "Why", "title: ", "x" * 90, "Traceback (most recent call last):", '  File "a"']
PIECES = st.sampled_from([*MARKS, *BREAKS, *WORDS])


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_a_title_is_one_line_of_words_of_the_question(question: str) -> None:
    title = title_of(question)
    assert title.strip() == title != ""
    assert len(title) <= LONGEST_TITLE
    assert title.splitlines() == [title]
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in title)
    assert not re.search("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", title)
    if title != UNTITLED:
        assert set(re.findall(r"\w", title.removesuffix("…"))) <= set(question)


def test_a_question_with_words_never_has_a_title_without() -> None:
    for marks in ("```\n", "<p>\n", "---\n", "> \n", "\u200b\n", "🦀\n", "<!-- -->\n"):
        assert title_of(marks * (MOST_LINES - 1) + "words") == "words"
