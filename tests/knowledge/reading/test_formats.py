"""What all formats have in common: packed files, and the harm that no text can do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge.answer import answer
from assistant.knowledge.passage import Passage, SearchResult
from assistant.knowledge.reading.asciidoc import read_asciidoc
from assistant.knowledge.reading.changelog import looks_like_changelog, read_changelog
from assistant.knowledge.reading.folders import files_of, format_of, read_file
from assistant.knowledge.reading.man import read_man
from assistant.knowledge.reading.page import Page, word_set
from assistant.knowledge.reading.texinfo import read_texinfo


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ls.1", "man"), ("man3/File::Find.3pm", "man"), ("man1/python3.11.1.gz", "man"), ("ssl.3ssl", "man"),
        ("release-1.2", ""), ("libz.so.1", ""), ("access.log.1", ""), ("box.7z", ""), ("a.mp3", ""),
        ("ls.1.gz", "man"), ("guide.md.gz", "markdown"), ("NEWS", "text"), ("changelog.gz", "text"),
        ("README", "text"), ("news.py", ""), ("a.adoc", "asciidoc"), ("make.texi.gz", "texinfo"),
        ("make.info.gz", ""), ("a.gz", ""), ("a.tar.gz", ""),
    ],
)  # fmt: skip
def test_the_name_of_a_file_shows_its_format(name: str, expected: str) -> None:
    assert format_of(f"/docs/{name}") == expected


def test_a_packed_file_is_read_like_an_unpacked_one(tmp_path: Path) -> None:
    text = b"# Box\n\nIt holds things.\n"
    (tmp_path / "box.md.gz").write_bytes(gzip.compress(text[:9]) + gzip.compress(text[9:]))
    passages = [
        each
        for file in files_of(tmp_path)
        for each in read_file(file, tmp_path, base_url="https://docs.example")
    ]
    assert [(each.name, each.text, each.location, each.url) for each in passages] == [
        ("Box", "It holds things.", "box.md.gz:3", "https://docs.example/box.html#box")
    ]


def test_a_packed_file_that_is_damaged_or_endless_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    bomb = gzip.compress(b"# Box\n\n" + b"It holds things, and more things.\n" * 1_000_000)
    for data, expected in [
        (bomb, "box.md.gz is larger than 2 MiB; the rest is left out."),
        (gzip.compress(b"") * 10_000, None),
        (gzip.compress(b"# Box\n\n" + b"".join(b"%d things. " % (n * n) for n in range(500)))[:300], None),
        (b"# Box\n", "box.md.gz cannot be read (it is not a gzip file)."),
    ]:
        (tmp_path / "box.md.gz").write_bytes(data)
        warnings: list[str] = []
        read_file(tmp_path / "box.md.gz", tmp_path, warn=warnings.append)
        assert warnings == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("location", "is_markdown"),
    [
        *(
            (name, True)
            for name in ("a.md:1", "ls.1.gz:12", "a.adoc:3", "a.txt (AsciiDoc):3", "NEWS (Markdown):1")
        ),
        *(
            (name, True)
            for name in ("a.pdf, page 12", "api.json:9", "make.texi:7", "a.b/ls.3pm:1", "a.ipynb:1")
        ),
        *((name, False) for name in ("a.rst:1", "b/a.txt:1", "a.html.gz:3", "NEWS:1", "a.b/changelog.gz:1")),
    ],
)
def test_an_answer_shows_markdown_as_it_is_and_converts_other_texts(location: str, is_markdown: bool) -> None:
    passage = Passage("A", "section", "A", "**bold** text", "Box", "", "", location, "docs")
    assert ("**bold** text" in answer("?", SearchResult((passage,))).text) is is_markdown


READERS = {
    "man": lambda text: read_man(f".TH A 1\n.SH B\n{text}"),
    "asciidoc": read_asciidoc,
    "texinfo": read_texinfo,
    "changelog": lambda text: read_changelog(text) if looks_like_changelog(text) else Page(),
}
PIECES = word_set(
    r"""
    .TP .IP .RS .RE .PP .nf .fi .SH .SH~A .B .TS .TE .if~n~\{ .el~\{ \} .de~x .. \f \fBa \*(a \( \[
    .Bl~-bullet .It~Xo .Xc .El .Op~Fl~a .Fl .Nm .Xr~a~1~, .ds~a~\*a .Dl .sp " .B~"a * * ~a **~b 1.~c
    a:: b;; -- ---- ==== + [[x]] [#y] |=== a|b =~A ==~B ===~C [source] NOTE:~x `a *a _a <<a,b>> {a}
    :a:~{a} link:a[b] 'a' @item~a @table~@code @itemize @end~table @end~itemize @example
    @end~example @node~A @chapter~A @code{ } @{ @deffn~a~b @end~deffn @macro~a{b} @end~macro @a{b}
    \b\ @value{x} @set~x~@value{x} @xref{ @menu @tab 1.0 Version~2.1 ---
    text ~~text -a
    """
)
TEXTS = st.lists(
    st.sampled_from(["", "\t", *(piece.replace("~", " ") for piece in sorted(PIECES))]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(READERS)), TEXTS.map("\n".join))
def test_any_text_is_read(name: str, text: str) -> None:
    page = READERS[name](text)
    count = text.count("\n") + 3
    assert all(1 <= number <= count for number in page.numbers)
    assert all(0 <= each.start <= each.end <= len(page.lines) for each in page.sections)


REPEATED = [
    *word_set(r"""
        \( \[ \h' \f[ " Xr~ \*(a ` * _ 'a~ << {a} [[ a: a| link:a[ + = \ @code{ @ { } @a{ @xref{a,
        @tab~ @value{x} 1. 1.0~ ( #~ ~ -~
        """),
    *('.B "a\n', ".RS\n", ".if n \\{\n", ".Bl\n.It\n", ".ds a \\*a\\*a\n\\*a\n", "a::\n", "* a\n** b\n"),
    *("--\n", "====\n", "@itemize\n@item\n", "@example\n", "\n", "a\n\n", "\n\n    a", "\t"),
]


@pytest.mark.parametrize("name", sorted(READERS))
def test_texts_of_one_piece_are_read_to_an_end(name: str) -> None:
    for piece in (each.replace("~", " ") for each in REPEATED):
        READERS[name](piece * (5_000 // len(piece)))
