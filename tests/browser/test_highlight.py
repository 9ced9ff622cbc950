"""highlight.js: colours never change the code or spill, and hidden characters are marked.

highlighted.txt holds code of many languages. In it, « » surround what is a string or a regular expression,
‹ › a comment, and ⟪ ⟫ code that is neither. What stands outside of the marks, such as a prefix, is free.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, Route, expect

from assistant.web.application import STATIC
from tests.browser.chat_page import ChatPage

MARKS = {"«": "string", "‹": "comment", "⟪": "code", "»": None, "›": None, "⟫": None}
SECTIONS = (Path(__file__).parent / "highlighted.txt").read_text(encoding="utf-8").split("=== ")[1:]
SNIPPETS = [section.partition("\n")[::2] for section in SECTIONS]
LANGUAGES = sorted({title.partition(":")[0] for title, _ in SNIPPETS})
PIECES = st.lists(
    st.sampled_from(
        [
            "def ", "if", "end", "(", ")", "{", "}", "[", "]", "x", "42", "1.5e-3", '"', "'", '"""', "`",
            "\\", "/", "//", "#", "--", "/*", "*/", "{-", "<!--", "-->", "<div", ">", "</div>", "<?php", "?>",
            "<script>", "\n", "\n", "\n\n", "    ", "\t", "😀", "é", "\ud83d", "#include", "SELECT", "$x",
            "${", "#{", "$(", "%", "<<EOT", "EOT", "=begin", "=end", "r#", "@", "q{", ": |\n", "- ",
            "a" * 600, "\u202e", "👩\u200d", "\ufe0f",
        ]
    ),
    max_size=40,
)  # fmt: skip
SHOW = """async ([language, pieces]) => {
    const code = document.createElement("code");
    const view = new CodeView(code, language);
    for (const piece of pieces) {
        view.append(piece);
        if (piece.length > 1 && piece.charCodeAt() % 3 === 0) await view.coloured;
    }
    await view.coloured;
    return [code.textContent, code.innerHTML];
}"""
KINDS = """async ([language, text]) => {
    const code = document.createElement("code");
    const view = new CodeView(code, language);
    view.append(text);
    await view.coloured;
    const kinds = [];
    const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const kind = node.parentElement.closest("[class^=hl-]")?.className.slice(3) ?? "";
        for (const character of node.data) kinds.push(kind);
    }
    return kinds;
}"""


def marked(body: str) -> tuple[str, list[str | None]]:
    """The code of a snippet, and of each of its characters what it must be."""
    code, kinds, kind = "", [], None
    for character in body.removesuffix("\n"):
        if character in MARKS:
            kind = MARKS[character]
        else:
            code += character
            kinds.append(kind)
    return code, kinds


def test_strings_and_comments_are_coloured_and_do_not_spill(blank: Page) -> None:
    snippets = [(title, *marked(body)) for title, body in SNIPPETS]
    asked = [[title.partition(":")[0], code] for title, code, _ in snippets]
    answers = blank.evaluate(f"(all) => Promise.all(all.map({KINDS}))", asked)
    wrong = [
        (title, at, code[at], kind, is_)
        for (title, code, wanted), found in zip(snippets, answers, strict=True)
        for at, (kind, is_) in enumerate(zip(wanted, found, strict=True))
        if kind and not code[at].isspace() and kind != (is_ if is_ in ("string", "comment") else "code")
    ]
    assert wrong == []
    assert len(snippets) > 100


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(language=st.sampled_from([*LANGUAGES, "?"]), pieces=PIECES)
def test_colouring_keeps_the_text_and_pieces_give_what_the_whole_gives(
    blank: Page, language: str, pieces: list[str]
) -> None:
    in_pieces = blank.evaluate(SHOW, [language, pieces])
    whole = blank.evaluate(SHOW, [language, ["".join(pieces)]])
    assert in_pieces == whole
    assert whole[0] == "".join(pieces)


@pytest.mark.parametrize("language", ["javascript", "typescript", "tsx", "json"])
def test_colours_do_not_depend_on_what_was_read_before(blank: Page, language: str) -> None:
    shown = []
    for before in ("a", "(", "return", "1", "}"):
        blank.evaluate(SHOW, [language, [before]])
        shown.append(blank.evaluate(SHOW, [language, ["\\ /a/ + b"]]))
    assert shown == shown[:1] * len(shown)


def test_letters_give_what_the_whole_gives(blank: Page) -> None:
    """Each letter is coloured as it comes, because the language is loaded before the first one."""
    codes = [(title.partition(":")[0], marked(body)[0]) for title, body in SNIPPETS]
    show = f"(all) => Promise.all(all.map({SHOW}))"
    loaded = show.replace("for (const piece", "await view.coloured;\n    for (const piece")
    in_letters = blank.evaluate(loaded, [[language, list(code)] for language, code in codes])
    whole = blank.evaluate(show, [[language, [code]] for language, code in codes])
    titles = [title for title, _ in SNIPPETS]
    differ = [it for it in zip(titles, in_letters, whole, strict=True) if it[1] != it[2]]
    assert differ == []


@pytest.mark.parametrize(
    ("language", "code", "coloured"),
    [
        ("py", "def f(): # c", ["word def", "call f", "comment # c"]),
        ("SQL", "select 'it' -- c", ["word select", "string 'it'", "comment -- c"]),
        ("JSON", '{"a": [1.5e3, null]}', ['string "a"', "number 1.5e3", "word null"]),
        ("diff", "@@ -1 +1 @@\n-a\n+b\n c", ["meta @@ -1 +1 @@", "removed -a", "added +b"]),
        ("?", "def x", []),
        ("constructor", "def x", []),
        ("", "def x", []),
    ],
)
def test_colours(blank: Page, language: str, code: str, coloured: list[str]) -> None:
    html = blank.evaluate(SHOW, [language, [code]])[1]
    assert [" ".join(found) for found in re.findall('<span class="hl-([a-z]+)">([^<]*)<', html)] == coloured


def test_names_after_a_fence(blank: Page) -> None:
    names = """
        py python3 pycon js mjs node jsx ts tsx sh bash zsh console shell-session ps1 c++ cc h hpp cs c#
        golang rs rb kt yml docker dockerfile tf hcl gql pl patch make makefile jsonc json5 vue svelte objc
        scala dart lua hs ex clj ml f# jl r matlab tex bat vim md xml svg css scss less ini toml nginx proto
        mysql PostgreSQL
    """
    unknown = blank.evaluate(
        """async (names) => {
            const { languageOf } = await import("/vendor/highlight/core.js");
            const languages = await Promise.all(names.map(languageOf));
            return names.filter((_, index) => !languages[index]?.start());
        }""",
        names.split(),
    )
    assert unknown == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a\u202e } \u2066if\u2069 b", ["U+202E", "U+2066", "U+2069"]),
        ("a\u200bb\ufeff\u00ad\u2060", ["U+200B", "U+FEFF", "U+00AD", "U+2060"]),
        ("\u180e\u200e\u061c", ["U+180E", "U+200E", "U+061C"]),
        ("a\u200db\u200cc\ufe0f", ["U+200D", "U+200C", "U+FE0F"]),
        ("\x00\x1b[31m\x7f\x85\r", ["U+0000", "U+001B", "U+007F", "U+0085", "U+000D"]),
        ("x\U000e0041\U000e0001\u3164\u115f", ["U+E0041", "U+E0001", "U+3164", "U+115F"]),
        ("\t👩\u200d💻 ❤\ufe0f 👍🏽 1\ufe0f\u20e3", []),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", []),
        ("می\u200cخواهم क्\u200dष 葛\U000e0100 é 日本語 \u00a0", []),
        ("🏴\U000e0041\U000e0042", ["U+E0041", "U+E0042"]),
        ("a\u202e" * 400, ["U+202E"] * 31),
    ],
)  # fmt: skip
def test_hidden_characters_are_marked(blank: Page, text: str, numbers: list[str]) -> None:
    shown = f"(all) => Promise.all(all.map({SHOW}))"
    for found, html in blank.evaluate(shown, [[language, [f"'{text}'"]] for language in ("js", "py", "?")]):
        assert found == f"'{text}'"
        assert re.findall('data-code="(.*?)"', html) == numbers
    inline = """(text) => {
        const nodes = document.createElement("code");
        nodes.append(...markHidden(text));
        return [nodes.textContent, ...[...nodes.children].map((node) => node.dataset.code)];
    }"""
    assert blank.evaluate(inline, text) == [text, *numbers]


def test_a_hidden_character_turns_nothing_around_it(chat: ChatPage) -> None:
    right = """async (text) => {
        const { CodeView } = await import("/ui/highlight.js");
        const chat = document.querySelector("tech-chat");
        const code = document.createElement("code");
        const holder = document.createElement("div");
        holder.className = "text";
        holder.dir = "rtl";
        holder.append(document.createElement("pre"));
        holder.firstChild.append(code);
        chat.append(holder);
        const view = new CodeView(code, "python");
        view.append(text);
        await view.coloured;
        const edges = [];
        const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode());) {
            for (let at = 0; at < node.length; at++) {
                if (!/[a-z]/.test(node.data[at])) continue;
                const range = document.createRange();
                range.setStart(node, at);
                range.setEnd(node, at + 1);
                edges.push(range.getBoundingClientRect().left);
            }
        }
        return edges;
    }"""
    edges = chat.page.evaluate(right, "if level != 'user\u202e \u2066# check if admin\u2069 \u2066' and ok")
    assert edges == sorted(edges)
    assert len(edges) > 20


def test_a_selection_over_lines_is_copied_as_it_is(chat: ChatPage) -> None:
    selections = [((0, 0), (119, 6)), ((3, 2), (4, 0)), ((48, 3), (52, 2)), ((9, 0), (10, 0))]
    lines = [("" if row % 7 == 4 else f"  x{row}") for row in range(119)] + ["if end"]
    copied = chat.page.evaluate(
        """async ([text, selections]) => {
            const { CodeView } = await import("/ui/highlight.js");
            const chat = document.querySelector("tech-chat");
            chat.innerHTML = '<div class="text"><figure class="code"><pre><code></code></pre></figure></div>';
            const view = new CodeView(chat.querySelector("code"), "python");
            view.append(text);
            await view.coloured;
            const place = ([row, column]) => {
                const line = chat.querySelectorAll(".line")[row];
                const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
                let node = walker.nextNode();
                for (; column > node.length; node = walker.nextNode()) column -= node.length;
                return [node, column];
            };
            const copied = [];
            for (const [begin, end] of selections) {
                getSelection().setBaseAndExtent(...place(begin), ...place(end));
                document.execCommand("copy");
                copied.push(await navigator.clipboard.readText());
            }
            return copied;
        }""",
        ["\n".join(lines), selections],
    )
    for (begin, end), text in zip(selections, copied, strict=True):
        parts = [*lines[begin[0] : end[0]], lines[end[0]][: end[1]]]
        assert text == "\n".join(parts)[begin[1] :]
    assert chat.page.locator("[class^=hl-]").count() > 0


@pytest.fixture
def fresh(blank: Page) -> Iterator[Page]:
    """A page that has not loaded any language."""
    page = blank.context.new_page()
    page.goto("http://localhost/")
    page.evaluate("async () => Object.assign(window, await import('/highlight.js'))")
    yield page
    page.close()


BEGIN = r"""() => {
    const code = document.createElement("code");
    document.querySelector("main").replaceChildren(code);
    window.view = new CodeView(code, "python");
    view.append("if x:\n  '''a\nb''' ");
    view.append("# c");
}"""
LINES = ["if x:\n", "  '''a\n", "b''' # c"]
COLOURED = ["if", "'''a", "b'''", "# c"]


def test_the_text_stands_before_the_language_is_loaded(fresh: Page) -> None:
    held: list[Route] = []
    fresh.route("**/python.js", lambda route: held.append(route))
    with fresh.expect_request("**/python.js"):
        fresh.evaluate(BEGIN)
    spans = fresh.locator("[class^=hl-]")
    assert fresh.locator(".line").all_text_contents() == LINES
    expect(spans).to_have_count(0)
    for route in held:
        route.fallback()
    expect(spans).to_have_text(COLOURED)


@pytest.mark.parametrize("failing", ["core.js", "python.js"])
def test_a_language_that_failed_to_load_is_tried_again_by_the_next_block(fresh: Page, failing: str) -> None:
    fresh.route(f"**/{failing}", lambda route: route.abort(), times=1)
    fresh.evaluate(BEGIN)
    fresh.evaluate("view.coloured")
    spans = fresh.locator("[class^=hl-]")
    expect(spans).to_have_count(0)
    assert fresh.locator(".line").all_text_contents() == LINES
    fresh.evaluate(BEGIN)
    expect(spans).to_have_text(COLOURED)


HOSTILE = {
    "words": "a" * 900 + "\n", "brackets": "(" * 900 + "\n", "open brackets": "{[(\n", "open tags": "<a>{",
    "tags": "<a " * 300 + "\n", "slashes": "/" * 900 + "\n", "quotes": "\"'`" * 300 + "\n",
    "spaces": " " * 900 + "\n", "templates": "`${", "heredocs": "<<A\n", "blocks": "a: |\n ", "lines": "\n",
    "one line": "x = 'a'; ", "unclosed": '"a b\n', "hidden": "\u202e\u200d", "emoji": "👩\u200d",
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_takes_long(blank: Page, hostile: str) -> None:
    """Generous: what takes more than linear time needs minutes for one of these."""
    part = HOSTILE[hostile]
    text = part * (50_000 // len(part))
    slow: Any = blank.evaluate(
        """async ([languages, text]) => {
            const slow = [];
            for (const language of languages) {
                const start = performance.now();
                const code = document.createElement("code");
                const view = new CodeView(code, language);
                view.append(text);
                await view.coloured;
                if (code.textContent !== text) slow.push(`${language} differs`);
                const took = performance.now() - start;
                if (took > 10000) slow.push(`${language}: ${took}`);
            }
            return slow;
        }""",
        [["python", "js", "tsx", "cpp", "bash", "yaml", "html", "ruby", "perl", "php", "md", "sql"], text],
    )
    assert slow == []


def test_a_long_block_has_its_height_and_its_text_before_all_of_it_is_laid_out(blank: Page) -> None:
    code = "\n".join(f"value_{number} = {number}" for number in range(3000))
    blank.add_style_tag(path=STATIC / "chat.css")
    seen, whole, text = blank.evaluate(
        """(code) => {
            const chat = document.createElement("tech-chat");
            const text = chat.appendChild(document.createElement("div"));
            text.className = "text";
            document.querySelector("main").append(chat);
            render([`~~~py\\n${code}\\n~~~`], text);
            const lines = [...text.querySelectorAll(".lines")];
            const heights = ["", "visible"].map((visibility) => {
                for (const part of lines) part.style.contentVisibility = visibility;
                return text.offsetHeight;
            });
            const copied = text.querySelector("code").textContent;
            chat.remove();
            return [...heights, copied];
        }""",
        code,
    )
    assert text == code
    assert abs(seen - whole) < 60  # of 60,000 pixels
    assert whole > 50_000
