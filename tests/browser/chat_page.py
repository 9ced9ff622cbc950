"""The browser chat, as a person uses it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect

expect.set_options(timeout=30_000)

QUESTIONS = re.compile(r"/api/(conversations/[^/]+/)?messages$")  # the addresses that take a question


class ChatPage:
    def __init__(self, context: BrowserContext, address: str, path: str = "/") -> None:
        self.address = address
        self.page: Page = context.new_page()
        self.go(path)

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)
        expect(self.composer).to_be_visible()
        expect(self.send).to_be_visible()

    @property
    def composer(self) -> Locator:
        return self.page.get_by_role("textbox", name="Your question")

    @property
    def send(self) -> Locator:
        return self.page.locator("tech-send button")

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article", name="Answer")

    @property
    def answer(self) -> Locator:
        return self.answers.last

    @property
    def questions(self) -> Locator:
        return self.page.get_by_role("article", name="Question")

    @property
    def bubbles(self) -> Locator:
        """The texts of the questions, as they are shown."""
        return self.page.locator("tech-chat .bubble")

    @property
    def editor(self) -> Locator:
        return self.page.get_by_role("textbox", name="Edit the question")

    @property
    def spoken(self) -> Locator:
        """The paragraphs that a screen reader reads out."""
        return self.page.get_by_role("log").locator("p")

    @property
    def text(self) -> str:
        """The text of the last answer, as it is shown."""
        return self.answer.locator(".text").inner_text()

    @property
    def notice(self) -> Locator:
        return self.page.locator("tech-chat .notice")

    @property
    def alarm(self) -> Locator:
        return self.page.locator("tech-chat .alarm")

    @property
    def listed(self) -> Locator:
        return self.page.get_by_role("navigation", name="Conversations").get_by_role("link")

    @property
    def toast(self) -> Locator:
        return self.page.locator("tech-conversations .toast")

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

    def ask(self, text: str) -> None:
        self.composer.fill(text)
        self.composer.press("Enter")

    def ask_and_wait(self, text: str) -> None:
        """Ask, and wait for the whole answer."""
        count = self.answers.count()
        self.ask(text)
        expect(self.answers).to_have_count(count + 1)
        self.expect_status("done")

    def edit(self, question: Locator, text: str) -> None:
        self.start_editing(question)
        self.editor.fill(text)
        self.editor.press("Enter")

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
        found = self.page.request.get(f"{self.address}/api/conversations/{self.conversation}")
        messages: list[dict[str, Any]] = found.json()["messages"]
        return messages
