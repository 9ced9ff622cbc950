"""Questions as they are shown: code in monospace, long ones folded, each line in its own direction."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat_page import ChatPage

SHOWN = """async (text) => {
    const { Question } = await import("/messages.js");
    const message = { id: "q", content: text, created_at: new Date().toISOString() };
    const { bubble, fold } = new Question(message, {});
    const codes = [...bubble.querySelectorAll("code")].map((node) => node.textContent);
    const isOnlyCode = [...bubble.children].every((node) => node.localName === "code");
    const marked = bubble.querySelectorAll(".hidden-character").length;
    return { text: bubble.textContent, codes, isOnlyCode, marked, isFolded: !fold.hidden };
}"""
FENCE = "```py\nx = `1`\n```\n"
LONG = "\n".join(f"line {number} of what was pasted" for number in range(3000))
CASES: list[tuple[str, list[str]]] = [
    ("plain", []),
    ("what is `x` and ``a ` b``?", ["`x`", "``a ` b``"]),
    (f"before\n\n{FENCE}after `y`", [FENCE, "`y`"]),
    ("~~~\n```\n~~~", ["~~~\n```\n~~~"]),
    ("````\n```\nin it\n```\n````\nout", ["````\n```\nin it\n```\n````\n"]),
    ("```\nnever closed `a`\n", ["```\nnever closed `a`\n"]),
    ("   ```\nindented\n  ```\n", ["   ```\nindented\n  ```\n"]),
    ("a lone ` and\nanother ` elsewhere", []),
    ("```not a fence``` but three", []),
    ("    def pasted():\n        return **kwargs\n", []),
    ("<b>not bold</b> **nor this** `<i>`", ["`<i>`"]),
    ("```", ["```"]),
    ("pasted `a\u202eb`", ["`a\u202eb`"]),
    ("", []),
]
SLOW = ["`" * 200_000, "`a``" * 50_000, "```\n" * 50_000, "~~~~\n```\n" * 20_000, " `x" * 60_000]


@pytest.mark.parametrize(("text", "codes"), CASES)
def test_code_in_a_question_is_monospace_and_its_text_stays(blank: Page, text: str, codes: list[str]) -> None:
    shown = blank.evaluate(SHOWN, text)
    marked = text.count("\u202e")
    assert shown == {"text": text, "codes": codes, "isOnlyCode": True, "marked": marked, "isFolded": False}


@pytest.mark.parametrize("text", SLOW, ids=lambda text: text[:5])
def test_no_question_takes_long(blank: Page, text: str) -> None:
    assert blank.evaluate(SHOWN, text)["text"] == text
    took = (
        "async (text) => { const at = performance.now(); await ("
        + SHOWN
        + ")(text); return performance.now() - at; }"
    )
    assert blank.evaluate(took, text) < 5000  # a tenth of a second, or minutes with backtracking


def test_code_is_in_another_face_than_words(chat: ChatPage) -> None:
    chat.ask_and_wait(f"`a`\n{FENCE}")
    faces = chat.bubbles.locator("code").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).fontFamily)"
    )
    assert len(faces) == 2
    assert all("monospace" in face for face in faces)
    chat.page.evaluate("() => document.getSelection().selectAllChildren(document.querySelector('.bubble'))")
    chat.page.keyboard.press("Control+C")
    assert chat.clipboard.rstrip("\n") == f"`a`\n{FENCE}".rstrip("\n")


def test_a_long_question_is_folded_until_the_reader_asks_for_all(chat: ChatPage) -> None:
    chat.page.evaluate("(text) => { document.querySelector('#tech-box textarea').value = text; }", LONG)
    chat.composer.press("Control+Enter")
    chat.expect_status("failed")  # it is too long for the model
    more = chat.questions.first.get_by_role("button", name="Show all")
    less = chat.questions.first.get_by_role("button", name="Show less")
    expect(more).to_have_attribute("aria-expanded", "false")
    expect(chat.bubbles).to_have_text(LONG)
    height = "() => document.querySelector('.bubble').clientHeight"
    assert chat.page.evaluate(height) < 400
    more.focus()
    top = chat.bubbles.evaluate("node => node.getBoundingClientRect().top")
    chat.page.keyboard.press("Enter")
    expect(less).to_be_focused()
    assert chat.page.evaluate(height) > 70_000
    chat.page.evaluate(
        "() => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)))"
    )
    assert (
        chat.bubbles.evaluate("node => node.getBoundingClientRect().top") == top
    )  # the reader goes on from there
    chat.page.keyboard.press("Enter")
    expect(more).to_be_focused()
    expect(more).to_be_in_viewport()
    assert chat.page.evaluate(height) < 400
    chat.questions.first.get_by_role("button", name="Copy question").click()
    expect(chat.questions.first.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.clipboard == LONG
    chat.start_editing(chat.questions.first)
    expect(chat.editor).to_have_value(LONG)
    expect(more).to_be_hidden()
    chat.editor.press("Escape")
    expect(more).to_be_visible()


def test_hebrew_begins_at_the_right_even_if_code_is_first(chat: ChatPage) -> None:
    chat.ask_and_wait("`print()` לא עובד\n`print()` works")
    sides = chat.bubbles.locator("code").evaluate_all(
        """all => all.map((one) => {
            const [inner, outer] = [one, one.parentNode].map((node) => node.getBoundingClientRect());
            return inner.left - outer.left < outer.right - inner.right ? "left" : "right";
        })"""
    )
    assert sides == ["right", "left"]
    expect(chat.listed).to_have_text(["`print()` לא עובד"])
    # The list may be painted again meanwhile.
    chat.page.wait_for_function(
        """() => {
            const code = document.querySelector("tech-conversations li code");
            return code?.offsetLeft > code?.parentNode.clientWidth / 2;
        }"""
    )
