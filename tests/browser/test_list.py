"""The list of conversations: renamed, deleted and brought back, by pointer and by keyboard."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests.browser.chat_page import ChatPage
from tests.browser.pausable_upstream import Upstream
from tests.support.application import Application

LIST = "**/api/conversations?*"


REPAINT = "new BroadcastChannel('tech-assistant').postMessage({ conversation: null })"


@pytest.fixture
def chat(application: Application, context: BrowserContext) -> ChatPage:
    chat = ChatPage(context, application.address)
    chat.ask_and_wait("About files")
    expect(chat.listed).to_have_text(["About files"])
    return chat


def retitle(chat: ChatPage, title: str, typed: str, key: str | None = "Enter") -> None:
    """Choose to rename a conversation, type, and press the key."""
    chat.choose(title, "Rename")
    box = chat.page.get_by_role("textbox", name=f"New title for “{title}”")
    expect(box).to_be_focused()
    expect(box).to_have_value(title)
    chat.page.keyboard.type(typed)
    if key:
        chat.page.keyboard.press(key)


def test_enter_renames_and_other_tabs_follow(chat: ChatPage) -> None:
    other = chat.in_another_tab()
    retitle(chat, "About files", "Reading <files>")
    expect(chat.listed).to_have_text(["Reading <files>"])
    expect(chat.listed).to_be_focused()
    for one in (chat, other):
        expect(one.listed).to_have_text(["Reading <files>"])
        expect(one.page).to_have_title("Reading <files> · Tech Assistant")
    chat.page.reload()
    expect(chat.listed).to_have_text(["Reading <files>"])


def test_a_new_title_outlives_a_reading_of_the_list_that_began_before_it(chat: ChatPage) -> None:
    held = chat.hold_back(LIST)
    with chat.page.expect_request(LIST):
        chat.page.evaluate(REPAINT)
    retitle(chat, "About files", "New title", key=None)
    before = held[0].fetch()
    with chat.page.expect_response(lambda response: response.request.method == "PATCH"):
        chat.page.keyboard.press("Enter")
    with chat.page.expect_request(LIST):
        held[0].fulfill(response=before)
    expect(chat.listed).to_have_text(["About files"])
    held[1].continue_()
    expect(chat.listed).to_have_text(["New title"])


def test_leaving_the_title_saves_it_and_escape_does_not(chat: ChatPage) -> None:
    retitle(chat, "About files", "Not this", key="Escape")
    expect(chat.listed).to_have_text(["About files"])
    retitle(chat, "About files", "But this", key=None)
    chat.composer.click()
    expect(chat.listed).to_have_text(["But this"])
    expect(chat.composer).to_be_focused()
    retitle(chat, "But this", "", key="Delete")
    chat.page.keyboard.press("Enter")
    expect(chat.listed).to_have_text(["But this"])  # a title has a letter at least


def test_a_title_that_is_not_taken_comes_back_with_the_reason(chat: ChatPage) -> None:
    chat.page.route("**/api/conversations/*", lambda route: route.abort())
    retitle(chat, "About files", "Never stored")
    expect(chat.toast).to_contain_text("“About files” could not be renamed.")
    expect(chat.listed).to_have_text(["About files"])


def test_the_list_stays_as_it_is_while_a_title_is_edited(chat: ChatPage, context: BrowserContext) -> None:
    retitle(chat, "About files", "Half a ti", key=None)
    other = ChatPage(context, chat.address)
    with chat.page.expect_response(lambda response: "/api/conversations?" in response.url):
        other.ask_and_wait("Another one")
    chat.page.keyboard.type("tle")
    chat.page.keyboard.press("Enter")
    expect(chat.listed).to_have_text(["Another one", "Half a title"])


def test_a_deleted_conversation_can_be_brought_back(chat: ChatPage) -> None:
    address = chat.page.url
    other = chat.in_another_tab()
    chat.choose("About files", "Delete")
    expect(chat.toast).to_contain_text("Deleted “About files”.")
    expect(chat.page.get_by_role("heading", name="Tech Assistant")).to_be_visible()
    assert "?c=" not in chat.page.url
    for one in (chat, other):
        expect(one.listed).to_have_count(0)
    expect(other.page.get_by_text("This conversation cannot be found.")).to_be_visible()
    chat.toast.get_by_role("button", name="Undo").click()
    expect(chat.listed).to_have_text(["About files"])
    expect(chat.bubbles).to_have_text(["About files"])
    assert chat.page.url == address
    expect(chat.listed).to_be_focused()
    expect(other.bubbles).to_have_text(["About files"])
    expect(other.listed).to_have_text(["About files"])


def test_all_of_it_works_with_the_keyboard(chat: ChatPage) -> None:
    chat.new.focus()
    chat.page.keyboard.press("Tab")
    expect(chat.listed).to_be_focused()
    chat.page.keyboard.press("Tab")
    options = chat.options("About files")
    expect(options).to_be_focused()
    expect(options).to_have_css("opacity", "1")
    chat.page.keyboard.press("Enter")
    items = chat.page.get_by_role("menu").get_by_role("menuitem")
    expect(items).to_have_text(["Rename", "Delete"])
    expect(options).to_have_attribute("aria-expanded", "true")
    for key, index in (("ArrowDown", 1), ("ArrowDown", 0), ("ArrowUp", 1), ("Home", 0), ("End", 1)):
        chat.page.keyboard.press(key)
        expect(items.nth(index)).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(items).to_have_count(0)
    expect(options).to_be_focused()
    for key in ("Enter", "End", "Enter"):
        chat.page.keyboard.press(key)
    expect(chat.toast.get_by_role("button", name="Undo")).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.listed).to_be_focused()
    expect(chat.bubbles).to_have_text(["About files"])
    for key in ("Tab", "Enter", "End", "Enter"):
        chat.page.keyboard.press(key)
    expect(chat.toast.get_by_role("button", name="Undo")).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(chat.toast).to_be_hidden()
    expect(chat.new).to_be_focused()


def test_older_conversations_come_on_demand_and_stay(
    application: Application, context: BrowserContext
) -> None:
    times = [f"2026-01-01T00:{59 - number // 4:02}:00Z" for number in range(120)]
    stored = [{"id": f"c{n}", "title": f"Title {n}", "updated_at": time} for n, time in enumerate(times)]

    def page_of(route: Route) -> None:
        start = int((parse_qs(urlsplit(route.request.url).query).get("cursor") or ["0"])[0])
        following = str(start + 50) if start + 50 < len(stored) else None
        route.fulfill(json={"conversations": stored[start : start + 50], "next": following})

    def delete(route: Route) -> None:
        stored[:] = [one for one in stored if one["id"] != route.request.url.rpartition("/")[2]]
        route.fulfill(status=204)

    context.route(LIST, page_of)
    context.route("**/api/conversations/c*", delete)
    chat = ChatPage(context, application.address)
    more = chat.page.get_by_role("button", name="Show more")
    for count in (50, 100, 120):
        expect(chat.listed).to_have_count(count)
        if count < 120:
            more.click()
    expect(more).to_have_count(0)
    for number, left in ((10, 119), (110, 118)):
        with chat.page.expect_response(lambda response: "/api/conversations?" in response.url):
            chat.choose(f"Title {number}", "Delete")
        expect(chat.listed).to_have_count(left)
        expect(chat.listed.get_by_text(f"Title {number}", exact=True)).to_have_count(0)


def test_the_focus_stays_where_it_is_when_the_list_grows(
    application: Application, context: BrowserContext
) -> None:
    for number in range(53):
        context.request.post(f"{application.address}/api/conversations", data={"title": f"Title {number}"})
    chat = ChatPage(context, application.address)
    more = chat.page.get_by_role("button", name="Show more")
    more.focus()
    more.evaluate("button => button.dataset.before = true")
    chat.page.evaluate(REPAINT)
    expect(chat.page.locator("[data-before]")).to_have_count(0)  # the list was painted again
    expect(more).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.listed).to_have_count(53)
    expect(chat.listed.nth(50)).to_be_focused()


def test_a_press_elsewhere_closes_the_menu(chat: ChatPage) -> None:
    chat.options("About files").click()
    menu = chat.page.get_by_role("menu")
    expect(menu).to_be_visible()
    chat.page.get_by_role("region", name="Conversation").click()
    expect(menu).to_be_hidden()


def test_the_button_of_an_open_menu_is_seen_wherever_the_pointer_is(chat: ChatPage) -> None:
    options = chat.options("About files")
    options.click()
    chat.page.get_by_role("menuitem", name="Rename").hover()
    expect(options).to_have_css("opacity", "1")
    chat.page.keyboard.press("Escape")
    chat.composer.focus()
    expect(options).to_have_css("opacity", "0")


def test_another_conversation_deleted_in_mid_answer_leaves_the_answer_alone(
    chat: ChatPage, upstream: Upstream
) -> None:
    chat.new.click()
    chat.ask_and_pause(upstream, "Being answered")
    chat.choose("About files", "Delete")
    expect(chat.listed).to_have_text(["Being answered"])
    expect(chat.listed).to_be_focused()
    chat.resume_and_wait(upstream)


def test_a_deletion_that_fails_says_why_and_changes_nothing(chat: ChatPage) -> None:
    chat.page.route("**/api/conversations/*", lambda route: route.abort())
    chat.choose("About files", "Delete")
    expect(chat.toast).to_contain_text("“About files” could not be deleted.")
    expect(chat.listed).to_have_text(["About files"])
    expect(chat.bubbles).to_have_text(["About files"])


def test_an_undo_that_comes_too_late_says_so(chat: ChatPage) -> None:
    chat.page.route("**/restore", lambda route: route.fulfill(status=404, json={"detail": "It is gone."}))
    chat.choose("About files", "Delete")
    chat.toast.get_by_role("button", name="Undo").click()
    expect(chat.toast).to_contain_text("It has been deleted for good")
    expect(chat.listed).to_have_count(0)


def test_the_toast_goes_after_ten_seconds_but_not_under_the_pointer(chat: ChatPage) -> None:
    chat.page.clock.install()
    chat.choose("About files", "Delete")
    chat.toast.hover()
    chat.page.clock.run_for(30_000)
    expect(chat.toast).to_be_visible()
    chat.composer.hover()
    chat.page.clock.run_for(2_000)
    expect(chat.toast).to_be_hidden()


def test_an_answer_that_a_deletion_ended_says_so_after_the_undo(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_pause(upstream, "And then?")
    chat.choose("About files", "Delete")
    chat.toast.get_by_role("button", name="Undo").click()
    chat.expect_status("stopped")
    expect(chat.answer.locator(".note p")).to_have_text(
        "This answer ended when its conversation was deleted."
    )
