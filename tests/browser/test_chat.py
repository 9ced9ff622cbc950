"""The browser chat on the real application, with an upstream that a test can pause."""

from __future__ import annotations

import os
import re
import signal

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, expect

from tests.browser.chat_page import QUESTIONS, ChatPage
from tests.browser.conftest import PHONE, visitor
from tests.browser.pausable_upstream import ANSWER, FIRST_WORDS, LAST_WORDS, Upstream
from tests.support.application import Application


def test_a_question_is_answered_word_by_word_and_saved(chat: ChatPage, upstream: Upstream) -> None:
    expect(chat.page.get_by_role("heading", name="Tech Assistant")).to_be_visible()
    expect(chat.composer).to_be_focused()
    upstream.pause()
    chat.ask("How do I read a file?")
    chat.expect_status("streaming")
    chat.expect_text(FIRST_WORDS)
    expect(chat.send).to_have_accessible_name("Stop")
    chat.resume_and_wait(upstream)
    expect(chat.send).to_have_accessible_name("Send")
    assert LAST_WORDS in chat.text
    expect(chat.answer.locator("table td").first).to_have_text("with")
    expect(chat.answer.locator("figure.code .language")).to_have_text("python")
    expect(chat.answer.locator("code .hl-comment")).to_have_text("# closed at the end")
    expect(chat.listed).to_have_text(["How do I read a file?"])
    expect(chat.page).to_have_title("How do I read a file? · Tech Assistant")
    stored = chat.stored()
    assert [message["status"] for message in stored] == ["done", "done"]
    assert stored[1]["content"].strip() == ANSWER.strip()
    shown = chat.text
    chat.page.reload()
    chat.expect_status("done")
    assert chat.text == shown


def test_stop_ends_the_answer_and_keeps_its_text(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_pause(upstream, "Stop in the middle")
    chat.send.click()
    chat.expect_status("stopped")
    kept = chat.text
    expect(chat.answer).to_contain_text("You stopped this answer.")
    expect(chat.send).to_have_accessible_name("Send")
    assert chat.stored()[1]["status"] == "stopped"
    chat.page.reload()
    chat.expect_status("stopped")
    assert chat.text == kept
    chat.answer.get_by_role("button", name="Retry").click()
    chat.expect_status("streaming")
    chat.resume_and_wait(upstream)
    assert LAST_WORDS in chat.text
    assert chat.answers.count() == 1


def test_stop_before_the_question_is_stored_stops_its_answer(chat: ChatPage, upstream: Upstream) -> None:
    upstream.pause()
    held = chat.hold_back(QUESTIONS)
    with chat.page.expect_request(QUESTIONS):
        chat.ask("Stop at once")
    expect(chat.send).to_have_accessible_name("Stop")
    chat.send.click()
    held[0].continue_()
    chat.expect_status("stopped")


def test_a_tab_closed_in_mid_answer_and_opened_again_shows_the_whole_answer(
    chat: ChatPage, upstream: Upstream
) -> None:
    chat.ask_and_pause(upstream, "Close the tab")
    again = chat.in_another_tab(instead=True)
    again.expect_text(FIRST_WORDS)
    again.resume_and_wait(upstream)
    assert again.stored()[1]["content"].strip() == ANSWER.strip()
    for words in ("Use with, which closes the file", "not tried", LAST_WORDS):
        assert words in again.text


def test_going_elsewhere_and_back_in_mid_answer_loses_nothing(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_pause(upstream, "First conversation")
    first = chat.conversation
    chat.new.click()
    expect(chat.answers).to_have_count(0)
    assert "?c=" not in chat.page.url
    chat.ask("Second conversation")
    chat.expect_text(FIRST_WORDS)
    assert chat.conversation != first
    chat.page.go_back()
    expect(chat.bubbles).to_have_text("First conversation")
    chat.expect_text(FIRST_WORDS)
    chat.resume_and_wait(upstream)
    assert chat.conversation == first
    assert LAST_WORDS in chat.text
    expect(chat.listed).to_have_count(2)
    expect(chat.page.locator("tech-conversations a[aria-current]")).to_have_text("First conversation")
    chat.listed.filter(has_text="Second").click()
    chat.expect_status("done")
    expect(chat.questions).to_contain_text("Second conversation")


def test_two_tabs_show_the_same_conversation(chat: ChatPage) -> None:
    chat.ask_and_wait("One")
    other = chat.in_another_tab()
    other.expect_status("done")
    other.ask_and_wait("Two")
    chat.page.bring_to_front()
    expect(chat.answers).to_have_count(2)
    chat.expect_status("done")


def test_shift_enter_breaks_the_line_and_a_blank_question_is_not_sent(chat: ChatPage) -> None:
    chat.composer.press("Enter")
    chat.composer.fill("   ")
    chat.composer.press("Enter")
    expect(chat.answers).to_have_count(0)
    chat.composer.fill("")
    chat.composer.press_sequentially("one")
    chat.composer.press("Shift+Enter")
    chat.composer.press_sequentially("two <b>bold</b>")
    chat.composer.press("Enter")
    expect(chat.bubbles).to_have_text("one\ntwo <b>bold</b>")
    expect(chat.composer).to_have_value("")
    chat.expect_status("done")
    assert chat.stored()[0]["content"] == "one\ntwo <b>bold</b>"


def test_while_an_answer_is_written_the_next_question_waits_in_the_composer(
    chat: ChatPage, upstream: Upstream
) -> None:
    upstream.pause()
    chat.ask("First")
    chat.expect_status("streaming")
    chat.composer.fill("Second")
    chat.composer.press("Enter")
    expect(chat.alarm).to_contain_text("An answer is being written")
    expect(chat.composer).to_have_value("Second")
    chat.resume_and_wait(upstream)
    chat.composer.press("Enter")
    expect(chat.answers).to_have_count(2)
    expect(chat.alarm).to_be_hidden()
    chat.expect_status("done")


def test_hebrew_runs_from_the_right(chat: ChatPage) -> None:
    chat.ask_and_wait("שלום!\nand English!")
    places = chat.bubbles.evaluate(
        """node => {
            const left = (at) => {
                const range = document.createRange();
                range.setStart(node.firstChild, at);
                range.setEnd(node.firstChild, at + 1);
                return range.getBoundingClientRect().left;
            };
            const mark = node.textContent.indexOf("!"), end = node.textContent.length - 1;
            return { hebrew: left(mark) < left(0), english: left(end) > left(end - 1) };
        }"""
    )
    assert places == {"hebrew": True, "english": True}


def test_an_example_question_is_asked_by_a_click(chat: ChatPage) -> None:
    examples = chat.page.get_by_role("group", name="Example questions").get_by_role("button")
    expect(examples).to_have_count(4)
    examples.first.click()
    expect(chat.bubbles).to_contain_text("NoneType")
    chat.expect_status("done")


def test_what_is_typed_is_there_after_a_reload(chat: ChatPage) -> None:
    chat.composer.fill("half a quest")
    chat.page.reload()
    expect(chat.composer).to_have_value("half a quest")


def test_a_question_of_300_kb_is_refused_with_a_reason_and_stays_in_the_composer(chat: ChatPage) -> None:
    text = "x" * 300_000
    chat.ask(text)
    expect(chat.alarm).to_contain_text("longer than 240 kB")
    expect(chat.answers).to_have_count(0)
    assert chat.composer.input_value() == text


def test_a_question_that_does_not_arrive_comes_back(chat: ChatPage) -> None:
    chat.page.route(QUESTIONS, lambda route: route.fulfill(status=502, body="<html>bad gateway</html>"))
    chat.ask("Nobody hears this")
    expect(chat.alarm).to_contain_text("did not reach the application")
    expect(chat.composer).to_have_value("Nobody hears this")
    expect(chat.answers).to_have_count(0)
    chat.page.unroute(QUESTIONS)
    chat.composer.press("Enter")
    chat.expect_status("done")
    expect(chat.alarm).to_be_hidden()


def test_a_conversation_of_somebody_else_is_not_here(chat: ChatPage, browser: Browser) -> None:
    chat.ask_and_wait("Mine")
    with visitor(browser) as stranger:
        page = ChatPage(stranger, chat.address, f"/?c={chat.conversation}").page
        expect(page.get_by_text("This conversation cannot be found.")).to_be_visible()
        expect(page.get_by_text("Mine")).to_have_count(0)
        page.locator("tech-chat").get_by_role("button", name="New chat").click()
        expect(page.get_by_role("heading", name="Tech Assistant")).to_be_visible()
        assert "?c=" not in page.url


def test_the_reader_who_scrolls_up_is_left_alone(chat: ChatPage, upstream: Upstream) -> None:
    chat.page.set_viewport_size({"width": 900, "height": 420})
    chat.ask_and_pause(upstream, "Long one")
    scroller = chat.page.get_by_role("region", name="Conversation")
    at_end = "node => node.scrollHeight - node.scrollTop - node.clientHeight < 48"
    assert scroller.evaluate(at_end)
    scroller.hover()
    chat.page.mouse.wheel(0, -2000)
    to_end = chat.page.get_by_role("button", name="Go to the end")
    expect(to_end).to_be_visible()
    top = scroller.evaluate("node => node.scrollTop")
    chat.resume_and_wait(upstream)
    assert scroller.evaluate("node => node.scrollTop") == top
    to_end.click()
    expect(to_end).to_be_hidden()
    assert scroller.evaluate(at_end)


def test_a_hidden_tab_closes_its_stream_and_resumes_it_when_visible(
    chat: ChatPage, upstream: Upstream
) -> None:
    hide = """isHidden => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""

    def is_stream(request: Request) -> bool:
        return request.url.endswith("/events")

    chat.ask_and_pause(upstream, "Look away")
    with chat.page.expect_event("requestfailed", is_stream):
        chat.page.evaluate(hide, True)
    with chat.page.expect_request(is_stream) as resumed:
        chat.page.evaluate(hide, False)
    assert re.fullmatch(r"[1-9]\d*", resumed.value.headers["last-event-id"])
    chat.resume_and_wait(upstream)
    shown = chat.text
    chat.page.reload()
    chat.expect_status("done")
    assert chat.text == shown


@pytest.mark.parametrize("look", [{**PHONE, "color_scheme": "light"}, {**PHONE, "color_scheme": "dark"}])
def test_on_a_phone_the_list_is_a_sheet_and_nothing_scrolls_sideways(chat: ChatPage) -> None:
    chat.ask_and_wait("On the phone")
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 390
    assert chat.page.evaluate("document.querySelector('tech-chat .scroller').scrollWidth") == 390
    panel = chat.page.get_by_role("navigation", name="Conversations")
    expect(panel).to_be_hidden()
    chat.page.get_by_role("button", name="Show conversations").tap()
    expect(panel).to_be_visible()
    chat.composer.evaluate("box => box.focus()")  # what is under the sheet is out of reach
    expect(chat.composer).not_to_be_focused()
    panel.get_by_role("button", name="New chat").tap()
    expect(panel).to_be_hidden()
    expect(chat.page.get_by_role("heading", name="Tech Assistant")).to_be_visible()
    small = chat.page.evaluate(
        """() => [...document.querySelectorAll("button, a")].map((node) => node.getBoundingClientRect())
            .filter((box) => box.width > 0 && (box.width < 44 || box.height < 44)).length"""
    )
    assert small == 0


@pytest.mark.parametrize("look", [PHONE])
def test_on_a_touch_screen_the_options_of_a_conversation_are_always_visible(chat: ChatPage) -> None:
    for title in ("One", "Two"):
        chat.page.request.post(f"{chat.address}/api/conversations", data={"title": title})
    chat.page.reload()
    chat.page.get_by_role("button", name="Show conversations").tap()
    for title in ("One", "Two"):
        expect(chat.options(title)).to_have_css("opacity", "1")


@pytest.mark.parametrize("look", [PHONE])
def test_the_composer_stays_above_a_keyboard_on_the_screen(chat: ChatPage) -> None:
    chat.page.evaluate(
        """() => {
            Object.defineProperty(visualViewport, "height", { value: 500 });
            visualViewport.dispatchEvent(new Event("resize"));
        }"""
    )
    box = chat.composer.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 500


def test_the_page_asks_no_foreign_host_and_breaks_no_policy(
    application: Application, context: BrowserContext
) -> None:
    requests: list[str] = []
    refused: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    chat = ChatPage(context, application.address)
    chat.ask_and_wait("Anything")
    ours = (application.address, "data:", "blob:")
    assert [url for url in requests if not url.startswith(ours)] == []
    assert refused == []


def test_the_serving_layer_killed_in_mid_answer_fails_that_reply_and_the_next_one_works(
    killable: Application, context: BrowserContext, upstream: Upstream
) -> None:
    chat = ChatPage(context, killable.address)
    chat.ask_and_pause(upstream, "Kill the engine")
    shown = chat.text
    os.kill(killable.serving_pid(), signal.SIGKILL)
    chat.expect_status("failed")
    assert chat.text.startswith(shown.rstrip())
    assert chat.stored()[1]["status"] == "failed"
    expect(chat.answer.locator(".note p")).not_to_be_empty()
    killable.wait_until("ready")
    upstream.resume()
    chat.ask_and_wait("And the next one?")
    assert LAST_WORDS in chat.text


def test_while_the_application_is_gone_nothing_that_was_shown_or_asked_is_lost(
    killable: Application, context: BrowserContext, upstream: Upstream
) -> None:
    chat, other = ChatPage(context, killable.address), ChatPage(context, killable.address)
    chat.ask_and_pause(upstream, "Kill the application")
    killable.kill()
    expect(chat.answer).to_contain_text("The connection is lost.")
    shown = chat.text
    other.ask("Is anybody there?")
    expect(other.alarm).to_contain_text("did not reach the application")
    expect(other.notice).to_contain_text("cannot be reached")
    expect(other.composer).to_have_value("Is anybody there?")
    killable.start(port=int(killable.address.rpartition(":")[2]))
    chat.expect_status("interrupted")
    assert chat.text.startswith(shown.rstrip())
    stored = chat.stored()[1]
    assert (stored["status"], stored["finish_reason"]) == ("interrupted", None)
    killable.wait_until("ready")
    expect(other.notice).to_be_hidden()
    expect(other.composer).to_have_value("Is anybody there?")
    upstream.resume()
    other.composer.press("Enter")
    other.expect_status("done")
    killable.wait_for_page()
    kept = chat.text
    chat.page.reload()
    chat.expect_status("interrupted")
    assert chat.text == kept
    chat.answer.get_by_role("button", name="Retry").click()
    chat.expect_status("done")
    assert LAST_WORDS in chat.text


def test_without_a_model_the_page_says_what_to_do(
    without_model: Application, context: BrowserContext
) -> None:
    chat = ChatPage(context, without_model.address)
    expect(chat.notice).to_contain_text("No model is loaded.")
    expect(chat.notice).to_contain_text("sh scripts/run --model FILE.gguf")
    expect(chat.notice).to_contain_text("--upstream")
    chat.ask("Hello?")
    expect(chat.composer).to_have_value("Hello?")
    expect(chat.answers).to_have_count(0)
    found = chat.page.request.get(f"{without_model.address}/api/conversations").json()
    assert found["conversations"] == []
