"""Man pages: an option is found with its whole description, and no macro is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.knowledge.reading.samples import passages_of

HERE = Path(__file__).parent


def test_a_page_with_the_macros_of_man() -> None:
    passages = passages_of(HERE / "fetch.1")
    assert [(each.title, each.text) for each in passages] == [
        (
            "fetch(1)",
            "fetch - get files from a server\n\n`fetch`\n[`-r`] [`-o` *FILE*] *URL*...",
        ),
        (
            "fetch(1) › DESCRIPTION",
            "Fetcher copies each\n*URL*\nto a file—\neven over C:\\\\ and a\\*b.\nIt is printed.",
        ),
        (
            "fetch(1) › DESCRIPTION › Names of files",
            "```\n    fetch http://a.example/x   # *not* emphasis\n    ls x\n```",
        ),
        (
            "fetch(1) › OPTIONS › -r, --recursive",
            "Fetch what the pages lead to.\n\n- First pages,\n- then pictures.",
        ),
        (
            "fetch(1) › OPTIONS › -o, --output=FILE, --save",
            "Write to\n*FILE*.\n\nBy default to `stdout`.",
        ),
        ("fetch(1) › OPTIONS", "Options come first."),
        ("fetch(1) › EXIT STATUS", "0. All is well.\n1. It failed."),
        ("fetch(1) › ENVIRONMENT › FETCH_PROXY", "The proxy to use."),
        (
            "fetch(1) › ENVIRONMENT",
            "See\n`curl`(1)\nand\n<http://docs.example>\nthe site\n\n```\ncode@\na long\nmeaning\n```",
        ),
    ]
    assert {each.url for each in passages} == {"https://docs.example/fetch.1"}


def test_the_line_of_a_passage_is_that_of_the_file() -> None:
    lines = (HERE / "fetch.1").read_text().split("\n")
    starts = [lines[int(each.location.partition(":")[2]) - 1] for each in passages_of(HERE / "fetch.1")]
    assert starts[2:6] == [
        "    fetch http://a.example/x   # *not* emphasis",
        "Fetch what the pages lead to.",
        "Write to",
        "Options come first.",
    ]


def test_a_page_with_the_macros_of_mdoc() -> None:
    assert [(each.title, each.text) for each in passages_of(HERE / "count.8")] == [
        (
            "count(8)",
            "`count`\n– count the lines of files\n\n`count`\n[`-cl`]\n[`--max=`*number*]\nfile ...",
        ),
        (
            "count(8) › DESCRIPTION",
            "The\n`count`\nutility counts lines\n(see `wc`(1)),\nbut not those of\n`/dev/null`.",
        ),
        ("count(8) › DESCRIPTION › -c, --chars", "Count characters.\n\n- All of them."),
        ("count(8) › DESCRIPTION › -m most", "Stop there."),
        ("count(8) › DESCRIPTION", "```\ncount -c a.txt\n```"),
        ("count(8) › EXAMPLES", "Count:\n\n```\ncount *.c\n```"),
    ]


@pytest.mark.parametrize("sample", ["fetch.1", "count.8"])
def test_no_macro_and_no_escape_is_left(sample: str) -> None:
    for each in passages_of(HERE / sample):
        assert not re.search(r"^[.'][A-Z]\w|\\f[BIR]|\\\(|\\-", each.text, re.MULTILINE)
