"""Many tabs of one browser, which has six connections for all of them."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Route, expect

from tests.browser.chat_page import ChatPage
from tests.browser.pausable_upstream import FIRST_WORDS, LAST_WORDS, Upstream
from tests.support.application import Application

TABS = 8


def test_eight_tabs_are_answered_at_once_and_a_ninth_still_opens(
    application: Application, context: BrowserContext, upstream: Upstream
) -> None:
    upstream.pause()
    chats = [ChatPage(context, application.address) for _ in range(TABS)]
    for number, chat in enumerate(chats):
        chat.ask(f"Question {number}")
    for chat in chats:
        chat.expect_text(FIRST_WORDS)
        chat.expect_status("streaming")
    ninth = ChatPage(context, application.address)
    expect(ninth.listed).to_have_count(TABS)
    upstream.resume()
    for number, chat in enumerate(chats):
        chat.expect_status("done")
        assert LAST_WORDS in chat.text
        expect(chat.bubbles).to_have_text([f"Question {number}"])
        assert chat.stored()[1]["status"] == "done"


def test_where_there_are_no_locks_the_answer_is_streamed_all_the_same(
    application: Application, context: BrowserContext
) -> None:
    context.add_init_script("Object.defineProperty(navigator, 'locks', { value: undefined })")
    chat = ChatPage(context, application.address)
    chat.ask_and_wait("Over plain http")
    assert LAST_WORDS in chat.text


def test_an_answer_that_waits_for_its_turn_says_how_many_come_first(chat: ChatPage) -> None:
    streams: list[Route] = []

    def wait(route: Route) -> None:
        streams.append(route)
        lines = [f'event: waiting\ndata: {{"before": {before}}}\n\n' for before in (3, 1)]
        if len(streams) == 1:  # and then the connection ends
            unknown = 'event: something new\ndata: {"for": "later"}\n\n'
            route.fulfill(content_type="text/event-stream", body="".join([unknown, *lines]))

    chat.page.route("**/api/replies/*/events", wait)
    chat.ask("Patience")
    note = chat.answer.locator(".note")
    expect(note).to_have_text("Waiting in the queue: 1 answer is ahead.")
    said = ["Waiting in the queue: 3 answers are ahead.", "Waiting in the queue: 1 answer is ahead."]
    expect(chat.spoken).to_have_text(["The question was sent.", *said])
    chat.expect_status("pending")
    chat.page.unroute("**/api/replies/*/events")
    for stream in streams[1:]:
        stream.continue_()
    chat.expect_status("done")
    expect(note).to_be_empty()
    assert LAST_WORDS in chat.text
