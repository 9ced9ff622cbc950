"""The path of a message as a person goes it: real Chromium, the real application, a real engine.

The engine is llama.cpp with a small random model, or an upstream in its own process that says a given text.
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.application import Application, running, upstream
from tests.support.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.browser

TEXT = "One two three four five six seven eight nine ten. " * 10
PATIENCE = 60_000  # ms


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def talker() -> Iterator[str]:
    with upstream(TEXT) as url:
        yield url


@pytest.fixture
def application(tmp_path: Path, talker: str) -> Iterator[Application]:
    with running(tmp_path / "data", "--upstream", talker) as application:
        application.wait_until("ready")
        application.wait_for_page()
        yield application


def open_page(page: Page, application: Application) -> None:
    page.goto(page.url if page.url.startswith(application.address) else application.address)
    expect(page.locator("#tech-box textarea")).to_be_visible()


def ask(page: Page, text: str) -> None:
    page.locator("#tech-box textarea").fill(text)
    page.keyboard.press("Enter")


def answer_text(page: Page) -> str:
    return page.locator("article.answer .text").last.inner_text()


def wait_for_some(page: Page, characters: int = 30) -> str:
    """Wait until so much of the answer is shown; gives what is shown."""
    script = "n => [...document.querySelectorAll('article.answer .text')].at(-1)?.innerText.length >= n"
    page.wait_for_function(script, arg=characters)
    return answer_text(page)


def status(page: Page, value: str) -> None:
    expect(page.locator("article.answer").last).to_have_attribute("data-status", value)


def test_an_embedded_model_is_asked_streams_and_is_stopped(page: Page, tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context=16384)
    more = ("--threads", "1", "--max-new-tokens", "8000")
    with running(tmp_path / "data", "--model", str(model), *more) as application:
        application.wait_until("ready")
        application.wait_for_page()
        open_page(page, application)
        ask(page, "How do I read a file?")
        expect(page.locator("article.question").last).to_contain_text("How do I read a file?")
        wait_for_some(page, 50)
        page.get_by_role("button", name="Stop").click()
        status(page, "stopped")
        shown = answer_text(page)
        page.reload()
        status(page, "stopped")
        assert answer_text(page) == shown


def test_an_answer_streams_to_its_end_and_is_there_after_a_reload(
    page: Page, application: Application
) -> None:
    open_page(page, application)
    ask(page, "Count, please")
    status(page, "streaming")
    status(page, "done")
    assert answer_text(page) == TEXT.strip()
    expect(page).to_have_title(re.compile("Count, please"))
    page.reload()
    status(page, "done")
    assert answer_text(page) == TEXT.strip()
    expect(page.locator("tech-conversations")).to_contain_text("Count, please")


def test_a_tab_closed_in_mid_answer_and_opened_again_shows_the_whole_answer(
    page: Page, application: Application
) -> None:
    open_page(page, application)
    ask(page, "q")
    wait_for_some(page)
    address = page.url
    page.close()
    again = page.context.new_page()
    again.goto(address)
    status(again, "done")
    assert answer_text(again) == TEXT.strip()


def test_the_application_killed_in_mid_answer_loses_nothing_that_was_shown(
    page: Page, application: Application
) -> None:
    open_page(page, application)
    ask(page, "q")
    wait_for_some(page)
    port = int(application.address.rpartition(":")[2])
    application.kill()
    shown = answer_text(page)
    application.start(port=port)
    application.wait_for_page()
    status(page, "interrupted")  # the page that stayed open finds back by itself
    assert answer_text(page).startswith(shown.rstrip())
    page.reload()
    status(page, "interrupted")
    assert answer_text(page).startswith(shown.rstrip())
    page.get_by_role("button", name="Retry").click()
    status(page, "done")
    assert answer_text(page) == TEXT.strip()


def test_the_serving_layer_killed_fails_the_answer_and_the_next_one_works(
    page: Page, application: Application
) -> None:
    open_page(page, application)
    ask(page, "q")
    shown = wait_for_some(page)
    os.kill(application.serving_pid(), signal.SIGKILL)
    status(page, "failed")
    assert answer_text(page).startswith(shown.rstrip())
    expect(page.locator("article.answer .note").last).to_contain_text("serving layer")
    ask(page, "again")
    expect(page.locator("article.answer")).to_have_count(2)
    status(page, "done")
    assert answer_text(page) == TEXT.strip()


def test_without_a_model_the_page_says_what_to_do(page: Page, tmp_path: Path) -> None:
    with running(tmp_path / "data") as application:
        application.wait_for_page()
        open_page(page, application)
        expect(page.locator("tech-chat")).to_contain_text("--model FILE.gguf")
        ask(page, "Is anybody there?")
        expect(page.locator("#tech-box textarea")).to_have_value("Is anybody there?")


def test_the_page_reaches_no_other_host_and_says_nothing_in_the_console(
    page: Page, application: Application
) -> None:
    hosts: set[str] = set()
    complaints: list[str] = []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    open_page(page, application)
    ask(page, "q")
    status(page, "done")
    assert hosts == {application.address.removeprefix("http://")}
    assert complaints == []
