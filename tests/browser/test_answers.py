"""What stands around the text of an answer: the model's thought, and the sources that the text cites."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted_page import MODEL, QUOTES, Scripted

SPLIT = """async (text) => {
    const { splitThought } = await import("/written.js");
    const { thought, answer } = splitThought(text, true);
    return [thought, answer];
}"""
# Feeds an answer in pieces, and returns what it shows after each.
FED = """async (pieces) => {
    const { Answer } = await import("/messages.js");
    const host = { paint() {}, quoted() {}, announce() {}, actionsOf: () => [], quotes: false };
    const frame = () => new Promise((then) => requestAnimationFrame(then));
    const message = { id: null, content: "", status: "pending", created_at: new Date().toISOString() };
    const answer = new Answer(message, host);
    const shown = [];
    const look = () => shown.push([answer.aside.hidden ? "" : answer.thinking.textContent,
        answer.thought.textContent, answer.body.textContent]);
    for (const text of pieces) {
        answer.take({ name: "delta", data: { text } });
        await frame();
        look();
    }
    message.provenance = {};
    answer.settle("done", "eos_token", null);
    look();
    return { shown, content: message.content, source: answer.view.source };
}"""
THOUGHTS: list[tuple[str, tuple[str, str]]] = [
    ("<think>\nHm, `</b>`.\n</think>\n\nYes.", ("Hm, `</b>`.", "Yes.")),
    ("\n <THINK>Hm</THINK>Yes.", ("Hm", "Yes.")),
    ("<thinking>a\n\n    b</thinking>\n\n    Yes.", ("a\n\n    b", "Yes.")),
    ("Hm, the tag was left out.\n</think>\n\nYes.", ("Hm, the tag was left out.", "Yes.")),
    ("<think>\n\n</think>\n\nYes.", ("", "Yes.")),
    ("<think>It was cut off", ("It was cut off", "")),
    ("<think>```\nnever closed\n</think>Yes.", ("```\nnever closed", "Yes.")),
    ("Some models write <think>so</think>, later.", ("", "Some models write <think>so</think>, later.")),
    ("The tag `</think>` ends it.", ("", "The tag `</think>` ends it.")),
    ("```\n<think>\n</think>\n```\nis a template.", ("", "```\n<think>\n</think>\n```\nis a template.")),
    ("`<think>` begins it.", ("", "`<think>` begins it.")),
    ("<thin", ("", "<thin")),
    ("<b>Yes</b>", ("", "<b>Yes</b>")),
    ("Yes.", ("", "Yes.")),
    ("", ("", "")),
]


@pytest.mark.parametrize(("text", "parts"), THOUGHTS)
def test_a_thought_is_split_from_its_answer(blank: Page, text: str, parts: tuple[str, str]) -> None:
    assert tuple(blank.evaluate(SPLIT, text)) == parts
    for size in (1, 3, len(text) or 1):  # whole, and in pieces of some letters
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        fed = blank.evaluate(FED, pieces)
        assert (fed["shown"][-1][1], fed["source"].rstrip()) == parts
        assert fed["content"] == text


def test_a_thought_is_folded_while_it_is_written(blank: Page) -> None:
    fed = blank.evaluate(FED, ["<th", "ink>\nHm", ", so", ".</thi", "nk>\n\n", "Yes."])
    assert fed["shown"] == [
        ["", "", ""],
        ["Thinking…", "Hm", ""],
        ["Thinking…", "Hm, so", ""],
        ["Thinking…", "Hm, so.", ""],
        ["Thought", "Hm, so.", ""],
        ["Thought", "Hm, so.", "Yes."],
        ["Thought", "Hm, so.", "Yes."],
    ]


def test_a_thought_is_opened_by_a_key_and_not_copied(scripted: Scripted) -> None:
    chat = scripted(MODEL)
    chat.text_of_answers = "<think>Hm **so**\n  it is.</think>\n\nYes, **so**."
    chat.ask_and_wait("Thoughtful")
    words = chat.answer.get_by_text("Hm **so**")
    expect(words).to_be_hidden()
    chat.answer.get_by_text("Thought").focus()
    chat.page.keyboard.press("Enter")
    expect(words).to_be_visible()
    chat.answer.get_by_role("button", name="Copy answer").click()
    expect(chat.answer.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.clipboard == "Yes, **so**."
    chat.page.evaluate("() => document.getSelection().selectAllChildren(document.querySelector('.answer'))")
    chat.page.keyboard.press("Control+C")
    assert chat.clipboard == "Yes, **so**."


@pytest.mark.parametrize(
    ("engine", "text", "chips"),
    [
        pytest.param(MODEL, "See [2], and `x[1]`.", ["[2]"], id="cited"),
        pytest.param(MODEL, "Nothing of it helps.", [], id="none cited"),
        pytest.param(MODEL, "", [], id="empty"),
        pytest.param(MODEL, "The second is quoted.", ["[2]"], id="quoted"),
        pytest.param(QUOTES, "The documentation says so.", ["[1]", "[2]"], id="quotation"),
    ],
)
def test_only_sources_that_are_cited_are_shown_and_copied(
    scripted: Scripted, engine: dict[str, Any], text: str, chips: list[str]
) -> None:
    chat = scripted(engine)
    chat.text_of_answers = text
    if "quoted" in text:
        chat.sources[1]["cited"] = True
    chat.ask_and_wait("Trees")
    expect(chat.answer.locator(".chips .number")).to_have_text(chips)
    if text:
        chat.answer.get_by_role("button", name="Copy answer").click()
        expect(chat.answer.get_by_role("button", name="Copied")).to_be_visible()
        lines = [line[:2] for line in chat.clipboard.split("\n") if line[1:2] == "."]
        assert lines == [f"{chip[1]}." for chip in chips]


def test_at_no_width_does_anything_but_code_and_tables_scroll_sideways(scripted: Scripted) -> None:
    chat = scripted(MODEL)
    long = "y" * 300
    chat.text_of_answers = (
        f"<think>{long}</think>{long} [1]\n\n```\n{long}\n```\n\n| {long} |\n|---|\n\n> {long}\n"
    )
    chat.ask_and_wait(f"{long} `{long}`\n```\n{long}\n```")
    chat.answer.get_by_text("Thought").click()
    chat.chips.first.click()
    wide = """() => [...document.querySelectorAll("tech-chat *, #tech-composer *")].filter((node) => {
        if (node.closest("pre, .table, svg, .unseen")) return false;
        const { left, right, width } = node.getBoundingClientRect();
        return width > 0 && (left < 0 || right > innerWidth || node.scrollLeft > 0);
    }).map((node) => node.className || node.localName)"""
    for width in (320, 390, 768, 1180, 1600):
        chat.page.set_viewport_size({"width": width, "height": 800})
        assert chat.page.evaluate(wide) == []
        assert chat.page.evaluate("document.documentElement.scrollWidth") <= width
