"""A selection is copied as Markdown."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat_page import ChatPage
from tests.browser.pausable_upstream import ANSWER

BACK = """(text) => {
    const view = new MarkdownView(document.createElement("div"));
    view.set(text);
    view.finish();
    return markdownOf(view.container);
}"""
TEXTS = [
    "Plain words,\nand a second line.",
    "# One\n\n## Two\n\nwith **bold**, *slanted*, ~~struck~~ and `code`",
    "``a ` tick`` and [a link](https://example.org/x) and https://example.org/y",
    "```python\nx = 1\n\nif x:\n    print(x)\n```",
    "````\n```\nnot the end\n```\n````",
    "- one\n- two\n  - inner\n  - other\n- [x] tried\n- [ ] not yet",
    "3. three\n4. four\n\n   a paragraph\n\n5. five",
    "> quoted\n>\n> - a list\n\n---\n\nafter",
    "| a | b |\n|---|---|\n| 1 | `x \\| y` |\n| 2 | z |",
    "> [!NOTE]\n> Take *care*.\n>\n> - Really\n\n> [!TIP]\n> Rest.",
    "A note[^1] and another[^long].\n\n[^1]: The note.\n\n[^long]: It has\n    two lines.",
    "Here \\(a_1 < b\\) holds.\n\n$$\n\\sum_i x_i\n$$",
    "<details>\n<summary>*Not* read</summary>\n</details>\n\nwith <b>tags</b>",
    ANSWER,
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_markdown_comes_back(blank: Page, text: str) -> None:
    back = blank.evaluate(BACK, text)
    assert blank.evaluate(BACK, back) == back
    if "4. four" not in text:  # a loose list has the same space between all its items
        assert back == text


def test_what_is_selected_is_copied_as_markdown(chat: ChatPage) -> None:
    chat.ask_and_wait("What shall I copy?")
    chat.page.evaluate("document.getSelection().selectAllChildren(document.querySelector('tech-chat .list'))")
    chat.page.keyboard.press("Control+C")
    assert chat.clipboard == f"What shall I copy?\n\n{ANSWER}"
    code = "document.getSelection().selectAllChildren(document.querySelector('tech-chat pre code'))"
    chat.page.evaluate(code)
    chat.page.keyboard.press("Control+C")
    assert chat.clipboard.startswith('with open("notes.txt") as file:')


def test_the_copy_button_gives_the_answer_as_it_was_written(chat: ChatPage) -> None:
    chat.ask_and_wait("Copy it all")
    chat.answer.get_by_role("button", name="Copy answer").click()
    expect(chat.answer.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.clipboard == ANSWER
