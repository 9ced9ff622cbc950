"""highlight.js: colouring never changes the code, whether it comes whole or in pieces."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

PIECES = st.lists(
    st.sampled_from(
        [
            "def ", "if", "(", ")", "x", "42", "0xFF", "1.5e-3", '"', "'", '"""', "`", "\\", "//", "#", "--",
            "/*", "*/", "<!--", "-->", "<div", ">", "\n", "    ", "\t", "😀", "é", "#include", "SELECT", "$x",
        ]
    ),
    max_size=30,
)  # fmt: skip
LANGUAGES = st.sampled_from(
    ["py", "js", "ts", "json", "sh", "c", "c++", "java", "go", "rs", "sql", "html", "css", "?"]
)
COMMENT = [("comment", "/* a"), ("comment", "b */")]

COLOUR = """([language, pieces]) => {
    const code = document.createElement("code");
    const view = new CodeView(code, language);
    for (const piece of pieces) view.append(piece);
    return [code.textContent, code.innerHTML];
}"""


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(language=LANGUAGES, pieces=PIECES)
def test_colouring_keeps_the_text_and_pieces_give_what_the_whole_gives(
    blank: Page, language: str, pieces: list[str]
) -> None:
    text = "".join(pieces)
    in_pieces = blank.evaluate(COLOUR, [language, pieces])
    assert in_pieces[0] == text
    assert in_pieces == blank.evaluate(COLOUR, [language, [text]])


@pytest.mark.parametrize(
    ("language", "code", "coloured"),
    [
        ("python", "def f(): # c", [("word", "def"), ("call", "f"), ("comment", "# c")]),
        ("py", '"""a\nb"""\nNone', [("string", '"""a'), ("string", 'b"""'), ("word", "None")]),
        ("js", "if `x\n1` // c", [("word", "if"), ("string", "`x"), ("string", "1`"), ("comment", "// c")]),
        ("bash", "echo $#  # c", [("word", "echo"), ("comment", "# c")]),
        ("c", "#if x\n/* a\nb */ if", [("word", "#if"), *COMMENT, ("word", "if")]),
        ("SQL", "select 'it' -- c", [("word", "select"), ("string", "'it'"), ("comment", "-- c")]),
        ("html", '<a b="x">don\'t</a>', [("word", "<a"), ("string", '"x"'), ("word", ">"), ("word", "</a>")]),
        ("rust", "fn f<'a>(x: &'a str)", [("word", "fn"), ("word", "str")]),
        ("json", '{"a": [1.5e3, null]}', [("string", '"a"'), ("number", "1.5e3"), ("word", "null")]),
        ("constructor", "def x", []),
    ],
)  # fmt: skip
def test_colours(blank: Page, language: str, code: str, coloured: list[tuple[str, str]]) -> None:
    spans = blank.evaluate(
        """([language, code]) => {
            const node = document.createElement("code");
            new CodeView(node, language).append(code);
            const spans = [...node.querySelectorAll("span")];
            return spans.map((span) => [span.className.slice(3), span.textContent]);
        }""",
        [language, code],
    )
    assert [tuple(span) for span in spans] == coloured
