"""The browser chat, as a person uses it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, Request, Route, expect

from tests.browser.pausable_upstream import FIRST_WORDS, Upstream

expect.set_options(timeout=30_000)

QUESTIONS = re.compile(r"/api/(conversations/[^/]+/)?messages$")  # the addresses that take a question


class ChatPage:
    def __init__(self, context: BrowserContext, address: str, path: str = "/") -> None:
        self.address = address
        self.page: Page = context.new_page()
        chat, by_role = self.page.locator("tech-chat"), self.page.get_by_role
        self.composer = by_role("textbox", name="Your question")
        self.send = self.page.locator("tech-send button")
        self.questions = by_role("article", name="Question")
        self.bubbles = chat.locator(".bubble")  # the texts of the questions, as they are shown
        self.editor = by_role("textbox", name="Edit the question")
        self.answers = by_role("article", name="Answer")
        self.answer = self.answers.last
        self.chips = self.answer.get_by_role("group", name="Sources").get_by_role("button")
        self.spoken = by_role("log").locator("p")  # the paragraphs that a screen reader reads out
        self.notice = chat.locator(".notice")
        self.alarm = chat.locator(".alarm")
        self.account = chat.locator(".engine")  # names the model, with the state of the engine below
        navigation = by_role("navigation", name="Conversations")
        self.new = navigation.get_by_role("button", name="New chat")
        self.listed = navigation.get_by_role("link")
        self.toast = self.page.locator("tech-conversations .toast")
        self.go(path)

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)
        expect(self.composer).to_be_visible()
        expect(self.send).to_be_visible()

    @property
    def text(self) -> str:
        """The text of the last answer, as it is shown."""
        return self.answer.locator(".text").inner_text()

    @property
    def clipboard(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def options(self, title: str) -> Locator:
        """The button that opens a conversation's menu."""
        return self.page.get_by_role("button", name=f"Options for “{title}”")

    def choose(self, title: str, action: str) -> None:
        """Choose an action from a conversation's menu."""
        self.options(title).click()
        self.page.get_by_role("menuitem", name=action).click()

    @property
    def conversation(self) -> str:
        """The conversation's id in the address of the page; waits for it."""
        self.page.wait_for_url("**/?c=*")
        return self.page.url.partition("?c=")[2]

    def in_another_tab(self, *, instead: bool = False) -> ChatPage:
        """The conversation in another tab; `instead` closes this one first."""
        path = f"/?c={self.conversation}"
        if instead:
            self.page.close()
        return ChatPage(self.page.context, self.address, path)

    def hold_back(
        self, address: str | re.Pattern[str], only: Callable[[Request], bool] = lambda request: True
    ) -> list[Route]:
        """Hold the page's requests to these addresses, and collect them."""
        held: list[Route] = []
        self.page.route(address, lambda it: held.append(it) if only(it.request) else it.continue_())
        return held

    def ask(self, text: str) -> None:
        self.composer.fill(text)
        self.composer.press("Control+Enter")  # Enter alone breaks the line on a phone

    def ask_and_pause(self, upstream: Upstream, text: str) -> None:
        """Ask, and wait for the first half of the answer, after which the upstream pauses."""
        upstream.pause()
        self.ask(text)
        self.expect_text(FIRST_WORDS)

    def resume_and_wait(self, upstream: Upstream) -> None:
        upstream.resume()
        self.expect_status("done")

    def ask_and_wait(self, text: str) -> None:
        """Ask, and wait for the whole answer."""
        count = self.answers.count()
        self.ask(text)
        expect(self.answers).to_have_count(count + 1)
        self.expect_status("done")

    def edit(self, question: Locator, text: str) -> None:
        self.start_editing(question)
        self.editor.fill(text)
        self.editor.press("Control+Enter")

    def edit_and_wait(self, question: Locator, text: str) -> None:
        self.edit(question, text)
        self.expect_status("done")

    def start_editing(self, question: Locator) -> None:
        question.hover()
        question.get_by_role("button", name="Edit question").click()
        expect(self.editor).to_be_focused()

    def expect_version(self, message: Locator, words: str) -> None:
        """Expect a label such as "2 / 3" at a question or an answer."""
        expect(message.locator(".versions")).to_have_text(words)

    def walk(self, message: Locator, name: str) -> None:
        """Go to the "Previous" or the "Next" version of a question or an answer."""
        message.hover()
        message.get_by_role("button", name=f"{name} version").click()

    def expect_status(self, status: str) -> None:
        expect(self.answer).to_have_attribute("data-status", status)

    def expect_text(self, text: str) -> None:
        expect(self.answer.locator(".text")).to_contain_text(text)

    def stored(self) -> list[dict[str, Any]]:
        """The messages of the conversation, from the API."""
        return list(self.stored_conversation()["messages"])

    def stored_conversation(self) -> dict[str, Any]:
        found = self.page.request.get(f"{self.address}/api/conversations/{self.conversation}")
        return dict(found.json())
