"""A real Chromium: on blank pages with one module of the page's scripts, and on the real application."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from assistant.web.application import STATIC
from tests.browser.stage import Stage, on_stage
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
PATIENCE_MS = 30_000  # not a measure, only an end to waiting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and run them last: Playwright keeps an event loop in the main thread
    until the session ends, and no asynchronous test can have its own beside it."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.browser)
    items[:] = [item for item in items if item not in ours] + ours


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail("There is no Chromium: `sh scripts/test` brings one, CHROMIUM=PATH names one.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor: cookies and storage of their own."""
    with visitor(browser) as context:
        yield context


@contextlib.contextmanager
def visitor(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    try:
        yield context
    finally:
        context.close()
    assert errors == []


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>blank</title><link rel=icon href=data:,><main></main>")
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """An empty page of a host that has the scripts and nothing else, no policy either."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(STATIC))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        with visitor(browser) as context:
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            yield page
        server.shutdown()
        serving.join()


@pytest.fixture(scope="session")
def theatre() -> Iterator[Stage]:
    with on_stage() as stage:
        yield stage


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """The upstream of the applications: `hold()` and `release()` say how far its answers go."""
    yield theatre
    theatre.release()


@pytest.fixture(scope="session")
def application(theatre: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """One application for all tests that leave it as it is; each visitor has conversations of their own."""
    with running(tmp_path_factory.mktemp("shared") / "data", "--upstream", theatre.url) as application:
        application.wait_until("ready")
        application.wait_for_page()
        yield application


@pytest.fixture(scope="module")
def mortal(theatre: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application that a test may kill and starts again."""
    with running(tmp_path_factory.mktemp("mortal") / "data", "--upstream", theatre.url) as application:
        application.wait_until("ready")
        application.wait_for_page()
        yield application


@pytest.fixture(scope="session")
def without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with running(tmp_path_factory.mktemp("none") / "data", "--model", "none") as application:
        application.wait_for_page()
        yield application
