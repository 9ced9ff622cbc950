"""Drafts in the composer, and the keyboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.chat_page import QUESTIONS, ChatPage
from tests.browser.conftest import PHONE
from tests.browser.pausable_upstream import Upstream
from tests.support.application import Application


def test_each_conversation_keeps_its_own_draft(chat: ChatPage) -> None:
    for name in ("One", "Two"):
        chat.ask_and_wait(name)
        chat.composer.fill(f"draft of {name}")
        chat.new.click()
        expect(chat.answers).to_have_count(0)
    expect(chat.composer).to_have_value("")
    chat.composer.fill("draft of a new chat")
    for name in ("One", "Two"):
        chat.listed.filter(has_text=name).click()
        expect(chat.bubbles).to_have_text([name])
        expect(chat.composer).to_have_value(f"draft of {name}")
    chat.new.click()
    expect(chat.answers).to_have_count(0)
    expect(chat.composer).to_have_value("draft of a new chat")
    chat.page.reload()
    expect(chat.composer).to_have_value("draft of a new chat")


def test_a_draft_outlives_its_tab_and_goes_when_it_is_sent(chat: ChatPage) -> None:
    chat.ask_and_wait("Begin")
    chat.composer.fill("half a question")
    again = chat.in_another_tab(instead=True)
    expect(again.composer).to_have_value("half a question")
    again.composer.press("Enter")
    expect(again.answers).to_have_count(2)
    again.expect_status("done")
    again.page.reload()
    again.expect_status("done")
    expect(again.composer).to_have_value("")


def test_a_draft_goes_with_its_conversation_and_comes_back_with_it(chat: ChatPage) -> None:
    chat.ask_and_wait("Short life")
    chat.composer.fill("what I wanted to ask")
    chat.choose("Short life", "Delete")
    expect(chat.composer).to_have_value("")
    assert chat.page.evaluate("Object.keys(localStorage).filter((key) => key.includes('draft'))") == []
    chat.toast.get_by_role("button", name="Undo").click()
    expect(chat.bubbles).to_have_text(["Short life"])
    expect(chat.composer).to_have_value("what I wanted to ask")


def test_a_draft_is_kept_until_the_question_is_known_to_be_stored(chat: ChatPage) -> None:
    chat.ask_and_wait("Begin")
    chat.hold_back(QUESTIONS)
    with chat.page.expect_request(QUESTIONS):
        chat.ask("On its way")
    expect(chat.composer).to_have_value("")
    chat.page.reload()
    expect(chat.composer).to_have_value("On its way")


def test_a_question_on_its_way_holds_nothing_up_in_another_chat(chat: ChatPage) -> None:
    chat.ask_and_wait("First")
    held = chat.hold_back(QUESTIONS, lambda request: "Slow" in (request.post_data or ""))
    with chat.page.expect_request(QUESTIONS):
        chat.ask("Slow")
    chat.new.click()
    chat.ask_and_wait("Mine")
    expect(chat.bubbles).to_have_text(["Mine"])
    chat.composer.fill("And then")
    with chat.page.expect_response("**/api/conversations?*"):
        held[0].continue_()
    expect(chat.bubbles).to_have_text(["Mine"])
    expect(chat.composer).to_have_value("And then")
    chat.listed.get_by_text("First").click()
    expect(chat.bubbles).to_have_text(["First", "Slow"])
    expect(chat.composer).to_have_value("")
    chat.expect_status("done")


def test_a_question_that_had_arrived_after_all_is_not_asked_twice(chat: ChatPage) -> None:
    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    chat.page.route(QUESTIONS, lose)
    chat.ask("Once")
    expect(chat.alarm).to_contain_text("did not reach the application")
    chat.page.unroute(QUESTIONS)
    chat.composer.press("Enter")
    chat.expect_status("done")
    expect(chat.listed).to_have_text(["Once"])


def test_drafts_are_bounded(blank: Page) -> None:
    kept: Any = blank.evaluate(
        """() => {
            let now = 0;
            Date.now = () => ++now;
            localStorage.setItem("of somebody else", "stays");
            for (let number = 0; number < 40; number++) keepDraft(`c${number}`, `text ${number}`);
            const some = [draftOf("c9"), draftOf("c10"), draftOf("c39"), localStorage.length];
            keepDraft("large", "x".repeat(4_900_000)); // a browser gives five million
            const large = [draftOf("large").length, draftOf("c39")];
            keepDraft("too large", "x".repeat(6_000_000));
            const tooLarge = [draftOf("too large"), localStorage.getItem("of somebody else")];
            localStorage.clear();
            return { some, large, tooLarge };
        }"""
    )
    assert kept["some"] == ["", "text 10", "text 39", 31]
    assert kept["large"][0] == 4_900_000
    assert kept["tooLarge"] == ["", "stays"]


def test_without_storage_the_page_works_all_the_same(
    application: Application, context: BrowserContext
) -> None:
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) {
            Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
        }"""
    )
    chat = ChatPage(context, application.address)
    chat.composer.fill("typed")
    chat.ask_and_wait("sent")
    expect(chat.composer).to_have_value("")


def test_escape_in_the_composer_stops_the_answer(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_pause(upstream, "Stop by key")
    expect(chat.composer).to_be_focused()
    chat.composer.press("Escape")
    chat.expect_status("stopped")
    expect(chat.composer).to_be_focused()


def test_escape_closes_what_is_open_and_the_answer_goes_on(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_wait("Named")
    chat.ask_and_pause(upstream, "Goes on")
    chat.options("Named").click()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("menu")).to_be_hidden()
    chat.expect_status("streaming")
    chat.resume_and_wait(upstream)


def test_keys_begin_a_new_chat_and_lead_to_the_composer(chat: ChatPage) -> None:
    chat.ask_and_wait("Old")
    chat.page.get_by_role("region", name="Conversation").focus()
    chat.page.keyboard.press("/")
    expect(chat.composer).to_be_focused()
    expect(chat.composer).to_have_value("")
    chat.page.keyboard.type("a/b")
    expect(chat.composer).to_have_value("a/b")
    chat.page.keyboard.press("Control+Shift+O")
    expect(chat.page.get_by_role("heading", name="Tech Assistant")).to_be_visible()
    expect(chat.composer).to_be_focused()
    expect(chat.composer).to_have_value("")
    assert "?c=" not in chat.page.url
    hint = chat.page.locator("tech-hint")
    for keys in ("Enter", "Shift + Enter", "Esc", "/", "Ctrl + Shift + O"):
        expect(hint.get_by_text(keys, exact=True)).to_be_visible()
    expect(chat.composer).to_have_accessible_description(re.compile("Enter sends"))


def test_an_input_method_keeps_its_enter(chat: ChatPage) -> None:
    chat.composer.fill("にほん")
    chat.composer.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    expect(chat.composer).to_have_value("にほん")
    expect(chat.answers).to_have_count(0)


@pytest.mark.parametrize("look", [PHONE])
def test_on_a_phone_enter_breaks_the_line_and_the_button_sends(chat: ChatPage) -> None:
    expect(chat.composer).to_have_accessible_description(re.compile(r"Ctrl \+ Enter sends Enter adds a line"))
    chat.composer.tap()
    chat.page.keyboard.type("one\ntwo")
    expect(chat.composer).to_have_value("one\ntwo")
    expect(chat.send).to_have_attribute("title", "Send (Ctrl + Enter)")
    chat.send.tap()
    chat.expect_status("done")
    expect(chat.bubbles).to_have_text(["one\ntwo"])
    chat.questions.first.get_by_role("button", name="Edit question").tap()
    chat.page.keyboard.type("\nthree")
    expect(chat.editor).to_have_value("one\ntwo\nthree")
    chat.editor.press("Control+Enter")
    chat.expect_version(chat.questions.first, "2 / 2")
    chat.expect_status("done")


def test_ctrl_enter_sends_everywhere(chat: ChatPage) -> None:
    chat.composer.fill("by keys")
    chat.composer.press("Control+Enter")
    chat.expect_status("done")


GIVE = """([name, files, text, selector]) => {
    const data = new DataTransfer();
    for (const [title, type, content] of files) {
        const bytes = typeof content === "string" ? content : new Uint8Array(content);
        data.items.add(new File([bytes], title, { type }));
    }
    if (text) data.setData("text/plain", text);
    const [kind, key] = name === "paste" ? [ClipboardEvent, "clipboardData"] : [DragEvent, "dataTransfer"];
    const event = new kind(name, { [key]: data, bubbles: true, cancelable: true });
    document.querySelector(selector).dispatchEvent(event);
    return event.defaultPrevented;
}"""
PYTHON = ["run.py", "text/x-python", "print(1)\n"]
FENCED = "`run.py`:\n\n```py\nprint(1)\n```\n"
PICTURE = ["image.png", "image/png", [0x89, 0x50, 0, 1]]
IMAGES = "Images cannot be read here. Paste the text that matters instead."
BOX = "#tech-box textarea"


def test_the_text_of_pasted_and_dropped_files_is_taken_and_the_others_get_a_sentence(chat: ChatPage) -> None:
    page = chat.page
    cases: list[tuple[str, list[Any], str, str, str]] = [
        ("paste", [PYTHON], "", FENCED, ""),
        ("drop", [PYTHON], "", FENCED, ""),
        ("paste", [PYTHON], "/home/me/run.py", FENCED, ""),  # the name that a system adds is no text
        ("paste", [PICTURE], "", "", IMAGES),
        ("drop", [PICTURE, PYTHON], "", FENCED, IMAGES),
        ("drop", [["a.bin", "", [1, 0, 2]]], "", "", "“a.bin” is not a text file. Paste its text instead."),
        ("drop", [["a.zip", "", [0xFF, 0xFE, 0xFD]]], "", "", "“a.zip” is not a text file."),
        ("drop", [["data.json", "application/json", "{}"]], "", "`data.json`:\n\n```json\n{}\n```\n", ""),
        ("drop", [["alt.txt", "text/plain", [0xE9]]], "", "`alt.txt`:\n\n```txt\né\n```\n", ""),
        ("drop", [["x", "", "```\r\na\r\n```"]], "", "`x`:\n\n````\n```\na\n```\n````\n", ""),
        (
            "drop",
            [["l.c", "", "\n" * 20_000 + "x;"]],
            "",
            "`l.c`:\n\n```c\n" + "\n" * 20_000 + "x;\n```\n",
            "",
        ),
        ("drop", [["log.txt", "text/plain", "x" * 200_001]], "", "", "“log.txt” is larger than 200 kB."),
    ]
    cases += [
        ("drop", [["x.ts", "video/mp2t", "let x;"]], "", "`x.ts`:\n\n```ts\nlet x;\n```\n", ""),
        ("drop", [PICTURE], "https://example.org/image", "", IMAGES),
    ]
    for where in (BOX, "tech-chat .scroller"):
        for name, files, text, value, reason in cases:
            chat.composer.fill("")
            assert page.evaluate(GIVE, [name, files, text, where])
            expect(chat.composer).to_have_value(value)
            expect(chat.alarm).to_contain_text(reason) if reason else expect(chat.alarm).to_be_hidden()
    chat.composer.fill("before")
    page.evaluate(GIVE, ["drop", [PYTHON], "", "body"])
    expect(chat.composer).to_have_value(f"before\n{FENCED}")
    page.keyboard.press("Control+Z")
    expect(chat.composer).to_have_value("before")
    assert not page.evaluate(
        GIVE, ["paste", [PICTURE], "Text from Word\n\nand more", BOX]
    )  # the browser pastes the text
    assert not page.evaluate(GIVE, ["drop", [], "dragged words", BOX])


def test_a_dropped_file_never_replaces_the_page(chat: ChatPage, tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("<title>notes</title>Notes")
    address = chat.page.url
    devtools = chat.page.context.new_cdp_session(chat.page)
    data = {"items": [], "files": [str(tmp_path / "notes.html")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 200, "data": data})
    expect(chat.composer).to_have_value(re.compile("<title>notes"))
    assert chat.page.url == address
