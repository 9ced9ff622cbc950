"""A real Chromium, for the real application and for single scripts of its page."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from assistant.web.application import STATIC
from tests.browser.chat_page import ChatPage
from tests.browser.pausable_upstream import Upstream, pausable_upstream
from tests.browser.scripted_page import Scripted, ScriptedPage
from tests.support.application import Application, running

# Chromium heeds only the last list of disabled features, so Playwright's own are repeated. The last three
# build what nobody sees here, such as the popup of the address bar: a third of the time of each new window.
DISABLED_FEATURES = (
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding",
    "ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints",
    "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "SpareRendererForSitePerProcess",
)  # fmt: skip
CHROMIUM_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", f"--disable-features={','.join(DISABLED_FEATURES)}",
)  # fmt: skip
PATIENCE_MS = 30_000  # until a test gives up; no test measures speed
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
IMPORTS = """async () => {
    for (const script of ["markdown", "highlight", "selection", "drafts"]) {
        Object.assign(window, await import(`/${script}.js`));
    }
    window.render = (pieces, container = document.createElement("div")) => {
        const view = new MarkdownView(container);
        for (const piece of pieces) view.append(piece);
        view.finish();
        return container;
    };
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and run them last: Playwright keeps an event loop in the main thread
    until the session ends, and asynchronous tests need their own there."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.browser)
    items[:] = [item for item in items if item not in ours] + ours


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail("There is no Chromium: `sh scripts/test` brings one, CHROMIUM=PATH names one.")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def look() -> dict[str, Any]:
    """Options of the visitor's browser, such as the size of its window, which a test may parametrize."""
    return {}


@pytest.fixture
def context(browser: Browser, look: dict[str, Any]) -> Iterator[BrowserContext]:
    """The browser of one visitor, with its own cookies and storage."""
    with visitor(browser, **look) as context:
        yield context


@contextlib.contextmanager
def visitor(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
    context.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    try:
        yield context
    finally:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """An empty page without a Content-Security-Policy; what its scripts export is global."""

    def serve(route: Route) -> None:
        path = urlsplit(route.request.url).path.lstrip("/")
        if path:
            route.fulfill(path=STATIC / path) if (STATIC / path).is_file() else route.fulfill(status=404)
        else:
            body = "<!doctype html><title>blank</title><link rel=icon href=data:,><main></main>"
            route.fulfill(content_type="text/html", body=body)

    with visitor(browser) as context:
        context.route("http://localhost/**", serve)
        page = context.new_page()
        page.goto("http://localhost/")
        page.evaluate(IMPORTS)
        yield page


@pytest.fixture(scope="session")
def session_upstream() -> Iterator[Upstream]:
    with pausable_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(session_upstream: Upstream) -> Iterator[Upstream]:
    """The upstream of the applications, whose answers a test may pause; the next test finds it resumed."""
    yield session_upstream
    session_upstream.resume()


@pytest.fixture(scope="session")
def application(
    session_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """The application of all tests that do not stop it; each visitor has their own conversations."""
    data = tmp_path_factory.mktemp("shared") / "data"
    with running(data, "--upstream", session_upstream.url, until="ready") as application:
        yield application


@pytest.fixture(scope="module")
def killable(session_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application that a test may kill, if it starts it again."""
    data = tmp_path_factory.mktemp("killable") / "data"
    with running(data, "--upstream", session_upstream.url, until="ready") as application:
        yield application


@pytest.fixture(scope="session")
def without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with running(tmp_path_factory.mktemp("none") / "data", "--model", "none", until="none") as application:
        yield application


@pytest.fixture
def chat(application: Application, context: BrowserContext) -> ChatPage:
    """The page of the application, in the browser of one visitor."""
    return ChatPage(context, application.address)


@pytest.fixture
def scripted(application: Application, context: BrowserContext) -> Scripted:
    """Opens the page of the application with the engine that a test scripts."""
    return functools.partial(ScriptedPage, context, application.address)
