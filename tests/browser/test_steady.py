"""Nothing on the page moves by itself, neither while it loads nor while an answer arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chat_page import ChatPage
from tests.browser.conftest import visitor
from tests.browser.pausable_upstream import FIRST_WORDS, Upstream
from tests.support.application import Application, running, wait_for

SIZES = [pytest.param((1180, 800), id="wide"), pytest.param((390, 844), id="phone")]
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
    with running(data, "--documentation") as application:
        application.wait_for_page()
        wait_for(lambda: documentation(application) == "ready")
        yield application


@pytest.fixture(scope="module")
def grounded(
    session_upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
    make_data_with_documentation: Callable[[Path], Path],
) -> Iterator[Application]:
    """An application whose model gets passages of the documentation with each question."""
    data = make_data_with_documentation(tmp_path_factory.mktemp("grounded") / "data")
    with running(data, "--documentation", "--upstream", session_upstream.url) as application:
        application.wait_until("ready")
        application.wait_for_page()
        wait_for(lambda: documentation(application) == "ready")
        yield application


def documentation(application: Application) -> str:
    return str(application.client.get("/api/engine").json()["documentation"]["state"])


def large(chat: ChatPage) -> list[Any]:
    """What has moved noticeably since the last call."""
    chat.page.evaluate(TWICE)
    shifts: list[Any] = chat.page.evaluate("window.shifts.splice(0)")
    return [shift for shift in shifts if shift[0] > SLIGHT]


@pytest.mark.parametrize("size", SIZES)
def test_nothing_moves_in_an_answer_of_the_documentation(
    quoting: Application, browser: Browser, size: tuple[int, int]
) -> None:
    with visitor(browser, viewport={"width": size[0], "height": size[1]}) as context:
        context.add_init_script(WATCH)
        chat = ChatPage(context, quoting.address)
        expect(chat.page.locator("tech-chat .engine")).to_contain_text("Answers from the documentation")
        assert large(chat) == []
        for question in ("How do I remove a folder?", "What does shutil.rmtreee do?"):
            chat.ask_and_wait(question)
            assert large(chat) == []
        expect(chat.answer).to_contain_text("Did you mean")


@pytest.mark.parametrize("size", SIZES)
def test_nothing_moves_while_an_answer_with_sources_is_written(
    grounded: Application, browser: Browser, upstream: Upstream, size: tuple[int, int]
) -> None:
    with visitor(browser, viewport={"width": size[0], "height": size[1]}) as context:
        context.add_init_script(WATCH)
        chat = ChatPage(context, grounded.address)
        expect(chat.page.locator("tech-chat .engine")).to_contain_text("Answered by")
        assert large(chat) == []
        upstream.pause()
        chat.ask("How do I read a CSV file?")
        chat.expect_text(FIRST_WORDS)
        chips = chat.answer.get_by_role("group", name="Sources").get_by_role("button")
        expect(chips).to_have_count(0)  # they would be pushed on by each line
        upstream.resume()
        chat.expect_status("done")
        expect(chips.first).to_be_visible()
        assert large(chat) == []


@pytest.mark.parametrize("is_folded", [False, True])
def test_nothing_moves_while_the_open_or_folded_list_loads(
    application: Application, browser: Browser, is_folded: bool
) -> None:
    with visitor(browser, viewport={"width": 1180, "height": 800}) as context:
        chat = ChatPage(context, application.address)
        if is_folded:
            chat.page.get_by_role("button", name="Hide conversations").click()
        context.add_init_script(WATCH)
        chat.page.reload()
        expect(chat.page.locator("tech-chat .engine")).to_contain_text("Answered by")
        assert large(chat) == []
