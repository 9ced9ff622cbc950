"""Texinfo: options and definitions are found whole, and nodes are pages."""

from __future__ import annotations

from pathlib import Path

from tests.knowledge.reading.samples import passages_of

HERE = Path(__file__).parent


def test_a_manual() -> None:
    url = "https://docs.example/"
    chapter = "Store Manual › Opening boxes"
    page = f"{url}Open-a-box.html"
    passages = passages_of(HERE / "store.texi")
    # One without a description may show its signature.
    assert [(each.title, each.text.removesuffix(each.signature or "\0"), each.url) for each in passages] == [
        ("Store", "The `store` program keeps *boxes* (Of any size.).", f"{url}index.html"),
        (
            chapter,
            "Use `open box` (see the start).  It costs 2 €\nor a{b}\\*c.\n\n```\nstore box   ⇒ 1\n```",
            page,
        ),
        (f"{chapter} › -f, --force", "Open it with force.\n\n- Gently.\n\nAnd again.", page),
        (f"{chapter} › -q", "Say nothing.", page),
        (chapter, "After the table, see [the site](<https://docs.example>).", page),
        (f"{chapter} › box-open", "", page),
        (f"{chapter} › box-open!", "Opens *box*.", page),
        (f"{chapter} › box_count", "Counts.", page),
        (f"{chapter} › No node", "1. One\n1. Two\n\n- a – b", page),
    ]


def test_definitions_have_signatures() -> None:
    found = {
        each.name: (each.kind, each.signature) for each in passages_of(HERE / "store.texi") if each.signature
    }
    assert found == {
        "box-open": ("function", "box-open box [how]"),
        "box-open!": ("function", "box-open! box"),
        "box_count": ("function", "int box_count(struct box *b, int n)"),
    }
