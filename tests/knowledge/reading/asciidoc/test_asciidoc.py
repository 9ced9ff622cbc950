"""AsciiDoc: options are found with their description, headings with their anchors."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.knowledge.reading.asciidoc import looks_like_asciidoc
from tests.knowledge.reading.samples import passages_of

HERE = Path(__file__).parent


def test_a_guide() -> None:
    url = "https://docs.example/store.html"
    top = "The Store's guide"
    options = f"{top} › Options & more!"
    assert [(each.title, each.text, each.url) for each in passages_of(HERE / "store.adoc")] == [
        (
            top,
            "Store keeps **things** in `boxes`, see how to open and\n[more](<https://docs.example/more>).",
            url,
        ),
        (
            f"{top} › Open a box",
            "**Steps**\n\n1. Take it.\n\n   1. By its **handle**.\n\n2. Open it.\n\n   Gently.\n\n"
            "**Note:** Not all boxes open.\n\n```\nstore open   # *box*\n\n== not a heading\n```".replace(
                "2.", "1."
            ),
            f"{url}#open-box",
        ),
        (
            f"{options} › -f, --force=<level>",
            "Open it with force,\nas far as *needed*.\n\n- low:\n  a little\n- high:\n  much",
            f"{url}#_options_more",
        ),
        (f"{options} › store.colour", "The colour of boxes.", f"{url}#_options_more"),
        (
            options,
            "After the options.\n\n**Warning:**\n\nBoxes are heavy.\n\n"
            "- Name – Meaning\n- `box` – a container",
            f"{url}#_options_more",
        ),
        (f"{options} › Deep", "Text.", f"{url}#own.id"),
        (options, "Again.", f"{url}#_options_more_2"),
    ]


def test_a_manual_page_in_a_plain_text() -> None:
    passages = passages_of(HERE / "store-open.txt")
    assert [(each.title, each.text) for each in passages] == [
        ("store-open(1)", "store-open - Open a box\n\n```\nstore open [--force] <box>\n```"),
        ("store-open(1) › OPTIONS › <box>", "The box, see `store-list`(1)."),
        ("store-open(1) › OPTIONS › --quiet", "Say nothing."),
        ("store-open(1) › STORE", "Part of the `store`(1) suite"),
    ]
    assert passages[2].location == "store-open.txt (AsciiDoc):19"
    assert passages[2].url == "https://docs.example/store-open.html#_options"


@pytest.mark.parametrize(
    ("text", "is_asciidoc"),
    [
        ("= Title\n\n[NOTE]\n====\nx\n====\n", True),
        ("Title\n=====\n\ninclude::a.txt[]\n\nifdef::b[]\n", True),
        ("Title\n=====\n\n.. note:: x\n\nSub\n---\n\ntext::\n\n    code\n", False),
        ("= Wiki title =\n\n== Part ==\n", False),
        ("Some text [NOTE] here.\n\n----\n", False),
    ],
)
def test_a_plain_text_is_recognised(text: str, is_asciidoc: bool) -> None:
    assert looks_like_asciidoc(text) is is_asciidoc
