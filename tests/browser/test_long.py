"""Long conversations: the end is shown first, the rest on demand, and the reader's place stays."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Route, expect

from tests.browser.chat_page import QUESTIONS, ChatPage

PAIRS = 100
WINDOW = 50
OLDER = "**/api/conversations/long?before=*"
NOON = "2026-01-31T12:00:00.000000Z"


def message(number: int) -> dict[str, Any]:
    role = ("user", "assistant")[number % 2]
    return {
        "id": f"m{number}",
        "parent_id": f"m{number - 1}" if number else None,
        "role": role,
        "content": f"Question {number // 2}" if role == "user" else f"Answer {number // 2}.\n\n" * 5,
        "status": "done",
        "finish_reason": None if role == "user" else "eos_token",
        "error": None,
        "provenance": {},
        "created_at": NOON,
    }


MESSAGES = [message(number) for number in range(2 * PAIRS)]


def serve(chat: ChatPage, messages: list[dict[str, Any]], older: int | None = None) -> None:
    """Answer the request for the conversation in place of the application, and show it."""
    body = {
        "id": "long",
        "title": "Long one",
        "model": None,
        "active_leaf_id": messages[-1]["id"],
        "created_at": NOON,
        "updated_at": NOON,
        "messages": messages,
        "older": older,
    }
    chat.page.route("**/api/conversations/long", lambda route: route.fulfill(json=body))
    chat.go("/?c=long")


def answer_with(route: Route, messages: list[dict[str, Any]], size: int) -> None:
    """A page of older messages, as the application gives it."""
    before = int(route.request.url.rpartition("=")[2])
    first = max(0, before - size)
    route.fulfill(json={"messages": messages[first:before], "older": first or None})


def shown(chat: ChatPage) -> Locator:
    return chat.page.locator("tech-chat .message")


def test_the_end_is_shown_and_older_messages_come_on_demand(chat: ChatPage) -> None:
    serve(chat, MESSAGES)
    expect(shown(chat)).to_have_count(WINDOW)
    expect(chat.bubbles.first).to_have_text(f"Question {PAIRS - WINDOW // 2}")
    expect(chat.bubbles.last).to_have_text(f"Question {PAIRS - 1}")
    expect(chat.answer).to_be_in_viewport()
    earlier = chat.page.get_by_role("button", name="Show 50 earlier messages")
    for count in (2 * WINDOW, 3 * WINDOW, 4 * WINDOW):
        first = shown(chat).first
        identity = first.locator("h2").evaluate_handle("node => node.parentNode")
        chat.page.get_by_role("region", name="Conversation").evaluate("node => { node.scrollTop = 0; }")
        top = identity.evaluate("node => node.getBoundingClientRect().top")
        earlier.click()
        expect(shown(chat)).to_have_count(count)
        moved = identity.evaluate("node => node.getBoundingClientRect().top") - top
        assert abs(moved) < 100  # no more than the button's own height
    expect(chat.bubbles.first).to_have_text("Question 0")
    expect(earlier).to_be_hidden()


def test_the_focus_is_not_lost_with_the_button_for_older_messages(chat: ChatPage) -> None:
    serve(chat, MESSAGES[:60])
    expect(shown(chat)).to_have_count(WINDOW)
    earlier = chat.page.get_by_role("button", name="Show 10 earlier messages")
    earlier.focus()
    chat.page.keyboard.press("Enter")
    expect(shown(chat)).to_have_count(60)
    expect(shown(chat).first).to_be_focused()


def test_a_branch_that_is_longer_than_the_window_is_shown_to_its_end(chat: ChatPage) -> None:
    other = {**message(0), "id": "other", "content": "Other way"}
    serve(chat, [*MESSAGES, other, {**message(1), "id": "end", "parent_id": "other"}])
    expect(chat.bubbles).to_have_text(["Other way"])
    chat.page.route("**/api/conversations/long", lambda route: route.fulfill(json={}))
    chat.walk(chat.questions.first, "Previous")
    expect(shown(chat)).to_have_count(2 * PAIRS)
    expect(chat.bubbles.first).to_be_in_viewport()
    expect(chat.bubbles.last).to_have_text(f"Question {PAIRS - 1}")


def test_a_conversation_that_grows_hides_messages_far_above(chat: ChatPage) -> None:
    chat.hold_back(QUESTIONS)  # never answered
    serve(chat, MESSAGES)
    expect(shown(chat)).to_have_count(WINDOW)
    chat.page.get_by_role("button", name="Show 50 earlier messages").click()
    expect(shown(chat)).to_have_count(2 * WINDOW)
    chat.ask("One more")
    expect(chat.bubbles.last).to_have_text("One more")
    expect(shown(chat)).to_have_count(WINDOW)


def test_the_newest_page_is_shown_while_older_ones_are_read(chat: ChatPage) -> None:
    """And nothing moves when these come."""
    messages = MESSAGES[:150]
    # The last page has another version of a message of the first page.
    messages.insert(-2, {**message(11), "id": "other", "content": "Another answer."})
    held = chat.hold_back(OLDER)
    with chat.page.expect_request(OLDER):
        serve(chat, messages[-60:], older=len(messages) - 60)
    expect(shown(chat)).to_have_count(WINDOW)
    expect(chat.answer).to_be_in_viewport()
    earlier = chat.page.get_by_role("button", name=re.compile("earlier messages"))
    earlier.click()
    expect(shown(chat)).to_have_count(59)  # without the other version
    top = chat.bubbles.first.evaluate("node => node.getBoundingClientRect().top")
    chat.page.route(OLDER, lambda route: answer_with(route, messages, 60))
    answer_with(held.pop(), messages, 60)
    expect(earlier).to_have_text("Show 50 earlier messages")
    moved = chat.bubbles.first.evaluate("node => node.getBoundingClientRect().top") - top
    assert abs(moved) < 100
    for count in (109, 150):
        earlier.click()
        expect(shown(chat)).to_have_count(count)
    expect(earlier).to_be_hidden()
    expect(chat.bubbles.first).to_have_text("Question 0")
    chat.expect_version(shown(chat).nth(11), "1 / 2")
    chat.walk(shown(chat).nth(11), "Next")
    expect(shown(chat)).to_have_count(12)
    expect(shown(chat).last).to_contain_text("Another answer.")
