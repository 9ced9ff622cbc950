"""axe-core finds no violation in any state of the page, and a screen reader reads out what happens."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import BrowserContext, Route, expect

from tests.browser.chat_page import ChatPage
from tests.browser.conftest import PHONE
from tests.browser.pausable_upstream import Upstream
from tests.support.application import Application

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE,
    "dark phone": {**PHONE, "color_scheme": "dark"},
}
# Each colour scheme and each width once: no colour depends on the width.
TWO_LOOKS = {name: LOOKS[name] for name in ("light", "dark phone")}


def fail(route: Route) -> None:
    body = 'id: 0!\nevent: error\ndata: {"type": "engine_failed", "message": "The engine broke off."}\n\n'
    route.fulfill(content_type="text/event-stream", body=body)


class Inspection:
    """Runs axe-core with all its rules on the whole page, in each state that a test brings it to."""

    def __init__(self, chat: ChatPage) -> None:
        self.page = chat.page
        self.found: dict[str, list[str]] = {}

    def look(self, state: str) -> None:
        # Colours change for a moment after the pointer has come or gone.
        self.page.wait_for_function(
            "() => document.getAnimations().every((one) => !(one instanceof CSSTransition))"
        )
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        violations = self.page.evaluate(
            "async () => (await axe.run({ resultTypes: ['violations'] })).violations"
        )
        for violation in violations:
            where = [str(node["target"]) for node in violation["nodes"]]
            self.found.setdefault(state, []).append(f"{violation['id']}: {', '.join(where)}")


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_axe_finds_nothing(chat: ChatPage, upstream: Upstream, look: dict[str, Any]) -> None:
    inspection = Inspection(chat)
    expect(chat.account).to_contain_text("Answered by")
    inspection.look("empty")
    chat.ask_and_pause(upstream, "Question")
    inspection.look("answering")
    chat.resume_and_wait(upstream)
    inspection.look("ended")
    chat.answer.get_by_role("button", name="Regenerate").click()
    chat.expect_version(chat.answer, "2 / 2")
    chat.answer.get_by_role("button", name="Details").click()
    expect(chat.answer.locator(".details")).to_contain_text("tokens")
    inspection.look("versions and details")
    chat.start_editing(chat.questions.first)
    inspection.look("edited")
    chat.editor.press("Escape")
    chat.page.route("**/events", fail)
    chat.ask("Fails")
    chat.expect_status("failed")
    inspection.look("failed")
    if "viewport" in look:
        chat.page.get_by_role("button", name="Show conversations").tap()
        inspection.look("sheet")
    chat.options("Question").click()
    inspection.look("menu")
    chat.page.get_by_role("menuitem", name="Rename").click()
    inspection.look("renamed")
    chat.page.keyboard.press("Escape")
    chat.choose("Question", "Delete")
    expect(chat.toast).to_contain_text("Deleted")
    inspection.look("deleted")
    assert inspection.found == {}


@pytest.mark.parametrize("look", TWO_LOOKS.values(), ids=TWO_LOOKS)
def test_axe_finds_nothing_without_a_model(without_model: Application, context: BrowserContext) -> None:
    chat = ChatPage(context, without_model.address)
    expect(chat.notice).to_contain_text("No model is loaded.")
    inspection = Inspection(chat)
    inspection.look("without a model")
    chat.go("/?c=nobodys")
    expect(chat.page.get_by_text("This conversation cannot be found.")).to_be_visible()
    inspection.look("not here")
    assert inspection.found == {}


def test_a_screen_reader_reads_the_start_the_blocks_and_the_end_of_an_answer(
    chat: ChatPage, upstream: Upstream
) -> None:
    chat.ask_and_pause(upstream, "Read it to me")
    expect(chat.spoken).to_have_text(
        [
            "The question was sent.",
            "The answer begins.",
            "Use with, which closes the file, too.",
            "How it goes",
            "Code, python, 3 lines.",
            "Way, Closes. with, yes. open alone, no.",
        ]
    )
    expect(chat.answer).to_have_attribute("aria-busy", "true")
    chat.resume_and_wait(upstream)
    expect(chat.answer).to_have_attribute("aria-busy", "false")
    expect(chat.spoken.last).to_have_text("The answer is complete.")


def test_a_failure_is_an_alert_where_it_happened_and_only_then(chat: ChatPage) -> None:
    chat.page.route("**/events", fail)
    chat.ask("Fails")
    expect(chat.answer.get_by_role("alert")).to_have_text("The engine broke off.")
    expect(chat.spoken.last).to_have_text("The answer ended early.")


def test_headings_lead_through_the_conversation(chat: ChatPage) -> None:
    chat.ask_and_wait("Headings")
    for level, name in ((1, "Headings"), (2, "Question"), (2, "Answer")):
        expect(chat.page.get_by_role("heading", level=level, name=name, exact=True)).to_have_count(1)
    # The answer has it as a second level, but no first one above it.
    expect(chat.answer.locator(".text [aria-level='3']")).to_have_text("How it goes")


@pytest.mark.parametrize("look", [{"reduced_motion": "reduce"}])
def test_motion_stops_for_those_who_want_none(chat: ChatPage, upstream: Upstream) -> None:
    chat.ask_and_pause(upstream, "Stand still")
    assert chat.page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("look", [LOOKS["dark"]])
@pytest.mark.parametrize("address", ["/", "/?__theme=dark"])
def test_what_is_printed_is_dark_on_white_in_dark_mode_too(
    application: Application, context: BrowserContext, address: str
) -> None:
    chat = ChatPage(context, application.address, address)
    chat.ask_and_wait("On paper")
    chat.page.emulate_media(media="print")
    expect(chat.answer.locator(".text")).to_have_css("color", "rgb(29, 33, 39)")
    expect(chat.page.locator("html")).to_have_css("background-color", "rgb(255, 255, 255)")
