"""The page follows an answer that is being written, and any upward move of the reader ends that at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.chat_page import ChatPage
from tests.browser.conftest import PHONE
from tests.browser.pausable_upstream import FIRST_WORDS, Upstream

# Lets the answer grow by a line as often as a test wants, in the frame in which the reader moves.
GROW = """(lines = 1) => new Promise((then) => {
    const { answer } = document.querySelector("tech-chat").transcript;
    answer.take({ name: "delta", data: { text: `${"And so it goes on. ".repeat(12)}\\n\\n`.repeat(lines) } });
    requestAnimationFrame(() => requestAnimationFrame(then));
})"""
PLACE = "() => { const it = document.querySelector('tech-chat .scroller'); return it.scrollTop; }"
LEFT = """() => { const it = document.querySelector("tech-chat .scroller");
    return it.scrollHeight - it.scrollTop - it.clientHeight; }"""
SELECT = """() => {
    const text = document.querySelector("tech-chat .answer .text p:nth-last-of-type(3)").firstChild;
    document.getSelection().setBaseAndExtent(text, 2, text, 30);
}"""


class Reader:
    """Reads a long answer that is still being written, and that the page follows."""

    def __init__(self, chat: ChatPage, upstream: Upstream) -> None:
        self.chat, self.page = chat, chat.page
        self.scroller = chat.page.get_by_role("region", name="Conversation")
        self.to_end = chat.page.get_by_role("button", name="Go to the end")
        chat.ask_and_pause(upstream, "Long one")
        self.grow(40)
        assert self.follows()

    @property
    def place(self) -> float:
        return float(self.page.evaluate(PLACE))

    def grow(self, lines: int = 1) -> None:
        self.page.evaluate(GROW, lines)

    def follows(self) -> bool:
        """Whether the page stays exactly at the end while the text grows."""
        before = self.place
        self.grow(3)
        return self.place > before and float(self.page.evaluate(LEFT)) < 1.5

    def moves(self, move: Callable[[], object]) -> None:
        """Make a move, and wait until the page has scrolled up."""
        before = self.place
        move()
        self.page.wait_for_function(f"(before) => ({PLACE})() < before", arg=before)

    def is_left_alone(self) -> bool:
        """Whether the page does not go down while the text grows; a fling may still go up."""
        before = self.place
        for _ in range(3):
            self.grow()
        return self.place <= before

    def wheel(self, step: float) -> None:
        self.scroller.hover()
        self.page.mouse.wheel(0, step)

    def go_to_end(self) -> None:
        self.page.evaluate("() => document.querySelector('tech-chat').transcript.goToEnd()")


@pytest.fixture
def reader(chat: ChatPage, upstream: Upstream) -> Reader:
    return Reader(chat, upstream)


def test_a_trackpad_that_moves_up_by_4_px_ends_following_each_time(reader: Reader) -> None:
    for width in (320, 390, 768, 1180, 1600):
        reader.page.set_viewport_size({"width": width, "height": 600})
        for _ in range(4):
            reader.go_to_end()
            reader.grow()
            reader.moves(lambda: reader.wheel(-4))
            assert reader.is_left_alone()


def test_a_key_that_leads_up_ends_following_each_time(reader: Reader) -> None:
    for key in 3 * ("ArrowUp", "PageUp", "Home", "Shift+Space"):
        reader.go_to_end()
        reader.scroller.focus()
        reader.page.keyboard.press(key)
        top = reader.place
        for _ in range(3):
            reader.grow()
        assert reader.place <= top
        assert reader.to_end.is_visible()


def drag(page: Page, by: float) -> None:
    """Drag a finger down the middle of the transcript by some pixels."""
    box = page.get_by_role("region", name="Conversation").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    devtools = page.context.new_cdp_session(page)

    def send(kind: str, *points: float) -> None:
        touches = [{"x": x, "y": point} for point in points]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    send("touchStart", y)
    for part in range(1, 9):
        send("touchMove", y + by * part / 8)
        page.evaluate(GROW)
    send("touchEnd")


@pytest.mark.parametrize(
    "look", [PHONE, {**PHONE, "viewport": {"width": 320, "height": 600}}], ids=["390", "320"]
)
def test_a_finger_that_drags_the_text_down_ends_following(reader: Reader) -> None:
    for by in (240, 60, 30):
        reader.go_to_end()
        reader.moves(lambda by=by: drag(reader.page, by))  # type: ignore[misc]
        assert reader.is_left_alone()
    drag(reader.page, -400)
    reader.go_to_end()
    drag(reader.page, -200)  # further down is no way up
    assert reader.follows()


def select_by_script(reader: Reader) -> None:
    reader.page.evaluate(SELECT)


def select_by_mouse(reader: Reader) -> None:
    """Drag down to the end of the text, while it grows."""
    box = reader.scroller.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"]
    reader.page.mouse.move(x, y - 280)
    reader.page.mouse.down()
    for part in range(1, 6):
        reader.page.mouse.move(x + 20 * part, y - 280 + 30 * part)
        reader.grow()


def select_all(reader: Reader) -> None:
    reader.scroller.focus()
    reader.page.keyboard.press("Control+A")


def test_a_selection_ends_following_and_is_kept(reader: Reader) -> None:
    selection = "() => document.getSelection().toString().slice(0, 20)"
    for select in 2 * (select_by_script, select_by_mouse, select_all):
        reader.page.evaluate("() => document.getSelection().empty()")
        reader.go_to_end()
        select(reader)
        selected = reader.page.evaluate(selection)
        assert selected
        reader.page.wait_for_function("() => !document.querySelector('tech-chat').transcript.isAtEnd")
        assert reader.is_left_alone()
        assert reader.page.evaluate(selection) == selected
        reader.page.mouse.up()


def test_only_a_move_down_to_the_end_the_button_and_sending_resume_it(reader: Reader) -> None:
    reader.moves(lambda: reader.wheel(-40))
    before = reader.place
    reader.wheel(10)  # down, but not to the end
    reader.page.wait_for_function(f"(before) => ({PLACE})() > before", arg=before)
    assert reader.is_left_alone()
    for _ in range(5):
        reader.wheel(400)
        reader.grow()
    assert reader.follows()
    select_by_script(reader)
    assert reader.is_left_alone()
    reader.to_end.click()
    select_by_script(reader)
    reader.wheel(4)  # down, although this is the end already
    reader.page.wait_for_function("() => document.querySelector('tech-chat').transcript.isAtEnd")
    assert reader.follows()
    reader.moves(lambda: reader.wheel(-300))
    reader.to_end.click()
    assert reader.follows()
    reader.moves(lambda: reader.wheel(-300))
    reader.chat.composer.press("Escape")
    reader.chat.expect_status("stopped")
    reader.chat.ask("Next")
    reader.chat.expect_text(FIRST_WORDS)
    reader.grow(40)
    assert reader.follows()


def test_what_the_reader_did_not_do_neither_ends_following_nor_resumes_it(reader: Reader) -> None:
    sizes = [(320, 500), (900, 420), (1180, 900), (390, 844)]
    for width, height in sizes:
        reader.page.set_viewport_size({"width": width, "height": height})
        assert reader.follows()
        for px in ("300px", "100dvh"):  # an on-screen keyboard comes and goes
            reader.page.evaluate("(px) => document.body.style.setProperty('--tech-height', px)", px)
            assert reader.follows()
        reader.page.evaluate("() => document.querySelector('tech-chat .text p').remove()")
        assert reader.follows()
    reader.moves(lambda: reader.wheel(-4))
    for width, height in sizes:
        reader.page.set_viewport_size({"width": width, "height": height})
        assert reader.is_left_alone()
