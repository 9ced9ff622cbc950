"""Nothing on the page moves by itself, neither while it loads nor while an answer arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.chat_page import ChatPage
from tests.browser.pausable_upstream import Upstream
from tests.support.application import Application, running

WIDE = {"viewport": {"width": 1180, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}}
LOOKS = pytest.mark.parametrize("look", [WIDE, PHONE], ids=["wide", "phone"])
WATCH = """
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const { value, sources } of list.getEntries()) {
            const ours = sources.map(({ node }) => node).filter((node) => node?.closest?.("#tech-page"));
            if (ours.length > 0) window.shifts.push([value, ...ours.map((node) => node.className)]);
        }
    }).observe({ type: "layout-shift", buffered: true });
"""
TWICE = "() => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)))"
SLIGHT = 0.015  # of the window: a line that is new, and centred


@pytest.fixture(scope="module")
def quoting(
    tmp_path_factory: pytest.TempPathFactory, make_data_with_documentation: Callable[[Path], Path]
) -> Iterator[Application]:
    """An application without a model, which answers from the documentation."""
    data = make_data_with_documentation(tmp_path_factory.mktemp("quoting") / "data")
    with running(data, "--documentation", until="none") as application:
        application.wait_for_documentation()
        yield application


@pytest.fixture(scope="module")
def grounded(
    session_upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
    make_data_with_documentation: Callable[[Path], Path],
) -> Iterator[Application]:
    """An application whose model gets passages of the documentation with each question."""
    data = make_data_with_documentation(tmp_path_factory.mktemp("grounded") / "data")
    options = ("--documentation", "--upstream", session_upstream.url)
    with running(data, *options, until="ready") as application:
        application.wait_for_documentation()
        yield application


def large(chat: ChatPage) -> list[Any]:
    """What has moved noticeably since the last call."""
    chat.page.evaluate(TWICE)
    shifts: list[Any] = chat.page.evaluate("window.shifts.splice(0)")
    return [shift for shift in shifts if shift[0] > SLIGHT]


@LOOKS
def test_nothing_moves_in_an_answer_of_the_documentation(
    quoting: Application, context: BrowserContext
) -> None:
    context.add_init_script(WATCH)
    chat = ChatPage(context, quoting.address)
    expect(chat.account).to_contain_text("Answers from the documentation")
    assert large(chat) == []
    for question in ("How do I remove a folder?", "What does shutil.rmtreee do?"):
        chat.ask_and_wait(question)
        assert large(chat) == []
    expect(chat.answer).to_contain_text("Did you mean")


@LOOKS
def test_nothing_moves_while_an_answer_with_sources_is_written(
    grounded: Application, context: BrowserContext, upstream: Upstream
) -> None:
    context.add_init_script(WATCH)
    chat = ChatPage(context, grounded.address)
    expect(chat.account).to_contain_text("Answered by")
    assert large(chat) == []
    chat.ask_and_pause(upstream, "How do I read a CSV file?")
    expect(chat.chips).to_have_count(0)  # they would be pushed on by each line
    chat.resume_and_wait(upstream)
    expect(chat.chips.first).to_be_visible()
    assert large(chat) == []


@pytest.mark.parametrize("look", [WIDE])
@pytest.mark.parametrize("is_folded", [False, True])
def test_nothing_moves_while_the_open_or_folded_list_loads(chat: ChatPage, is_folded: bool) -> None:
    if is_folded:
        chat.page.get_by_role("button", name="Hide conversations").click()
    chat.page.add_init_script(WATCH)
    chat.page.reload()
    expect(chat.account).to_contain_text("Answered by")
    assert large(chat) == []
