"""Sources, who answers, what is fetched, a licence and the switch, with an application that a test plays."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect

from tests.browser.chat_page import ChatPage
from tests.browser.conftest import visitor
from tests.browser.test_accessibility import LOOKS, Inspection
from tests.support.application import Application

READ = {"state": "ready", "passages": 9, "done": 9, "total": 9, "detail": None}
MODEL = {"state": "ready", "model": "Small", "detail": None, "answers": "model", "documentation": READ}
QUOTES = {**MODEL, "state": "none", "model": None, "answers": "documentation"}
DOWNLOAD = {
    "state": "running", "model": "Small", "repo": "some/Small-GGUF", "file": "small.gguf",
    "licence": "Apache-2.0", "bytes": 986_000_000, "received": 424_000_000, "may_change": True,
}  # fmt: skip
LICENCE = {"id": "openrail", "name": "OpenRAIL", "url": "https://example.org/licence", "accepted": False}
RMTREE = {
    "name": "shutil.rmtree", "title": "shutil.rmtree", "package": "Python", "version": "3.11.2",
    "licence": "PSF-2.0", "location": "shutil.py:722", "url": "https://docs.python.org/3/",
    "quote": "shutil.rmtree(path)\n\nRecursively delete a directory tree.",
}  # fmt: skip
EXAMPLE = {**RMTREE, "title": "Example of use", "location": "a.py:1", "url": "javascript:alert(1)"}
TEXT = "It deletes a tree [1], see [2] and [3].\n\n`x[1]` and argv[1] are code."


class Played(ChatPage):
    """The page with an engine and answers that a test sets."""

    def __init__(self, context: BrowserContext, address: str, engine: dict[str, Any]) -> None:
        self.engine = {"download": None, "licence": None, **engine}
        self.calls: list[str] = []
        context.route("**/api/engine", lambda route: route.fulfill(json=self.engine))
        context.route("**/api/engine/download", self._called)
        context.route("**/api/licences/*", self._called)
        context.route("**/events", self._answer)
        of = "documentation" if engine["answers"] == "documentation" else "Small"
        told = {"provenance": {"model": of, "revision": "Python 3.11.2", "seconds": 0.1}}
        context.route(re.compile(r"/api/replies/[^/]+$"), lambda route: route.fulfill(json=told))
        super().__init__(context, address)

    def _called(self, route: Route) -> None:
        self.calls.append(route.request.method)
        route.fulfill(status=204)

    def _answer(self, route: Route) -> None:
        events = [("sources", {"sources": [RMTREE, EXAMPLE]}), ("delta", {"text": TEXT})]
        events.append(("done", {"status": "done", "finish_reason": "eos_token"}))
        body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
        route.fulfill(content_type="text/event-stream", body=body)


def test_a_chip_opens_the_quoted_lines_and_closes_them(
    application: Application, context: BrowserContext
) -> None:
    chat = Played(context, application.address, MODEL)
    chat.ask_and_wait("Trees")
    chips = chat.answer.get_by_role("group", name="Sources").get_by_role("button")
    expect(chips).to_have_text(
        ["[1]shutil.rmtree· Python 3.11.2", "[2]Example: shutil.rmtree· Python 3.11.2"]
    )
    lines = chat.answer.get_by_text("Recursively delete a directory tree.").first
    expect(lines).to_be_hidden()
    chips.first.press("Enter")
    expect(chips.first).to_have_attribute("aria-expanded", "true")
    expect(lines).to_be_visible()
    expect(chat.answer.locator(".facts").first).to_have_text(
        "Python 3.11.2 · shutil.py:722 · PSF-2.0 · docs.python.org"
    )
    expect(chat.answer.locator(".source a")).to_have_count(1)  # what leads elsewhere than to the web is none
    chips.first.press("Enter")
    expect(lines).to_be_hidden()


def test_a_number_in_the_text_leads_to_its_source_but_not_in_code(
    application: Application, context: BrowserContext
) -> None:
    chat = Played(context, application.address, MODEL)
    chat.ask_and_wait("Trees")
    links = chat.answer.locator("a.cite")
    expect(links).to_have_text(["[1]", "[2]"])
    address = chat.page.url
    links.last.click()
    expect(chat.answer.locator(".chips button").last).to_be_focused()
    expect(chat.answer.locator(".source").last).to_be_visible()
    assert chat.page.url == address


def test_print_shows_every_source(application: Application, context: BrowserContext) -> None:
    chat = Played(context, application.address, MODEL)
    chat.ask_and_wait("Trees")
    chat.page.emulate_media(media="print")
    expect(chat.answer.locator(".source")).to_have_count(2)
    for source in chat.answer.locator(".source").all():
        expect(source).to_be_visible()


def test_an_answer_of_the_documentation_is_labelled(
    application: Application, context: BrowserContext
) -> None:
    chat = Played(context, application.address, QUOTES)
    expect(chat.page.locator("tech-chat .engine")).to_contain_text("no language model is loaded.")
    expect(chat.page.locator("tech-grounding")).to_be_hidden()
    chat.page.get_by_role("button", name="Remove a folder").click()
    chat.expect_status("done")
    expect(chat.answer.locator(".origin")).to_have_text("From the documentation")
    expect(chat.answer.locator(".origin")).to_be_visible()


def test_a_download_is_told_declined_and_followed_by_the_model(
    application: Application, context: BrowserContext
) -> None:
    chat = Played(context, application.address, {**QUOTES, "state": "fetching", "download": DOWNLOAD})
    told = chat.page.locator("tech-chat .download")
    expect(told).to_contain_text("Fetching Small (986 MB, Apache-2.0) from Hugging Face: 43 %")
    expect(told.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "43")
    told.get_by_role("button", name="Don’t fetch").click()
    chat.engine["download"] = {**DOWNLOAD, "state": "declined"}
    expect(told.get_by_role("button", name="Fetch it (986 MB)")).to_be_visible()
    assert chat.calls == ["DELETE"]
    chat.engine |= {**MODEL, "download": None}
    expect(chat.page.locator("tech-chat .engine")).to_contain_text("Answered by Small")
    expect(chat.spoken.last).to_have_text("Answered by Small.")


def test_a_licence_is_accepted_and_the_question_goes_on(
    application: Application, context: BrowserContext
) -> None:
    chat = Played(context, application.address, {**MODEL, "licence": LICENCE})
    expect(chat.page.locator("tech-chat .engine")).to_contain_text("Answered by Small")
    chat.ask("Under which licence?")
    expect(chat.composer).to_have_value("Under which licence?")
    notice = chat.page.locator("tech-chat .consent")
    expect(notice).to_contain_text("Small comes under the OpenRAIL licence, which forbids some uses.")
    expect(notice).to_be_focused()
    chat.engine["licence"] = {**LICENCE, "accepted": True}
    notice.get_by_role("button", name="Accept and ask").click()
    chat.expect_status("done")
    expect(chat.bubbles).to_have_text("Under which licence?")
    expect(notice).to_be_hidden()
    assert chat.calls == ["PUT"]


def test_the_switch_holds_for_its_conversation(application: Application, context: BrowserContext) -> None:
    chat = Played(context, application.address, MODEL)
    switch = chat.page.get_by_role("button", name="Documentation")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    chat.ask_and_wait("Without")
    path = f"{chat.address}/api/conversations/{chat.conversation}"
    assert chat.page.request.get(path).json()["grounding"] is False
    with chat.page.expect_response(path):
        switch.click()
    assert chat.page.request.get(path).json()["grounding"] is True


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("state", ["offered", "running", "declined", "failed"])
def test_axe_finds_nothing_while_a_model_is_fetched(
    application: Application, browser: Browser, look: str, state: str
) -> None:
    with visitor(browser, **LOOKS[look]) as context:
        chat = Played(context, application.address, {**QUOTES, "download": {**DOWNLOAD, "state": state}})
        expect(chat.page.locator("tech-chat .download")).to_be_visible()
        inspection = Inspection(chat)
        inspection.look("introduced")
        chat.ask_and_wait("Trees")
        chat.answer.locator(".chips button").first.click()
        inspection.look("quoted")
        assert inspection.found == {}


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_at_a_licence(application: Application, browser: Browser, look: str) -> None:
    with visitor(browser, **LOOKS[look]) as context:
        chat = Played(context, application.address, {**MODEL, "licence": LICENCE})
        expect(chat.page.locator("tech-chat .engine")).to_contain_text("Answered by Small")
        chat.ask("Under which licence?")
        expect(chat.page.locator("tech-chat .consent")).to_be_visible()
        inspection = Inspection(chat)
        inspection.look("licence")
        assert inspection.found == {}
