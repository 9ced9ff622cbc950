"""The report of a site and its sign-in in a real browser: axe-core finds nothing, nothing is wider than the
screen, and the policy of the page blocks nothing that it needs."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import BrowserContext, Route, expect

from assistant.report.report import SiteReport, make_report
from assistant.web.static_files import STATIC
from assistant.web.widget.report_page import POLICY, report_page, sign_in_page
from tests.assistant.report.test_report import HISTORY, NOW, QUOTATION, exchange
from tests.browser.test_accessibility import LOOKS

LONG = exchange("Where is " + "averylongword" * 20, 9, by=QUOTATION)


def report(*more: Any) -> SiteReport:
    return make_report([*HISTORY, *more] if more else [], 7, NOW)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_the_pages_of_the_report_are_right(context: BrowserContext, look: dict[str, Any]) -> None:
    pages = {
        "sign-in": sign_in_page(),
        "wrong": sign_in_page(problem="There is no such site, or the secret is wrong."),
        "report": report_page(report(LONG), name="Docs " * 20, days=7),
        "empty": report_page(report(), name="Docs", days=7),
    }

    def serve(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name in pages:
            headers = {"Content-Security-Policy": POLICY}
            route.fulfill(content_type="text/html; charset=utf-8", body=pages[name], headers=headers)
        else:
            route.fulfill(path=STATIC / name)

    context.route("http://localhost/**", serve)
    page = context.new_page()
    blocked: list[str] = []
    page.on("console", lambda message: blocked.append(message.text) if message.type == "error" else None)
    for name in pages:
        page.goto(f"http://localhost/{name}")
        if name == "report":
            bars = page.locator(".plot rect")
            expect(bars).to_have_count(9)  # for each kind of answer on each of the five days
            tall = bars.evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().height)")
            assert min(tall) > 20
            assert len({bars.nth(at).evaluate("(one) => getComputedStyle(one).fill") for at in range(9)}) == 5
            page.get_by_text("The figures of each day").click()
        page.evaluate(f"{AXE_SCRIPT}; 0")
        found = page.evaluate("async () => (await axe.run({ resultTypes: ['violations'] })).violations")
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert blocked == []
