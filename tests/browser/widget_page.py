"""The widget in a page of another site, as a reader uses it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import BrowserContext, Frame, Page, expect

from tests.browser.pausable_upstream import FIRST_WORDS, Upstream
from tests.support.application import wait_for

FRAME = "/widget/"
CORNER = 46  # px from the corner of the window to the middle of the button


class WidgetPage:
    def __init__(self, context: BrowserContext, address: str | None = None) -> None:
        self.page: Page = context.new_page()
        if address is not None:
            self.go(address)

    def go(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_function("() => window.TechAssistant?.open")

    @property
    def has_frame(self) -> bool:
        return any(FRAME in frame.url for frame in self.page.frames)

    @property
    def frame(self) -> Frame:
        """The frame with the chat. Its element stands in a closed shadow root, where no locator leads."""

        def find() -> Frame | None:
            self.page.evaluate("0")  # lets the events of the browser come
            return next((frame for frame in self.page.frames if FRAME in frame.url), None)

        found = wait_for(find)
        assert isinstance(found, Frame)
        return found

    def press(self, *, side: str = "right") -> None:
        """Press the button in the corner, where the reader sees it."""
        width, height = self.page.evaluate("[document.documentElement.clientWidth, innerHeight]")
        self.page.mouse.click(width - CORNER if side == "right" else CORNER, height - CORNER)

    def open(self) -> None:
        self.press()
        expect(self.composer).to_be_focused()

    @property
    def is_open(self) -> bool:
        return bool(self.page.evaluate("() => Boolean(document.querySelector('#tech-assistant'))")) and bool(
            self.frame.evaluate("() => innerWidth > 0 && innerHeight > 0")
        )

    @property
    def composer(self) -> Any:
        return self.frame.get_by_role("textbox", name="Your question")

    @property
    def questions(self) -> Any:
        return self.frame.get_by_role("article", name="Question")

    @property
    def answers(self) -> Any:
        return self.frame.get_by_role("article", name="Answer")

    @property
    def answer(self) -> Any:
        return self.answers.last

    @property
    def text(self) -> str:
        return str(self.answer.locator(".text").inner_text())

    @property
    def alarm(self) -> Any:
        return self.frame.locator("tech-chat .alarm")

    def ask(self, text: str) -> None:
        self.composer.fill(text)
        self.composer.press("Control+Enter")

    def ask_and_pause(self, upstream: Upstream, text: str) -> None:
        upstream.pause()
        self.ask(text)
        self.expect_text(FIRST_WORDS)

    def expect_text(self, text: str) -> None:
        expect(self.answer.locator(".text")).to_contain_text(text)

    def expect_status(self, status: str) -> None:
        expect(self.answer).to_have_attribute("data-status", status)

    def button(self, name: str) -> Any:
        return self.frame.get_by_role("button", name=name)
