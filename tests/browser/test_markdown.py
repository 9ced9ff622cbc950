"""markdown.js: what it renders, that no text does harm, and that pieces render like the whole text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from tests.browser.hostile import HOSTILE_TEXTS

# The container's HTML for a whole text; attributes that every link and block has are left out.
RENDER = """(text) => {
    const main = render([text]);
    for (const node of main.querySelectorAll("figcaption")) node.remove();
    for (const node of main.querySelectorAll("pre code")) node.replaceChildren(node.textContent);
    for (const node of main.querySelectorAll("*")) {
        for (const name of node.getAttributeNames()) {
            if (!/^(?:href|title|start|style|data-kind|data-tex)$/.test(name)) node.removeAttribute(name);
        }
    }
    return main.innerHTML;
}"""


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *b* **c** `e*f*`", "<p>a <em>b</em> <strong>c</strong> <code>e*f*</code></p>"),
        ("***d*** **e *f***", "<p><em><strong>d</strong></em> <strong>e <em>f</em></strong></p>"),
        ("snake_case_name 2*3*4 __x__", "<p>snake_case_name 2<em>3</em>4 <strong>x</strong></p>"),
        ("__init__, a.__x__ __a_b__ __f__()", "<p>__init__, a.__x__ __a_b__ __f__()</p>"),
        (
            "**f(*args, *, **kwargs)** *or* `**`",
            "<p><strong>f(*args, *, **kwargs)</strong> <em>or</em> <code>**</code></p>",
        ),
        ("x**2 + y**2, **b**", "<p>x**2 + y**2, <strong>b</strong></p>"),
        ("[![a](http://h.org/i)](http://h.org/l)", '<p><a href="http://h.org/l"><span>a</span></a></p>'),
        ("~~gone~~ ~3~5 `` a`b `` \\*no\\*", "<p><del>gone</del> ~3~5 <code>a`b</code> *no*</p>"),
        ("これは**「重要」**な", "<p>これは<strong>「重要」</strong>な</p>"),
        ("**「A」**なので**「B」**", "<p><strong>「A」</strong>なので<strong>「B」</strong></p>"),
        ("한국어**(강조)**는", "<p>한국어<strong>(강조)</strong>는</p>"),
        ("costs $5 or $6, \\(a_*\\)", '<p>costs $5 or $6, <span data-tex="a_*">\\(a_*\\)</span></p>'),
        ("\\[\nx = 1\n\\]", '<div data-tex="x = 1">$$x = 1$$</div>'),
        (
            "$$x$$ and\n\n$$\ny\n$$",
            '<p><span data-tex="x">\\(x\\)</span> and</p><div data-tex="y">$$y$$</div>',
        ),
        (
            "`$$` is the process, $$ too, \\(or not\\)",
            "<p><code>$$</code> is the process, $$ too, (or not)</p>",
        ),
        (
            "> [!TIP]\n> a\n\n> [!no]\n> b",
            '<blockquote data-kind="tip"><p>Tip</p><p>a</p></blockquote>'
            '<blockquote><p>[!no]\nb</p></blockquote>',
        ),
        (
            "a[^n] [^x]\n\n[^n]: b",
            "<p>a<sup><button>n</button></sup> [^x]</p><div><sup><button>n</button></sup><p>b</p></div>",
        ),
        ("# One\n\nTwo\n===\n\n### Three ###", "<h3>One</h3><h3>Two</h3><h5>Three</h5>"),
        ("a\nb  \nc\\\nd<br>e", "<p>a\nb<br>\nc<br>\nd<br>e</p>"),
        ("- a\n- b\n  1. c\n  2. d", "<ul><li>a</li><li>b<ol><li>c</li><li>d</li></ol></li></ul>"),
        ("3. a\n\n4. b", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'),
        ("- [x] a\n- [ ] b", "<ul><li><span>☑</span> a</li><li><span>☐</span> b</li></ul>"),
        ("> a\nb\n>\n> - c", "<blockquote><p>a\nb</p><ul><li>c</li></ul></blockquote>"),
        (
            "```\n<b>&amp;\n\n  x\n```\nafter",
            "<figure><pre><code>&lt;b&gt;&amp;amp;\n\n  x</code></pre></figure><p>after</p>",
        ),
        ("```\nnot closed\n", "<figure><pre><code>not closed</code></pre></figure>"),
        ("\tindented\n\n\tcode", "<figure><pre><code>indented\n\ncode</code></pre></figure>"),
        ("* * *", "<hr>"),
        ("&copy; &#65; &nosuch;", "<p>© A &amp;nosuch;</p>"),
        ("<b>raw</b> <!-- no -->", "<p>&lt;b&gt;raw&lt;/b&gt; &lt;!-- no --&gt;</p>"),
        ("<div>\n*a* <b c='d'>\n\n*e*", "<p>&lt;div&gt;\n*a* &lt;b c='d'&gt;</p><p><em>e</em></p>"),
        ('[a *b*](http://h.org/x "t")', '<p><a href="http://h.org/x" title="t">a <em>b</em></a></p>'),
        (
            "[a][r] [r]\n\n[r]: https://h.org/",
            '<p><a href="https://h.org/">a</a> <a href="https://h.org/">r</a></p>',
        ),
        ("![alt](https://h.org/i.png)", '<p><a href="https://h.org/i.png">alt</a></p>'),
        (
            "See https://h.org/a_b_c(d), www.h.org. or joe@h.org",
            '<p>See <a href="https://h.org/a_b_c(d)">https://h.org/a_b_c(d)</a>, '
            '<a href="https://www.h.org/">www.h.org</a>. or <a href="mailto:joe@h.org">joe@h.org</a></p>',
        ),
        ("[x](javascript:alert(1)) [y](/api)", "<p><span>x</span> <span>y</span></p>"),
        (
            "| a | b |\n|---|--:|\n| 1 \\| 2 | `c` |\n| 3 |",
            "<div><table><thead><tr><th>a</th><th style=\"text-align: right;\">b</th></tr></thead><tbody>"
            '<tr><td>1 | 2</td><td style="text-align: right;"><code>c</code></td></tr>'
            '<tr><td>3</td><td style="text-align: right;"></td></tr></tbody></table></div>',
        ),
        (
            "| `a | b` |\n|---|\n| ``c`|`` `\\|` |",
            "<div><table><thead><tr><th><code>a | b</code></th></tr></thead><tbody>"
            "<tr><td><code>c`|</code> <code>|</code></td></tr></tbody></table></div>",
        ),
        ("a | b\nnot a table", "<p>a | b\nnot a table</p>"),
        (
            "main.rs, asyncio.run http://localhost:1/x",
            '<p>main.rs, asyncio.run <a href="http://localhost:1/x">http://localhost:1/x</a></p>',
        ),
    ],
)  # fmt: skip
def test_renders(blank: Page, text: str, html: str) -> None:
    assert blank.evaluate(RENDER, text) == html


def test_hostile_text_does_nothing_but_stand_there(blank: Page) -> None:
    requests: list[str] = []
    dialogs: list[str] = []
    blank.on("request", lambda request: requests.append(request.url))
    blank.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))  # type: ignore[func-returns-value]
    address = blank.url
    found = blank.evaluate(
        """async (texts) => {
            const main = document.querySelector("main");
            for (const text of texts) for (const size of [7, text.length]) {
                const place = document.createElement("div");
                main.append(place);
                const starts = [...Array(Math.ceil(text.length / size)).keys()].map((one) => one * size);
                render(starts.map((at) => text.slice(at, at + size)), place);
            }
            for (const node of main.querySelectorAll("*")) {
                node.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
            }
            const nodes = [...main.querySelectorAll("*")];
            const links = [...main.querySelectorAll("[href]")];
            const attributes = nodes.flatMap((node) => node.getAttributeNames());
            const result = {
                tags: [...new Set(nodes.map((node) => node.localName))].sort(),
                handlers: attributes.filter((name) => name.startsWith("on")),
                ids: attributes.filter((name) => name === "id" || name === "name"),
                schemes: [...new Set(links.map((node) => node.protocol))].sort(),
                rels: [...new Set(links.map((node) => node.rel + " " + node.target))],
            };
            await new Promise((resolve) => setTimeout(resolve, 0));
            await new Promise((resolve) => requestAnimationFrame(resolve));
            main.replaceChildren();
            return result;
        }""",
        HOSTILE_TEXTS,
    )
    text = {
        "p",
        "em",
        "strong",
        "del",
        "br",
        "a",
        "span",
        "code",
        "blockquote",
        "h3",
        "ul",
        "ol",
        "li",
        "sup",
    }
    blocks = {"div", "figure", "figcaption", "pre", "button", "svg", "path"}
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(found["tags"]) <= text | blocks | table
    assert (found["handlers"], found["ids"]) == ([], [])
    assert set(found["schemes"]) <= {"http:", "https:", "mailto:"}
    assert found["rels"] == ["noopener noreferrer nofollow _blank"]
    assert [url for url in requests if not url.startswith(address)] == []
    assert dialogs == []
    assert blank.url == address


FRAGMENTS = st.sampled_from(
    [
        "# h\n", "text\n", "line two\n", "\n", "\n\n", "- a\n", "  - b\n", "1. x\n", "2) y\n", "> q\n",
        "```py\n", "```\n", "~~~\n", "def f(x): # '''\n", '"""doc\n', "| a | b |\n", "|---|:-:|\n",
        "| 1 | 2 |\n", "---\n", "===\n", "*em* **st** `c`\n", "**a *b* c**\n", "[l](http://h.org 't')\n",
        "[r]\n", "[r]: http://h.org/ 'g'\n", "\tx\n", "a\\\nb\n", "- [ ] t\n", "  c\n", "    d\n", "\r\n",
        "é😀\n", "![i](http://h.org/i)\n", "https://h.org/x.\n",
        "&amp;", "<b>", "`", "*", "_", "~", "|", "-", "1", " ", "[^n]", "[^n]: note\n", "> [!NOTE]\n",
        "\\(x_1\\)", "$$", "$$\nx\n$$\n", "<div>\n", "</div>\n", "<!--", "__init__", "`a | b`", "**「",
        "」**", "שלום", "[1]: /u\n",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)


@example(text="text\n-| a |\n", cuts=[7])  # what could end a table's head, but does not
@example(text="text\n```a`b", cuts=[9])  # what could open a block of code, but does not
@example(text="[^n]: a\n\nb[^n]\n\nc[^n]\n\nd", cuts=[9, 15, 16, 22, 23])  # a note that is used again
@example(text="| 1 |\n|---|\n<!-- c -->", cuts=[12, 13, 14, 15, 16])  # what may be a row
@example(text="```\ncode\n" + "`" * 60 + "x", cuts=[69])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, cuts=st.lists(st.integers(0, 120), max_size=20))
def test_a_text_in_pieces_renders_like_the_whole_text(blank: Page, text: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    whole, cut = blank.evaluate("(both) => both.map((pieces) => render(pieces).innerHTML)", [[text], pieces])
    assert cut == whole


def test_finished_blocks_are_not_touched_again(blank: Page) -> None:
    same = blank.evaluate(
        """() => {
            const place = document.createElement("div");
            const view = new MarkdownView(place);
            view.append("one\\n\\n```js\\nlet a;\\nlet b;\\n");
            const [first, code] = [place.children[0], place.children[1]];
            const line = code.querySelector("code").firstChild;
            view.append("let c;\\n```\\nthree\\n\\nfo");
            view.append("ur");
            view.finish();
            return [place.children[0] === first, place.children[1] === code,
                code.querySelector("code").firstChild === line, place.children.length];
        }"""
    )
    assert same == [True, True, True, 4]


def test_what_stands_keeps_its_selection_while_more_is_written(blank: Page) -> None:
    texts = ["Some *slanted* words", "- one\n- two `x` words", "> a **b** c", "| a |\n|---|\n| one |\n| two"]
    kept = blank.evaluate(
        """(texts) => texts.map((text) => {
            const main = document.querySelector("main");
            const view = new MarkdownView(main);
            view.set(text);
            document.getSelection().selectAllChildren(main.querySelector("tbody") ?? main);
            const before = document.getSelection().toString();
            for (const piece of [" and", " *more*", " of it,", "\\nand a line"]) view.append(piece);
            const after = document.getSelection().toString();
            main.replaceChildren();
            return before !== "" && after.startsWith(before);
        })""",
        texts,
    )
    assert kept == [True] * len(texts)


@pytest.mark.parametrize(
    ("head", "line"), [("```py\n", "x = 1\n"), ("| a | b |\n|---|---|\n", "| 1 | `2` |\n")]
)
def test_lines_that_stand_are_kept_while_a_block_grows(blank: Page, head: str, line: str) -> None:
    count, are_kept = blank.evaluate(
        """([head, line]) => {
            const view = new MarkdownView(document.createElement("div"));
            const lines = () => [...view.container.querySelectorAll(".line, td")];
            for (const piece of [head, ...Array(300).fill(line)]) view.append(piece);
            const before = lines();
            view.append(line);
            const after = lines();
            return [before.length, before.slice(0, -1).every((node, index) => node === after[index])];
        }""",
        [head, line],
    )
    assert (count, are_kept) == (300 * max(1, line.count("|") - 1), True)


DIRECTIONS = """(text) => {
    const nodes = [...render([text]).querySelectorAll("[dir]")];
    return nodes.map((node) => `${node.localName} ${node.dir}`).join(", ");
}"""


@pytest.mark.parametrize(
    ("text", "directions"),
    [
        ("`code` שלום", "p rtl, code ltr"),
        ("`שלום` words", "p ltr, code ltr"),
        ("- `x` مرحبا\n- two", "ul rtl, li rtl, code ltr, li ltr"),
        ("> **שלום**", "blockquote rtl, p rtl"),
        ("| שם | a |\n|-|-|\n| 1 | b |", "div rtl, th rtl, th ltr, td ltr"),
        ("# 1. कोड", "h3 ltr"),
    ],
)  # fmt: skip
def test_each_block_has_the_direction_of_its_words(blank: Page, text: str, directions: str) -> None:
    assert blank.evaluate(DIRECTIONS, text) == directions


def test_what_may_still_become_markup_is_held_back_until_it_is_known(blank: Page) -> None:
    shown = blank.evaluate(
        """() => {
            const place = document.createElement("div");
            const view = new MarkdownView(place);
            const shown = [];
            const pieces = ["Text\\n", "-", " item\\n\\n", "| a | b", " |\\n", "|--", "-|---|", "\\n| 1 |"];
            for (const piece of pieces) {
                view.append(piece);
                const nodes = [...place.children];
                shown.push(nodes.map((node) => node.localName + ":" + node.textContent).join(" "));
            }
            return shown;
        }"""
    )
    item = "p:Text ul:item"
    assert shown[:7] == ["p:Text", "p:Text", item, item, item, item, item]
    assert shown[7].startswith("p:Text ul:item div:ab")


@pytest.mark.parametrize(
    "text",
    [
        ">" * 20_000,
        "- " * 20_000,
        "*a " * 20_000,
        "*a_b" * 20_000,
        "[" * 40_000,
        "[a](" * 15_000,
        "![" * 20_000 + "](u)" * 20_000,
        "`" + "`a" * 20_000,
        "a`" + "``b```c" * 8_000,
        "<a:" * 20_000,
        "a@" * 30_000,
        "x" * 100_000,
        "&a" * 30_000,
        "|" * 20_000 + "\n" + "|-" * 20_000,
        "[a]: <" * 10_000,
        "```html\n" + '="' * 40_000,
        "# " + " " * 50_000 + "#" + " " * 50_000 + "x",
        "\\(" * 30_000,
        "$$a" * 20_000,
        "[[]" * 20_000,
        "[a](<b" * 15_000,
        "[^a]: x\n" * 5_000,
        "f(" + "*a, " * 20_000,
        "`a|" * 20_000,
    ],
    ids=lambda text: text[:6],
)
def test_no_text_makes_the_reader_slow(blank: Page, text: str) -> None:
    milliseconds = blank.evaluate(
        """(text) => {
            const start = performance.now();
            render([text]);
            return performance.now() - start;
        }""",
        text,
    )
    assert milliseconds < 10_000  # each takes about a tenth of a second; a reader with backtracking, minutes
