"""Editing and regenerating overwrite nothing: arrows switch between the versions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Request, Route, expect

from tests.browser.chat_page import ChatPage
from tests.browser.pausable_upstream import FIRST_WORDS, Upstream

MESSAGES = "**/api/conversations/*/messages"
ONE = re.compile(r"/api/conversations/[^/?]+$")


def is_save(request: Request) -> bool:
    return request.method == "PATCH"


def test_an_edited_question_is_a_branch_beside_the_first(chat: ChatPage) -> None:
    chat.ask_and_wait("First question")
    chat.ask_and_wait("What came after it")
    chat.edit(chat.questions.first, "Better question")
    expect(chat.bubbles).to_have_text(["Better question"])
    expect(chat.composer).to_be_focused()
    chat.expect_status("done")
    chat.expect_version(chat.questions.first, "2 / 2")
    chat.walk(chat.questions.first, "Previous")
    expect(chat.bubbles).to_have_text(["First question", "What came after it"])
    chat.expect_version(chat.questions.first, "1 / 2")
    stored = chat.stored()
    assert [message["content"] for message in stored if message["role"] == "user"] == [
        "First question", "What came after it", "Better question"
    ]  # fmt: skip
    assert [message["parent_id"] for message in stored if message["content"].endswith("question")] == [
        None
    ] * 2


def test_a_regenerated_answer_is_a_branch_beside_the_first(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_wait("Once more")
    chat.answer.get_by_role("button", name="Regenerate").click()
    expect(chat.answers).to_have_count(1)
    chat.expect_status("done")
    chat.expect_version(chat.answer, "2 / 2")
    upstream.pause()
    chat.answer.get_by_role("button", name="Regenerate").click()
    chat.expect_text(FIRST_WORDS)
    chat.send.click()
    chat.expect_status("stopped")
    chat.expect_version(chat.answer, "3 / 3")
    chat.walk(chat.answer, "Previous")
    chat.expect_version(chat.answer, "2 / 3")
    chat.expect_status("done")
    first = chat.answer.get_by_role("button", name="Previous version")
    expect(first).to_be_focused()
    chat.page.keyboard.press("Enter")
    chat.expect_version(chat.answer, "1 / 3")
    # At the end of the way the focus is on the arrow that leads back.
    expect(chat.answer.get_by_role("button", name="Next version")).to_be_focused()
    expect(chat.spoken.last).to_have_text("Version 1 of 3 is shown.")
    assert [message["status"] for message in chat.stored()] == ["done", "done", "done", "stopped"]


def test_the_branch_on_show_is_the_same_after_a_reload_and_in_other_tabs(chat: ChatPage) -> None:
    chat.ask_and_wait("One way")
    chat.edit_and_wait(chat.questions.first, "Other way")
    other = chat.in_another_tab()
    expect(other.bubbles).to_have_text(["Other way"])
    with chat.page.expect_response(lambda response: response.request.method == "PATCH"):
        chat.walk(chat.questions.first, "Previous")
    expect(other.bubbles).to_have_text(["One way"])
    assert chat.stored_conversation()["active_leaf_id"] == chat.stored()[1]["id"]
    chat.page.reload()
    expect(chat.bubbles).to_have_text(["One way"])
    chat.expect_version(chat.questions.first, "1 / 2")


def test_the_next_question_follows_the_branch_on_show(chat: ChatPage) -> None:
    chat.ask_and_wait("Trunk")
    chat.edit_and_wait(chat.questions.first, "Branch")
    chat.page.route("**/api/conversations/*", lambda route: route.abort())  # the choice is not stored
    chat.walk(chat.questions.first, "Previous")
    expect(chat.alarm).to_contain_text("could not be saved")
    chat.page.unroute("**/api/conversations/*")
    chat.ask_and_wait("Leaf")
    stored = chat.stored()
    assert stored[-2]["content"] == "Leaf"
    assert stored[-2]["parent_id"] == stored[1]["id"]


def test_walking_back_shows_what_was_written_last_on_that_branch(chat: ChatPage) -> None:
    chat.ask_and_wait("Root")
    chat.ask_and_wait("Second")
    chat.answer.get_by_role("button", name="Regenerate").click()
    chat.expect_version(chat.answer, "2 / 2")
    chat.expect_status("done")
    chat.edit_and_wait(chat.questions.first, "Another root")
    chat.walk(chat.questions.first, "Previous")
    expect(chat.bubbles).to_have_text(["Root", "Second"])
    chat.expect_version(chat.answer, "2 / 2")


def test_while_an_answer_is_written_neither_editing_nor_walking_is_possible_and_it_says_why(
    chat: ChatPage, upstream: Upstream
) -> None:
    chat.ask_and_wait("Here")
    chat.edit_and_wait(chat.questions.first, "There")
    chat.ask_and_pause(upstream, "And on")
    for name in ("Edit question", "Previous version"):
        button = chat.questions.first.get_by_role("button", name=name)
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_have_attribute("title", re.compile("An answer is being written"))
        button.click(force=True)
        expect(chat.alarm).to_contain_text("An answer is being written")
        expect(chat.bubbles).to_have_text(["There", "And on"])
    expect(chat.editor).to_have_count(0)
    chat.resume_and_wait(upstream)
    expect(chat.questions.first.get_by_role("button", name="Edit question")).to_have_attribute(
        "aria-disabled", "false"
    )


def test_escape_and_cancel_leave_the_question_as_it_was(chat: ChatPage) -> None:
    chat.ask_and_wait("Leave me")
    for leave in ("Escape", "Cancel"):
        chat.start_editing(chat.questions.first)
        expect(chat.editor).to_have_value("Leave me")
        chat.editor.fill("Changed")
        if leave == "Escape":
            chat.editor.press("Escape")
        else:
            chat.page.get_by_role("button", name="Cancel").click()
        expect(chat.bubbles).to_have_text(["Leave me"])
        expect(chat.questions.first.get_by_role("button", name="Edit question")).to_be_focused()
    assert len(chat.stored()) == 2


def test_in_the_editor_shift_enter_breaks_the_line_and_an_input_method_keeps_its_enter(
    chat: ChatPage,
) -> None:
    chat.ask_and_wait("Lines")
    chat.start_editing(chat.questions.first)
    height = chat.editor.evaluate("box => box.clientHeight")
    chat.editor.press("Shift+Enter")
    chat.editor.press_sequentially("more")
    assert chat.editor.evaluate("box => box.clientHeight") > height
    chat.editor.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    expect(chat.editor).to_be_visible()
    chat.editor.fill("   ")
    chat.editor.press("Enter")
    expect(chat.page.get_by_text("The question is empty.")).to_be_visible()
    chat.editor.fill("one\ntwo")
    chat.page.get_by_role("button", name="Send", exact=True).first.click()
    expect(chat.bubbles).to_have_text(["one\ntwo"])
    chat.expect_status("done")


def test_an_edit_that_does_not_arrive_comes_back_with_the_reason(chat: ChatPage) -> None:
    chat.ask_and_wait("Original")
    bodies: list[Any] = []

    def refuse(route: Route) -> None:
        bodies.append(route.request.post_data_json)
        if len(bodies) == 1:
            route.abort()
        else:
            detail = {"type": "queue_full", "detail": "Too many answers are being written just now."}
            route.fulfill(status=429, json=detail, headers={"Retry-After": "5"})

    chat.page.route(MESSAGES, refuse)
    chat.edit(chat.questions.first, "Improved")
    reason = chat.page.locator("tech-chat .editor").get_by_role("alert")
    expect(reason).to_contain_text("cannot be reached")
    expect(chat.editor).to_have_value("Improved")
    expect(chat.answers).to_have_count(1)
    chat.editor.press("Enter")
    expect(reason).to_contain_text("Too many answers")
    expect(chat.editor).to_have_value("Improved")
    chat.page.unroute(MESSAGES)
    with chat.page.expect_request(MESSAGES) as sent:
        chat.editor.press("Enter")
    chat.expect_status("done")
    expect(chat.bubbles).to_have_text(["Improved"])
    # With the same id each time, a question that had arrived after all would not be asked twice.
    assert {body["client_id"] for body in bodies} == {sent.value.post_data_json["client_id"]}


def test_a_retry_that_is_refused_leaves_the_answer_as_it_was(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_wait("Keep the answer")
    shown = chat.text
    retry = "**/api/replies/*/retry"
    detail = {"type": "queue_full", "detail": "Too many answers are being written just now."}
    chat.page.route(retry, lambda route: route.fulfill(status=429, json=detail))
    chat.answer.get_by_role("button", name="Regenerate").click()
    expect(chat.alarm).to_contain_text("Too many answers")
    chat.expect_status("done")
    assert chat.text == shown


def test_an_answer_that_was_begun_elsewhere_and_is_in_the_way_is_shown(
    chat: ChatPage, upstream: Upstream
) -> None:
    chat.ask_and_wait("Here")
    upstream.pause()
    address = f"{chat.address}/api/conversations/{chat.conversation}/messages"
    chat.page.request.post(address, data={"text": "From a program"})
    chat.answer.get_by_role("button", name="Regenerate").click()
    expect(chat.bubbles).to_have_text(["Here", "From a program"])
    chat.expect_text(FIRST_WORDS)
    chat.resume_and_wait(upstream)
    assert len(chat.stored()) == 4


def test_the_version_on_show_is_saved_in_its_own_conversation(chat: ChatPage) -> None:
    leaves = []
    for text in ("First", "Second"):
        chat.new.click()
        chat.ask_and_wait(text)
        chat.edit_and_wait(chat.questions.first, f"{text}, edited")
        leaves.append(chat.stored()[1]["id"])
    held = chat.hold_back(ONE, is_save)
    chat.walk(chat.questions.first, "Previous")
    expect(chat.bubbles).to_have_text(["Second"])
    chat.listed.get_by_text("First").click()
    expect(chat.bubbles).to_have_text(["First, edited"])
    chat.walk(chat.questions.first, "Previous")
    expect(chat.bubbles).to_have_text(["First"])
    with chat.page.expect_request(is_save) as second:
        held[0].continue_()
    assert held[0].request.post_data_json == {"active_leaf_id": leaves[1]}
    assert second.value.url.endswith(chat.conversation)
    assert second.value.post_data_json == {"active_leaf_id": leaves[0]}


def test_what_was_read_before_the_reader_walked_does_not_lead_back(chat: ChatPage) -> None:
    chat.ask_and_wait("First")
    chat.edit_and_wait(chat.questions.first, "Second")
    held = chat.hold_back(ONE, lambda request: not is_save(request))
    with chat.page.expect_request(ONE):
        changed = {"conversation": chat.conversation}
        chat.page.evaluate("data => new BroadcastChannel('tech-assistant').postMessage(data)", changed)
    chat.questions.first.hover()
    before = held[0].fetch().json()
    chat.walk(chat.questions.first, "Previous")
    expect(chat.bubbles).to_have_text(["First"])
    before["messages"].append({**before["messages"][0], "id": "from-elsewhere"})
    held[0].fulfill(json=before)
    chat.expect_version(chat.questions.first, "1 / 3")
    expect(chat.bubbles).to_have_text(["First"])


def test_nothing_is_asked_in_a_conversation_that_failed_to_load(chat: ChatPage) -> None:
    chat.ask_and_wait("First")
    chat.page.route(ONE, lambda route: route.abort())
    chat.go(f"/?c={chat.conversation}")
    again = chat.page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    chat.ask("Second")
    expect(chat.alarm).to_contain_text("could not be loaded")
    expect(chat.composer).to_have_value("Second")
    with chat.page.expect_event("requestfailed"):
        again.click()
    expect(again).to_be_focused()
    chat.page.unroute(ONE)
    again.click()
    expect(chat.bubbles).to_have_text(["First"])
    expect(chat.composer).to_be_focused()
    expect(chat.alarm).to_be_hidden()
    chat.composer.press("Enter")
    expect(chat.bubbles).to_have_text(["First", "Second"])


@pytest.mark.parametrize("look", [{"viewport": {"width": 900, "height": 500}}])
def test_walking_keeps_the_arrows_where_they_are(chat: ChatPage) -> None:
    for text in ("Above", "Short", "Below"):
        chat.ask_and_wait(text)
    question = chat.questions.nth(1)
    chat.edit_and_wait(question, "\n".join(f"Line {number}" for number in range(12)))
    question.hover()
    arrow = question.get_by_role("button", name="Previous version")
    other = question.get_by_role("button", name="Next version")
    places = [arrow.bounding_box()]
    for button, words in ((arrow, "Short"), (other, "Line 11"), (arrow, "Short")):
        button.click()
        expect(question).to_contain_text(words)
        places.append(arrow.bounding_box())
    heights = [round(place["y"]) for place in places if place is not None]
    assert len(heights) == 4
    assert max(heights) - min(heights) < 2


def test_the_details_say_when_by_which_model_and_how_long(chat: ChatPage) -> None:
    chat.ask_and_wait("Tell me more")
    details = chat.answer.get_by_role("button", name="Details")
    expect(details).to_have_attribute("aria-expanded", "false")
    details.click()
    line = chat.answer.locator(".details")
    words = re.compile(r"\d{1,2}:\d\d.* · fake · 100 tokens in \d+\.\d s")
    expect(line).to_have_text(words)
    expect(line.locator("time")).to_have_attribute("title", re.compile(r"20\d\d"))
    details.click()
    expect(line).to_be_hidden()
    chat.page.reload()
    chat.expect_status("done")
    asked: list[str] = []
    chat.page.on("request", lambda it: asked.append(it.url) if "/api/" in it.url else None)
    details.click()
    expect(line).to_have_text(words)
    assert asked == []  # a stored answer comes with its details
    expect(chat.questions.first.locator("time")).to_have_text(re.compile(r"\d{1,2}:\d\d"))


def test_the_details_of_an_answer_that_was_opened_in_mid_course_are_whole(
    chat: ChatPage, upstream: Upstream
) -> None:
    chat.ask_and_pause(upstream, "Come in late")
    chat.page.reload()
    chat.expect_text(FIRST_WORDS)
    chat.resume_and_wait(upstream)
    chat.answer.get_by_role("button", name="Details").click()
    expect(chat.answer.locator(".details")).to_contain_text("fake · 100 tokens in")
