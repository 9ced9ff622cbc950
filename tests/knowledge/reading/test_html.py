"""HTML as generators of documentation write it: no navigation, and each API has its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.knowledge.reading.folders import files_of
from tests.knowledge.reading.test_folders import read

NAVIGATION = {
    "DocBook": '<div class="navheader"><table summary="Navigation header"><tr><th>T</th></tr><tr><td>'
    '<a accesskey="p" href="a">Prev</a></td><td><a accesskey="n" href="b">Next</a></td></tr></table></div>',
    "older DocBook": '<table summary="Navigation footer"><tr><td>Prev</td><td>Home</td></tr></table>',
    "Texinfo": "<p>Next: <a rel='next'>B</a>, Previous: <a href='a'>A</a>, Up: <a href='c'>C</a></p>",
    "Sphinx": '<div class="related" role="navigation"><a accesskey="N">next</a> |</div>',
    "Django": '<div class="nav">« <a href="a">previous</a> | <a href="b">up</a></div>',
    "Read the Docs": '<div class="rst-footer-buttons" role="navigation"><a>Next</a></div>',
    "PyData": '<div class="prev-next-area"><a>previous</a></div><div class="bd-toc">On this page</div>',
    "mdBook": '<a rel="next" href="b" class="mobile-nav-chapters next">›</a>',
    "Docusaurus": '<div class="theme-doc-toc-mobile tocMobile_x"><button>On this page</button></div>',
    "MkDocs": '<div class="md-sidebar md-sidebar--secondary"><label>Table of contents</label></div>',
    "Antora": '<div class="toolbar"><div class="edit-this-page"><a>Edit this Page</a></div></div>',
    "javadoc": '<div class="subNav"><ul class="subNavList"><li>Detail: Field</li></ul></div>',
    "doxygen": '<div id="nav-path" class="navpath"><ul><li>dir</li></ul></div>',
    "gtk-doc": '<table class="navigation"><tr><td>Top</td></tr></table>',
    "SQLite": '<div class="toc_header">Table Of Contents</div><div id="toc_sub"><a>1. One</a></div>',
    "a line": "<p>Prev | Up | Home | Next</p>",
    "a line with links": "<p><a>Home</a> | <a>Table of contents</a> | <a>Index</a> | <a>Modules</a></p>",
    "a link": "<p><a>Edit this page</a></p>",
}


@pytest.mark.parametrize("navigation", NAVIGATION.values(), ids=NAVIGATION)
def test_navigation_is_left_out(tmp_path: Path, navigation: str) -> None:
    text = f"<body>{navigation}<h1>Title</h1><p>Hello.</p>{navigation}</body>"
    assert [each.text for each in read(tmp_path, "a.html", text)] == ["Hello."]


@pytest.mark.parametrize(
    "text",
    [
        '<div class="section" id="navigation"><h1>Navigation</h1><p>Hello.</p></div>',
        '<section id="menu"><h1>Menu</h1><p>Hello.</p></section>',
        '<div class="page-with-sidebar"><h1>T</h1><p>Hello.</p></div>',
        '<div class="menu"><h1>T</h1><p>Hello.</p></div>',  # all there is
        "<h1>T</h1><p><span class='menuselection'>Hello.</span></p>",
    ],
)
def test_text_that_looks_like_navigation_is_kept(tmp_path: Path, text: str) -> None:
    assert [each.text for each in read(tmp_path, "a.html", text)] == ["Hello."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<dt id="c.f">int f(int x)</dt><dd>F.</dd>', ["F."]),
        ('<dt id="a.f">a.f(x)</dt><dt id="a.g">a.g(x)</dt><dd><p>Both.</p></dd>', ["Both.", "Both."]),
        ('<dt id="a.f">a.f(x)</dt><dd></dd><dt id="a.g">a.g()</dt><dd>G.</dd>', ["a.f(x)", "G."]),
        ('<dt id="a.f">a.f(x)</dt><dd></dd></dl><p>Loose.</p><h2>B</h2><p>Bye.</p><dl>', ["Loose.", "Bye."]),
        ('<dt id="a.f">a.f(x)</dt><dd>F.</dd></dl><p>Prose.</p><dl>', ["F.", "Prose."]),
    ],
)
def test_each_api_has_its_text(tmp_path: Path, text: str, expected: list[str]) -> None:
    page = f'<h1>A</h1><dl class="py function">{text}</dl>'
    assert read(tmp_path, "a.html", page)[0].name in ("a.f", "f")
    assert [each.text for each in read(tmp_path, "a.html", page)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Terms of a list: each with an anchor, one of two terms without, within each other, and none at all.
        ('<dl><dt id="x">-x</dt><dd>X.</dd><dt id="y">-y</dt><dd>Y.</dd></dl>', ["-x#x X.", "-y#y Y."]),
        ('<dl><dt><a id="x"></a>-x</dt><dt>--xx</dt><dd>X.</dd></dl>', ["-x#x X.", "--xx#A X."]),
        (
            '<dl><dt id="x">x</dt><dd>X.<dl><dt id="y">y</dt><dd>Y.</dd></dl></dd></dl><p>Z.</p>',
            ["x#x X.", "y#y Y.", "A#A Z."],
        ),
        ("<dl><dt>term</dt><dd>Its text.</dd></dl>", ["A#A term Its text."]),
        ('<dl><dt id="x"></dt><dd>X.</dd></dl>', ["A#A X."]),
        ("<dl><dt id='x'></dl>X.", ["A#A X."]),
        # Rows: one with an anchor and a name in code, one without an anchor, one without code.
        (
            '<table><tr><th>Name</th></tr><tr><td><a id="f"></a><code>f</code>(x)</td><td>F.</td></tr>'
            "<tr><td><code>g</code></td><td>G.</td></tr></table>Z.",
            ["A#A Name", "f(x)#f f(x) F.", "A#A g G.  Z."],
        ),
        ('<table><tr id="f"><td><p><code>f</code></p><p>F.</p></td></tr></table>', ["f#f f  F."]),
        ('<table><tr id="f"><td></td><td><code>f</code></td></tr></table>', ["A#A f"]),
        ('<table><tr id="f"><th>1</th><td><code>f</code></td></tr></table>', ["A#A 1 f"]),
        # The title of a box does not take what follows the box.
        ('<div class="note"><h3>Note</h3><p>N.</p></div><p>Z.</p>', ["A#A Note  N.  Z."]),
        ("<h3 id='n'>Notes</h3><p>N.</p>", ["Notes#n N."]),
    ],
)
def test_the_anchor_of_a_passage_leads_to_what_it_says(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    page = f'<h1 id="A">A</h1>{text}'
    found = read(tmp_path, "a.html", page, base_url="https://example.org")
    assert [
        f"{each.name}#{each.url.partition('#')[2]} {each.text}".replace("\n", " ") for each in found
    ] == expected


@pytest.mark.parametrize(
    "name",
    ["genindex.html", "bookindex.html", "allclasses-index.html", "overview-tree.html", "a_8h_source.html"],
)
def test_pages_that_only_list_others_are_not_read(tmp_path: Path, name: str) -> None:
    for each in (name, "functions.html", "index-functions.html", "open_source.html"):
        (tmp_path / each).write_text("<p>Hello.</p>")
    assert [each.name for each in files_of(tmp_path)] == [
        "functions.html",
        "index-functions.html",
        "open_source.html",
    ]
