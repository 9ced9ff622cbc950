"""A folder of documentation: its sections with their locations, and the harm that its files cannot do."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.knowledge.passage import Passage
from assistant.knowledge.reading import folders
from assistant.knowledge.reading.folders import SUFFIXES, decode, files_of, read_file


def read(root: Path, name: str, text: str | bytes, **how: str) -> list[Passage]:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_file(path, root, **how)


def refused(root: Path, name: str) -> str:
    """Why a file is left out."""
    warnings: list[str] = []
    assert read_file(root / name, root, warn=warnings.append) == []
    (warning,) = warnings
    return warning


@pytest.fixture
def warnings() -> list[str]:
    return []


def one(root: Path, name: str, text: str | bytes, **how: str) -> Passage:
    (passage,) = read(root, name, text, **how)
    return passage


def folded(text: str) -> str:
    return " ".join(text.split())


def test_a_section_has_its_headings_and_its_file_and_line(tmp_path: Path) -> None:
    passages = read(
        tmp_path,
        "guide/install.md",
        "# Guide\n\nWelcome.\n\n## Install\n\nGet it.\n\n### On *Linux*\n\nUse `apt`.\n\n## Use\n\nRun it.\n",
        package="Acme",
    )
    assert [(each.name, each.title, each.text, each.location) for each in passages] == [
        ("Guide", "Guide", "Welcome.", "guide/install.md:3"),
        ("Install", "Guide › Install", "Get it.", "guide/install.md:7"),
        ("On Linux", "Guide › Install › On Linux", "Use `apt`.", "guide/install.md:11"),
        ("Use", "Guide › Use", "Run it.", "guide/install.md:15"),
    ]
    assert {(each.corpus, each.kind, each.package) for each in passages} == {("docs", "section", "Acme")}


def test_lookalikes_of_headings_are_ignored(tmp_path: Path) -> None:
    text = "```sh\n# a comment\n```\n\n    # code\n\n> # quoted\n\n<!--\n# hidden\n-->\n\n#hash\n"
    passage = one(tmp_path, "a.md", f"# One\n\n{text}")
    assert passage.text == text.replace("<!--\n# hidden\n-->\n\n", "").rstrip()


def test_underlined_headings_and_headings_without_an_empty_line(tmp_path: Path) -> None:
    passages = read(tmp_path, "a.md", "One\n===\ntext\n\nTwo\n---\nmore\n### Three\nlast")
    assert [(each.title, each.text) for each in passages] == [
        ("One", "text"),
        ("One › Two", "more"),
        ("One › Two › Three", "last"),
    ]


def test_front_matter_is_left_out_and_names_a_page_without_a_first_heading(tmp_path: Path) -> None:
    passages = read(
        tmp_path, "a.md", "---\ntitle: 'The guide'\nid: 3\n---\n\nHello.\n\n## Install\n\nGet it.\n"
    )
    assert [(each.title, each.text, each.location) for each in passages] == [
        ("The guide", "Hello.", "a.md:6"),
        ("The guide › Install", "Get it.", "a.md:10"),
    ]


def test_a_title_is_not_repeated_before_the_heading(tmp_path: Path) -> None:
    page = "<title>Structs - The Book</title><main><h2>Structs</h2><p>Hello.<h3>Fields</h3><p>Bye."
    assert [each.title for each in read(tmp_path, "a.html", page)] == ["Structs", "Structs › Fields"]


def test_a_page_without_headings_has_the_name_of_its_file(tmp_path: Path) -> None:
    passage = one(tmp_path, "how_to_start.txt", "Press the button.\n")
    assert (passage.name, passage.package) == ("how to start", tmp_path.name)


@pytest.mark.parametrize(
    ("heading", "kind", "name", "signature"),
    [
        ("`shutil.copy(src, dst)`", "function", "shutil.copy", "shutil.copy(src, dst)"),
        ("shutil.copy(src) -> str", "function", "shutil.copy", "shutil.copy(src) -> str"),
        ("`class Client(*, auth=None)`", "class", "Client", "Client(*, auth=None)"),
        ("class `acme.Client`", "class", "acme.Client", "acme.Client"),
        ("fn push(&mut self, c: char)", "function", "push", "push(&mut self, c: char)"),
        ("`std::move(x)`", "function", "std::move", "std::move(x)"),
        ("Install (on Linux)", "section", "Install (on Linux)", ""),
        ("class struggle", "section", "class struggle", ""),
        ("Using `f(x)`", "section", "Using f(x)", ""),
    ],
)
def test_headings_that_describe_an_api(
    tmp_path: Path, heading: str, kind: str, name: str, signature: str
) -> None:
    passage = one(tmp_path, "a.md", f"## {heading}\n\nWhat it does.\n")
    assert (passage.kind, passage.name, passage.signature) == (kind, name, signature)


def test_an_undocumented_api_is_a_passage_with_its_signature(tmp_path: Path) -> None:
    passages = read(tmp_path, "a.md", "### `f(x)`\n\n### `g(y)`\n\nText.\n\n### Empty\n")
    assert [(each.name, each.text) for each in passages] == [("f", "f(x)"), ("g", "Text.")]


def test_long_sections_are_split_between_paragraphs_and_never_in_code(tmp_path: Path) -> None:
    code = "```python\n" + "\n".join(f"x{n} = 1\n" for n in range(400)) + "```"
    prose = [f"Paragraph {n} " + "of words " * 30 for n in range(40)]
    text = "\n\n".join([*prose[:20], "See:", code, *prose[20:]])
    passages = read(tmp_path, "a.md", f"# Long\n\n{text}\n")
    assert len(passages) > 3
    assert folded(" ".join(each.text for each in passages)) == folded(text)
    assert all(len(each.text) <= folders.LONGEST_PASSAGE for each in passages if "```" not in each.text)
    (with_code,) = [each for each in passages if "```" in each.text]
    assert code in with_code.text
    assert "See:" in with_code.text
    lines = (tmp_path / "a.md").read_text().split("\n")
    for each in passages:
        number = int(each.location.partition(":")[2])
        assert lines[number - 1].rstrip() == each.text.split("\n")[0].rstrip()


def test_a_block_too_long_to_quote_is_cut_and_reported(tmp_path: Path) -> None:
    warnings: list[str] = []
    (tmp_path / "a.md").write_text("word " * 10_000)
    (passage,) = read_file(tmp_path / "a.md", tmp_path, warn=warnings.append)
    assert len(passage.text) <= folders.LARGEST_BLOCK
    assert warnings == ["The block at a.md:1 is too long to quote; its end is left out."]


REST = """\
.. _zip-files:

:mod:`zipfile` --- Work with ZIP
================================

.. module:: zipfile
   :synopsis: Archives.

It reads archives::

    with zipfile.ZipFile(name) as archive:

        Title
        -----

.. class:: ZipFile(file, mode='r')
   :final:

   Open an archive.

   .. method:: open(name)
               open(name, mode)

      Open a member.

   It can be closed.

More prose.

Functions
---------

.. py:function:: is_zipfile(filename)

   True if it is one.

.. comment that nobody reads

.. function:: os.fspath(path)

   A path.
"""


def test_rest_has_sections_and_described_apis(tmp_path: Path) -> None:
    passages = read(tmp_path, "zipfile.rst", REST, base_url="https://docs.example/lib")
    top = "zipfile --- Work with ZIP"
    assert [(each.kind, each.name, each.text.split("\n")[0]) for each in passages] == [
        ("section", top, "It reads archives::"),
        ("class", "zipfile.ZipFile", "Open an archive."),
        ("method", "zipfile.ZipFile.open", "Open a member."),
        ("class", "zipfile.ZipFile", "It can be closed."),
        ("section", top, "More prose."),
        ("function", "zipfile.is_zipfile", "True if it is one."),
        ("function", "zipfile.os.fspath", "A path."),
    ]
    assert passages[0].text.endswith("    Title\n        -----")
    assert passages[1].signature == "zipfile.ZipFile(file, mode='r')"
    assert passages[2].signature == "zipfile.ZipFile.open(name)\nopen(name, mode)"
    assert passages[5].title == f"{top} › Functions › zipfile.is_zipfile"
    assert passages[5].location == f"zipfile.rst:{REST.split('   True')[0].count(chr(10)) + 1}"
    assert passages[0].url == "https://docs.example/lib/zipfile.html#zip-files"
    assert passages[2].url == "https://docs.example/lib/zipfile.html#zipfile.ZipFile.open"


def test_rest_heading_levels_follow_the_order_of_styles(tmp_path: Path) -> None:
    text = "====\nBook\n====\n\na\n\nPart\n====\n\nb\n\nChapter\n~~~~~~~\n\nc\n\nPart 2\n======\n\nd\n"
    titles = [each.title for each in read(tmp_path, "a.rst", text)]
    assert titles == ["Book", "Book › Part", "Book › Part › Chapter", "Book › Part 2"]


def test_rest_tables_and_paragraphs_are_not_headings(tmp_path: Path) -> None:
    text = "=====  =====\nA      B\n=====  =====\n1      2\n=====  =====\n\n"
    text += "first line\nsecond line\n-----------\n"
    assert [each.name for each in read(tmp_path, "a.rst", text)] == ["a"]


def test_a_text_file_that_looks_like_rest_is_read_as_rest(tmp_path: Path) -> None:
    for text, found in (
        ("One\n===\n\na\n\nTwo\n===\n\nb\n", ["One", "Two"]),
        ("One\n\na\n\nTwo\n\nb\n", ["b"]),
    ):
        assert [each.name for each in read(tmp_path, "b.txt", text)] == found


def test_html_gives_the_visible_main_content(tmp_path: Path) -> None:
    passages = read(
        tmp_path,
        "guide/index.html",
        """<!doctype html><html><head><title>Site</title><style>p {}</style></head><body>
<nav>Home</nav><header>Banner</header><div role="main"><section id="start">
<h1>Start<a class="headerlink" href="#start">\xb6</a></h1><p>Press the <b>red</b> &lt;button&gt;
now.</p><script>alert(1)</script><ul><li>one<li>two</ul><pre><span>x = 1</span>

y = 2</pre><div hidden>no</div><h2 id="end">The end</h2>Bye.<div class="sidebar">more</div>
</section></div><footer>Imprint</footer></body></html>""",
        base_url="https://docs.example/",
    )
    assert [(each.title, each.text, each.location, each.url) for each in passages] == [
        (
            "Start",
            "Press the red <button> now.\n\none\ntwo\n\n    x = 1\n\n    y = 2",
            "guide/index.html:3",
            "https://docs.example/guide/#start",
        ),
        ("Start › The end", "Bye.", "guide/index.html:6", "https://docs.example/guide/#end"),
    ]


def test_html_of_sphinx_describes_functions(tmp_path: Path) -> None:
    passages = read(
        tmp_path,
        "os.html",
        '<main><h1 id="os">os</h1><dl class="py class">'
        '<dt class="sig" id="os.DirEntry">class os.<b>DirEntry</b>'
        '<a class="headerlink">\xb6</a></dt><dd><p>An entry.</p>'
        '<dl class="py method"><dt id="os.DirEntry.stat">'
        "<code>stat</code>(*, follow_symlinks=True)</dt><dd><p>Its status.</p></dd></dl></dd></dl>"
        "<dl><dt>Term</dt><dd>meaning</dd></dl></main>",
        base_url="https://docs.example",
    )
    assert [(each.kind, each.name, each.signature, each.text) for each in passages] == [
        ("class", "os.DirEntry", "os.DirEntry", "An entry."),
        ("method", "os.DirEntry.stat", "os.DirEntry.stat(*, follow_symlinks=True)", "Its status."),
        ("section", "os", "", "Term\nmeaning"),
    ]
    assert passages[1].url == "https://docs.example/os.html#os.DirEntry.stat"


def test_html_without_main_content_is_read_whole(tmp_path: Path) -> None:
    assert one(tmp_path, "a.html", "<title>Page</title><p>Hello").text == "Hello"
    assert one(tmp_path, "b.html", "<main></main><p>Hello").text == "Hello"
    assert one(tmp_path, "c.html", "no tag at all & more").text == "no tag at all & more"


def test_a_notebook_gives_its_cells_without_their_output(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Book\n", "\n", "Wörds.\n", "\n", "## Plot"]},
        {
            "cell_type": "code",
            "source": "x = 1\n\n# no heading",
            "outputs": [{"data": {"image/png": "iVBORw0KGgo" * 1000, "text/plain": "printed"}}],
        },
        {"cell_type": "raw", "source": []},
    ]
    passages = read(tmp_path, "a.ipynb", json.dumps({"cells": cells}, indent=1))
    assert [(each.title, each.text, each.location) for each in passages] == [
        ("Book", "Wörds.", "a.ipynb:8"),
        ("Book › Plot", "    x = 1\n\n    # no heading", "a.ipynb:15"),
    ]


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"cells": 1}', '{"cells": [1, {"source": 2}, {"source": [3]}]}', "[" * 100_000]
)
def test_a_broken_notebook_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.ipynb").write_text(text)
    sentence = refused(tmp_path, "a.ipynb")
    cells = "a.ipynb is read without 3 broken cells."
    assert sentence == cells or sentence.startswith("a.ipynb is left out, since it is not a notebook: ")


PAGE = "# A b\n\nx\n\n## C! d_e\n\ny\n\n## C! d_e\n\nz\n\n## Own {#own}\n\nw\n"


@pytest.mark.parametrize(
    ("marker", "name", "urls"),
    [
        ("", "guide/a.md", ["guide/a.html#a-b", "guide/a.html#c-d_e", "guide/a.html#c-d_e-1"]),
        ("mkdocs.yml", "docs/guide/a.md", ["guide/a/#a-b", "guide/a/#c-d_e", "guide/a/#c-d_e_1"]),
        ("mkdocs.yml", "docs/guide/index.md", ["guide/#a-b", "guide/#c-d_e", "guide/#c-d_e_1"]),
        ("conf.py", "guide/a.md", ["guide/a.html#a-b", "guide/a.html#c-d-e", "guide/a.html"]),
        ("hugo.toml", "content/b/_index.md", ["b/#a-b", "b/#c-d_e", "b/#c-d_e-1"]),
        ("astro.config.mjs", "src/content/docs/a.mdx", ["a/#a-b", "a/#c-d_e", "a/#c-d_e-1"]),
        ("docusaurus.config.js", "docs/a.md", ["docs/a#a-b", "docs/a#c-d_e", "docs/a#c-d_e-1"]),
    ],
)
def test_addresses_follow_the_site_generator(tmp_path: Path, marker: str, name: str, urls: list[str]) -> None:
    if marker:
        (tmp_path / marker).touch()
    passages = read(tmp_path, name, PAGE, base_url="https://docs.example/v1/")
    found = [each.url.removeprefix("https://docs.example/v1/") for each in passages]
    assert found == [*urls, urls[0].partition("#")[0] + "#own"]


def test_a_code_host_keeps_file_names(tmp_path: Path) -> None:
    base = "https://github.com/acme/acme/blob/main/docs"
    assert read(tmp_path, "a b.md", PAGE, base_url=base)[0].url == f"{base}/a%20b.md#a-b"
    assert read(tmp_path, "a.md", PAGE)[0].url == ""


def names(root: Path, **how: Callable[[str], None]) -> list[str]:
    return [str(path.relative_to(root.resolve())) for path in files_of(root, **how)]


def test_files_are_sorted_and_foreign_folders_left_out(tmp_path: Path) -> None:
    wanted = ["README.md", "a/x.rst", "a/y.TXT", "b.html", "build/guide.md", "n.ipynb"]
    others = """
        .git/a.md .hidden.md node_modules/m/README.md __pycache__/a.txt _build/html/a.html env/lib/a.md
        env/pyvenv.cfg project/build/a.html project/conf.py LICENSE.txt requirements-dev.txt picture.png
        genindex.html
        """
    for name in (*others.split(), *reversed(wanted)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names(tmp_path) == wanted


def test_links_are_followed_within_the_folder_once_and_never_out_of_it(
    tmp_path: Path, warnings: list[str]
) -> None:
    root, secret = tmp_path / "docs", tmp_path / "secret.md"
    (root / "a").mkdir(parents=True)
    secret.write_text("secret")
    (root / "a" / "x.md").write_text("x")
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "self.md").symlink_to("self.md")
    (root / "latest").symlink_to("a")
    (root / "out.md").symlink_to(secret)
    (root / "outer").symlink_to(tmp_path)
    (root / ".data").mkdir()
    (root / ".data" / "y.md").write_text("y")
    (root / "y.md").symlink_to(".data/y.md")
    assert names(root, warn=warnings.append) == ["a/x.md", "y.md"]
    assert len(warnings) == 2
    assert warnings[0].endswith("out.md is left out, since it is a link out of the folder.")
    assert refused(root, "out.md") == "out.md cannot be read (it is a link out of the folder)."


def test_a_pipe_is_not_read(tmp_path: Path, warnings: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert names(tmp_path, warn=warnings.append) == []
    assert warnings == [f"{tmp_path}/pipe.md is left out, since it is not a regular file."]
    assert refused(tmp_path, "pipe.md") == "pipe.md cannot be read (it is not a regular file)."


def test_unprintable_names_are_reported(tmp_path: Path, warnings: list[str]) -> None:
    for name in (b"a\nb.md", b"c\xff.md", "d\u202e.md".encode(), b"fine \xc3\xa9.md"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("x")
    assert names(tmp_path, warn=warnings.append) == ["fine é.md"]
    assert len(warnings) == 3
    assert all(sentence.isprintable() and sentence.encode() for sentence in warnings)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything can be read by root")
def test_files_without_permission_are_reported(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.md").touch(mode=0)
    assert names(tmp_path, warn=warnings.append) == ["a.md"]
    assert refused(tmp_path, "a.md")
    assert len(warnings) == 1


def test_missing_files_and_folders_are_reported(tmp_path: Path, warnings: list[str]) -> None:
    assert refused(tmp_path, "gone.md") == "gone.md cannot be read (No such file or directory)."
    assert list(files_of(tmp_path / "gone", warn=warnings.append)) == []
    assert warnings == [f"{tmp_path / 'gone'} is not a folder."]


def test_too_many_files_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_FILES", 2)
    for number in range(4):
        (tmp_path / f"{number}.md").touch()
    warnings: list[str] = []
    assert names(tmp_path, warn=warnings.append) == ["0.md", "1.md"]
    assert warnings == [f"{tmp_path} has more than 2 files; the others are left out."]


def test_a_huge_file_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_PASSAGES", 1000)
    path = tmp_path / "huge.md"
    path.write_text("# Start\n\nHello.\n\n")
    os.truncate(path, 100 << 20)  # the rest is zeros, which need no disk space
    assert refused(tmp_path, "huge.md") == "huge.md is left out, since it is not text."
    path.write_text("# Start\n\nHello.\n\n" + f"# More\n\n{'Text that goes on. ' * 50}\n\n" * 4000)
    warnings: list[str] = []
    passages = read_file(path, tmp_path, warn=warnings.append)
    assert passages[0].text == "Hello."
    assert len(passages) == folders.MOST_PASSAGES
    assert warnings[0] == "huge.md is larger than 2 MiB; the rest is left out."


@pytest.mark.parametrize(
    "data",
    [
        "Grüße — €".encode(),
        "Grüße — €".encode("utf-8-sig"),
        "Grüße — €".encode("utf-16"),
        b"\xfe\xff" + "Grüße — €".encode("utf-16-be"),
        "Grüße — €".encode("utf-32"),
        b"Gr\xfc\xdfe " + "— €".encode(),
    ],
)
def test_encodings_are_recognised(data: bytes) -> None:
    assert decode(data) == "Grüße — €"


def test_a_declared_charset_is_used_for_a_page_that_is_not_utf8(tmp_path: Path) -> None:
    text = '<meta charset="windows-1251"><p>Привет'
    assert one(tmp_path, "a.html", text.encode("cp1251")).text == "Привет"
    assert one(tmp_path, "b.html", text.encode()).text == "Привет"
    assert one(tmp_path, "c.html", b'<meta charset="unicode_escape"><p>\\x41 \xe9').text == "\\x41 é"


def test_invisible_characters_are_removed_and_line_numbers_kept(tmp_path: Path) -> None:
    passage = one(tmp_path, "a.md", "# A\u202e\r\n\r\rb\x1b[31m\u2066c\x0cd\r\n")
    assert (passage.name, passage.text, passage.location) == ("A", "b[31mc d", "a.md:4")


def test_binary_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\x7fELF\x01\0\0\0" * 100)
    assert refused(tmp_path, "a.md") == "a.md is left out, since it is not text."


PIECES = """\
# A|## `f(x)`|text|    code|```|~~~|- item|> quote|===|---|.. py:function:: f(x)|   body|.. class:: C|::|\t
x::|.. code-block:: py|.. _l:|.. note:: text|:opt:|{#id}|(l)=|<h1 id=x>|<pre>|</pre>
<p>|<nav>|</nav>|<!--|-->|<main>|\0|.. include:: a.md|--8<-- "a.md"|{* a.md *}|.. _x: https://x.y|{% raw %}
!!! note "T"|/// tip|///|:::tip[T]|:::|```{note}|<Tip>|</Tip>|{/*x*/}|{{< x >}}|{: .note}|[a](b)|[a][b]|[b]: c
<dl class='py function'>|<dt id=a.b>|</dl>|&amp; &#0;|é\u202e|<![x|{"cells": ["""
LINES = st.sampled_from([piece for line in PIECES.split("\n") for piece in line.split("|")])
TEXTS = st.one_of(st.text(st.characters(codec="utf-8")), st.lists(LINES, max_size=30).map("\n".join))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(SUFFIXES)),
    st.one_of(st.binary(), TEXTS.map(lambda text: text.encode("utf-8", "replace"))),
)
def test_passages_of_any_file_are_in_its_text(suffix: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / f"a{suffix}").write_bytes(data)
        passages = read_file(root / f"a{suffix}", root, base_url="https://docs.example")
    # Lines that say nothing are left out, and the names of notes are written out ("!!! tip" is "Tip").
    words = set(re.findall(r"\w", decode(data).lower())) | set("notetip")
    for each in passages:
        assert each.name
        assert each.title
        assert each.url
        assert each.location.startswith(f"a{suffix}:")
        assert (each.text or each.signature).strip()
        json.dumps([each.name, each.title, each.text, each.url], ensure_ascii=False).encode()
        assert 1 <= int(each.location.rpartition(":")[2]) <= decode(data).count("\n") + 1
        if SUFFIXES[suffix] in ("markdown", "rest", "text"):
            assert words.issuperset(re.findall(r"\w", each.text.lower()))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["markdown", "code", "raw"]), max_size=5), st.data())
def test_cells_of_a_notebook_are_found_word_for_word(kinds: list[str], data: st.DataObject) -> None:
    cells = [{"cell_type": kind, "source": data.draw(st.text("ab #`\né", max_size=30))} for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
        passages = read_file(root / "a.ipynb", root)
    whole = folded(" ".join(str(cell["source"]) for cell in cells))
    assert all(folded(each.text) in whole for each in passages)


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".md", "*a _b " * (MILLION // 6)),
        (".md", "[" * MILLION),
        (".md", "".join("`" * (n % 500) + " " for n in range(4000))),
        (".md", ">" * MILLION),
        (".md", "- " * (MILLION // 2)),
        (".md", "# {" + ".a" * 100_000 + "!}"),
        (".md", "# " + "[a](" * 100_000),
        (".md", "<!--" * (MILLION // 4)),
        (".md", "<a\n" * (MILLION // 50)),
        (".md", "{/*\n" * (MILLION // 50)),
        (".md", "{% a\n" * (MILLION // 50)),
        (".md", "!!! a\n    " * (MILLION // 20)),
        (".md", "!!! a" + " " * 1900 + "*\n"),
        (".md", '!!! note "a"\n' + "    " * 20 + "x\n"),
        (".md", "".join(f"{' ' * (4 * n)}!!! note\n" for n in range(400))),
        (".md", "```{note}\n" * (MILLION // 100)),
        (".md", "{data-data-" * (MILLION // 20)),
        (".md", "<A a=" * 300 + "\n" + "[a](" * 400 + "\n" + "{{< a " * 300),
        (".md", "![" * (MILLION // 4)),
        (".rst", ".. data:: a\n" * 20_000 + "\n   b"),
        (".rst", ".. _a:\n" * 100_000),
        (".rst", ".. class:: A\n\n " * 50_000),
        (".rst", "".join(" " * n + ".. class:: A\n\n" for n in range(1000))),
        (".rst", "a::\n\n" * 100_000),
        (".rst", "=" * MILLION),
        (".html", "<div>" * 100_000 + "deep"),
        (".html", "<dl class='py class'><dt>A(" * 20_000),
        (".html", "<!--" * (MILLION // 4)),
        (".html", "<a b='" * (MILLION // 6)),
        (".html", "<![" * 100_000),
        (".html", "<nav>" * 100_000),
        (".ipynb", '{"cells": [{"source": ' + '["a", ' * 50_000),
        (".txt", "x" * MILLION),
    ],
    ids=lambda value: value[:12] if len(value) > 6 else None,
)
def test_hostile_text_is_read_to_an_end(tmp_path: Path, suffix: str, text: str) -> None:
    passages = read(tmp_path, f"a{suffix}", text, base_url="https://docs.example")
    assert all(len(each.text) <= folders.LARGEST_BLOCK and len(each.title) < 3000 for each in passages)


def test_a_tag_with_very_many_attributes_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f"<h1>A</h1><p>One.</p><a {'b=c ' * 1_000_000}>Two.</a>")
    tracemalloc.start()
    try:
        (passage,) = read_file(tmp_path / "a.html", tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert passage.text == "One.\n\nTwo."
    assert most < 100_000_000
