"""The widget in the pages of another site, where its cookies count as those of a third party."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import jwt
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, Response, Route, expect

from assistant.sites import Site, Sites, changed, make_site
from assistant.web.widget.loader import script_line
from tests.browser.conftest import CHROMIUM_OPTIONS, DISABLED_FEATURES, PATIENCE_MS, PHONE, visitor
from tests.browser.hostile import HOSTILE, HOSTILE_TEXTS
from tests.browser.pausable_upstream import ANSWER, FIRST_WORDS, LAST_WORDS, Upstream
from tests.browser.scripted_page import RMTREE
from tests.browser.widget_host import HostSite, host_site
from tests.browser.widget_page import WidgetPage
from tests.support.application import Application, wait_for

KEY = "abcdefghijkl2345"
SUGGESTION = "How do I open a file?"
MARK = "tech-assistant"
# Measured in November 2026, compressed.
PEERS = "Chainlit 2.12's Copilot: 2.5 MB; a page of Gradio 6.17: 444 KB in 85 requests"
# What a browser's owner has set, by the preferences of Chromium.
COOKIES: dict[str, dict[str, Any]] = {
    "allowed": {"cookie_controls_mode": 0},
    "blocked": {"cookie_controls_mode": 1},  # those of third parties
    "denied": {"default_content_setting_values": {"cookies": 2}},  # all cookies and all storage
}
# Unlike other tests' browsers, these part the storage of third parties, and keep pages to go back to.
PARTED = ",".join(set(DISABLED_FEATURES) - {"ThirdPartyStoragePartitioning"})
OPTIONS = [*CHROMIUM_OPTIONS[:-1], f"--disable-features={PARTED}"]
# What a test may see of a closed shadow root.
OPENED = """const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function () { return attach.call(this, { mode: "open" }); };"""
WORDS = "(node) => node.innerText.split(/\\s+/).filter((word) => word)"
LOOKS = {"light": {"color_scheme": "light"}, "dark": {"color_scheme": "dark"}, "phone": PHONE}
AXE = """async () => {
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => [id, nodes[0].html]);
}"""


@pytest.fixture(scope="module")
def host() -> Iterator[HostSite]:
    with host_site() as host:
        yield host


@pytest.fixture(scope="module")
def site(application: Application, host: HostSite) -> Site:
    limits = dict.fromkeys(("visitor_minute", "address_minute", "address_day", "site_minute"), 10_000)
    site = make_site(
        key=KEY, name="Example Docs", origins=(host.origin,), suggestions=(SUGGESTION,), limits=limits
    )
    Sites(application.data / "sites").save(site)
    host.script = script_line(site, address_of(application))
    return site


def address_of(application: Application) -> str:
    """The application under another name than the host's."""
    return f"http://assistant.localhost:{application.client.base_url.port}"


Opened = Callable[[str], BrowserContext]


@pytest.fixture(scope="module")
def browsers(browser: Browser, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Opens the browser of somebody who allows, blocks or denies cookies."""
    with contextlib.ExitStack() as stack:
        opened: dict[str, BrowserContext] = {}

        def of(cookies: str) -> BrowserContext:
            if cookies not in opened:
                folder = tmp_path_factory.mktemp(cookies)
                (folder / "Default").mkdir()
                (folder / "Default" / "Preferences").write_text(json.dumps({"profile": COOKIES[cookies]}))
                opened[cookies] = browser.browser_type.launch_persistent_context(
                    folder,
                    executable_path=chromium,
                    args=OPTIONS,
                    ignore_default_args=["--disable-back-forward-cache"],
                )
                stack.callback(opened[cookies].close)
            return opened[cookies]

        yield of


@contextlib.contextmanager
def reader_in(context: BrowserContext) -> Iterator[BrowserContext]:
    """A new reader in a browser that others have used."""
    context.set_default_timeout(PATIENCE_MS)
    context.clear_cookies()
    errors: list[str] = []

    def note(error: Any) -> None:
        errors.append(str(error.error))

    context.on("weberror", note)
    kept = context.pages[:1]  # without a page, the browser ends
    try:
        yield context
    finally:
        context.remove_listener("weberror", note)
        for page in context.pages:
            if page not in kept:
                page.close()
    assert errors == []


@pytest.fixture
def reader(browsers: Opened) -> Iterator[BrowserContext]:
    """Somebody who blocks the cookies of third parties, as most browsers do."""
    with reader_in(browsers("blocked")) as context:
        yield context


@pytest.fixture
def widget(site: Site, host: HostSite, reader: BrowserContext) -> WidgetPage:
    return WidgetPage(reader, host.address())


def words(text: str) -> list[str]:
    return text.split()


# ------------------------------------------------------------------------------------ going on where it was


@pytest.mark.parametrize("cookies", ["allowed", "blocked"])
def test_an_answer_goes_on_in_the_next_page_and_no_word_is_lost(
    site: Site, host: HostSite, browsers: Opened, upstream: Upstream, cookies: str
) -> None:
    with reader_in(browsers(cookies)) as context:
        widget = WidgetPage(context, host.address())
        assert not widget.has_frame
        widget.open()
        widget.ask_and_pause(upstream, "Long one")
        widget.go(host.address("/next"))
        widget.expect_text(FIRST_WORDS)
        widget.expect_status("streaming")
        upstream.resume()
        widget.expect_status("done")
        followed = widget.answer.locator(".text").evaluate(WORDS)
        widget.page.reload()
        widget.expect_status("done")
        assert widget.answer.locator(".text").evaluate(WORDS) == followed
        assert followed[-6:] == [*words(LAST_WORDS)[-5:], "[1]"]
        assert [word for word in followed if word.isdigit()] == [
            word for word in words(ANSWER) if word.isdigit()
        ]


def test_without_any_storage_the_chat_works_in_its_page(site: Site, host: HostSite, browsers: Opened) -> None:
    with reader_in(browsers("denied")) as context:
        widget = WidgetPage(context, host.address())
        widget.open()
        for count in (1, 2):
            widget.ask("Question")
            expect(widget.answers).to_have_count(count)
            widget.expect_status("done")
        widget.go(host.address("/next"))
        assert not widget.has_frame
        widget.open()
        expect(widget.button(SUGGESTION)).to_be_visible()  # nobody can know who this is


def test_a_new_chat_stays_new_in_the_next_page(widget: WidgetPage, host: HostSite) -> None:
    widget.open()
    widget.ask("First")
    widget.expect_status("done")
    widget.button("New chat").click()
    expect(widget.button(SUGGESTION)).to_be_visible()
    widget.go(host.address("/next"))
    expect(widget.button(SUGGESTION)).to_be_visible()
    widget.button(SUGGESTION).click()
    widget.expect_status("done")
    expect(widget.questions).to_have_count(1)


def test_two_tabs_show_the_same_chat(widget: WidgetPage, host: HostSite, reader: BrowserContext) -> None:
    widget.open()
    widget.ask("First")
    widget.expect_status("done")
    other = WidgetPage(reader, host.address("/other"))
    assert not other.has_frame
    other.open()
    expect(other.questions).to_have_count(1)
    other.ask("Second")
    expect(other.answers).to_have_count(2)
    other.expect_status("done")
    widget.page.bring_to_front()
    expect(widget.questions).to_have_count(2)


def test_going_back_finds_the_chat_as_it_was(widget: WidgetPage, host: HostSite) -> None:
    page = widget.page
    page.evaluate("() => addEventListener('pageshow', ({ persisted }) => (window.kept = persisted))")
    page.evaluate("() => TechAssistant.on('answer', () => (window.answers = (window.answers ?? 0) + 1))")
    widget.open()
    widget.ask("First")
    page.wait_for_function("() => window.answers === 1")
    widget.go(host.address("/next"))
    page.evaluate("() => history.back()")
    page.wait_for_function("() => window.kept === true")
    page.evaluate("() => TechAssistant.ask('Second')")  # Playwright does not find the frame again
    page.wait_for_function("() => window.answers === 2")
    page.reload()
    expect(widget.answers).to_have_count(2)


def test_a_lost_connection_costs_neither_the_question_nor_the_answer(
    widget: WidgetPage, reader: BrowserContext, upstream: Upstream
) -> None:
    widget.open()
    reader.set_offline(True)
    widget.ask("Is it lost?")
    expect(widget.alarm).to_contain_text("did not arrive")
    expect(widget.composer).to_have_value("Is it lost?")
    reader.set_offline(False)
    widget.ask_and_pause(upstream, "Is it lost?")
    expect(widget.questions).to_have_count(1)
    reader.set_offline(True)
    upstream.resume()
    reader.set_offline(False)
    widget.expect_status("done")
    widget.expect_text(LAST_WORDS)


def test_a_token_that_is_refused_is_renewed_once(widget: WidgetPage) -> None:
    widget.open()
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.headers["authorization"])
        if len(asked) == 1:
            route.fulfill(status=401, json={"type": "site_token", "detail": "The token has ended."})
        else:
            route.fallback()

    widget.page.route("**/api/messages", refuse)
    with widget.page.expect_response("**/token"):
        widget.ask("Who am I?")
    widget.expect_status("done")
    assert len(asked) == 2
    assert all(token.startswith("Bearer ") for token in asked)


# -------------------------------------------------------------------------------------- frames and origins


def test_a_plain_frame_works_in_a_sandbox_that_lets_it(
    site: Site, host: HostSite, reader: BrowserContext, application: Application
) -> None:
    source = f"{address_of(application)}/widget/{KEY}"
    sandboxes = "allow-scripts allow-same-origin allow-forms allow-popups", "allow-scripts"
    frames = "".join(f'<iframe sandbox="{sandbox}" src="{source}"></iframe>' for sandbox in sandboxes)
    widget = WidgetPage(reader)
    widget.page.goto(host.add("/plain", head="", body=frames))
    works, fails = widget.page.locator("iframe").all()
    chat = works.content_frame
    expect(chat.get_by_role("button", name="Close")).to_have_count(0)
    chat.get_by_role("button", name=SUGGESTION).click()
    expect(chat.get_by_role("article", name="Answer")).to_have_attribute("data-status", "done")
    words = fails.content_frame.get_by_text("If the frame has a sandbox, it needs allow-scripts")
    expect(words).to_be_visible()
    expect(words).to_have_css("opacity", "1")


def test_a_page_of_another_site_gets_nothing(
    site: Site, host: HostSite, reader: BrowserContext, application: Application
) -> None:
    widget = WidgetPage(reader)
    widget.page.clock.install()
    widget.page.add_init_script(OPENED)
    widget.go(host.address(name="stranger"))
    with widget.page.expect_event("requestfailed") as failed:
        widget.press()
    assert failed.value.failure == "net::ERR_BLOCKED_BY_RESPONSE"
    widget.page.clock.fast_forward(20_000)
    expect(widget.page.get_by_role("status")).to_contain_text("cannot be reached from this page")
    wait_for(lambda: widget.page.evaluate("1") and "chrome-error:" in widget.page.frames[1].url)
    assert len(widget.page.frames) == 2
    body = {"origin": host.address("", name="stranger"), "token": None, "identity": None}
    refused = application.client.post(f"/widget/{KEY}/token", json=body)
    assert (refused.status_code, refused.json()["type"]) == (403, "unlisted_origin")


POSTS = """(messages) => {
    for (const message of messages) {
        parent.postMessage(message, "*");
        for (let at = 0; at < parent.frames.length; at++) parent.frames[at].postMessage(message, "*");
    }
}"""


def test_messages_that_are_forged_or_of_another_origin_do_nothing(widget: WidgetPage, host: HostSite) -> None:
    page = widget.page
    page.goto(host.add("/framed", body=f'<iframe src="{host.address("/x", name="stranger")}"></iframe>'))
    page.wait_for_function("() => window.TechAssistant")
    widget.open()
    asked: list[str] = []
    page.on("request", lambda it: asked.append(it.url) if it.url.endswith("/messages") else None)
    names = ("close", "link", "ask", "identify", "hello", "ready", "question", "constructor", "__proto__")
    detail = {"url": host.address("/evil"), "text": "Forged", "identity": "x.y.z", "theme": "dark"}
    forged = [{MARK: 1, "name": name, **detail} for name in names]
    odd: list[Any] = [None, 1, "x", [], {}, {MARK: 1}, {MARK: 2, "name": "ask", "text": "Forged"}]
    stranger = next(frame for frame in page.frames if "stranger" in frame.url)
    stranger.evaluate(POSTS, [*odd, *forged])
    # The page itself is listed, but is not the frame.
    page.evaluate("(messages) => messages.forEach((one) => postMessage(one, '*'))", [*odd, *forged])
    # Even the frame may not lead the page to another site, or to a script.
    for address in ("javascript:alert(1)", host.address("/evil", name="stranger"), "data:text/html,x", None):
        message = {MARK: 1, "name": "link", "url": address}
        widget.frame.evaluate("(message) => parent.postMessage(message, '*')", message)
    widget.ask("The only one")  # messages keep their order, so those above have been handled
    widget.expect_status("done")
    assert len(asked) == 1
    assert page.url == host.address("/framed")
    assert widget.is_open
    expect(widget.questions).to_have_count(1)


# ---------------------------------------------------------------------------------------- pages that resist


def test_hostile_texts_do_nothing_in_the_frame(widget: WidgetPage, host: HostSite) -> None:
    everything = "\n\n".join(HOSTILE_TEXTS)
    fields = ("name", "title", "package", "location", "quote", "url")
    sources = [{**RMTREE, "cited": True, **dict.fromkeys(fields, text)} for text in HOSTILE]

    def made_hostile(route: Route) -> None:
        response = route.fetch(url=route.request.url.replace("assistant.localhost", "127.0.0.1"))
        body = response.json()
        for message in body["messages"]:
            message["content"] = everything
            if message["role"] == "assistant":
                message["content"] += " ".join(f"[{number + 1}]" for number in range(len(HOSTILE)))
                message["sources"] = sources
        route.fulfill(response=response, json=body)

    widget.open()
    widget.ask("a question")
    widget.expect_status("done")
    happened: list[str] = []
    page = widget.page
    page.route("**/api/conversations/*", made_hostile)
    ours = (host.origin, "http://assistant.localhost:", "data:", "blob:")
    page.on("request", lambda it: None if it.url.startswith(ours) else happened.append(it.url))
    page.on("framenavigated", lambda it: None if it.url.startswith(ours) else happened.append(it.url))
    page.on("popup", lambda it: happened.append(it.url))
    page.on("dialog", lambda it: (happened.append(it.message), it.dismiss()))  # type: ignore[func-returns-value]
    widget.go(host.address("/next"))
    expect(widget.answers).to_have_count(1)
    expect(widget.questions).to_contain_text(HOSTILE[0][:20])
    chips = widget.answer.get_by_role("group", name="Sources").get_by_role("button")
    assert chips.count() == len(HOSTILE)
    for index in range(chips.count()):
        chips.nth(index).click()
    forbidden = "tech-chat :is(img, script, iframe, form, input)"
    count = f"[frames.length, document.querySelectorAll({forbidden!r}).length]"
    assert widget.frame.evaluate(count) == [0, 0]
    assert happened == []


def test_a_strict_policy_and_trusted_types_are_enough(
    site: Site, host: HostSite, reader: BrowserContext, application: Application
) -> None:
    ours = address_of(application)
    policy = (
        f"default-src 'none'; script-src {ours}; frame-src {ours}; style-src 'none'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    widget = WidgetPage(reader)
    complaints: list[str] = []
    widget.page.on("console", lambda it: complaints.append(it.text) if it.type != "log" else None)
    widget.page.goto(host.add("/strict", content_security_policy=policy))
    expect_button(widget.page)
    widget.open()
    widget.ask("Question")
    widget.expect_status("done")
    widget.page.keyboard.press("Escape")
    expect_button(widget.page)
    assert complaints == []


def expect_button(page: Page) -> None:
    page.locator(f"#{MARK}").wait_for(state="attached")


COVERING = """<style>
* { all: unset !important; display: none !important; transform: scale(0) !important; opacity: 0 !important;
    pointer-events: none !important; z-index: -1 !important; filter: blur(9px) !important }
html, body, main, #wall { display: block !important; opacity: 1 !important; filter: none !important;
    transform: none !important }
#wall { position: fixed !important; inset: 0 !important; z-index: 2147483647 !important;
    pointer-events: auto !important }
</style>"""


def test_styles_that_unset_everything_and_cover_the_page_do_not_reach_it(
    widget: WidgetPage, host: HostSite
) -> None:
    widget.go(host.add("/hostile", head=host.script + COVERING, body="<div id=wall>Wall</div>"))
    widget.open()
    widget.ask("Question")
    widget.expect_status("done")
    box = widget.frame.frame_element().bounding_box()
    assert box is not None
    assert (box["width"], box["x"] + box["width"]) == (398, 1280 - 21)


def test_the_script_twice_and_a_page_that_replaces_its_content_change_nothing(
    widget: WidgetPage, host: HostSite
) -> None:
    page = widget.page
    calls = "<script>window.TechAssistant = [['ask', 'Asked before']]</script>"
    widget.go(host.add("/twice", head=calls + host.script + host.script))
    widget.expect_status("done")
    page.evaluate(
        "(line) => document.body.append(document.createRange().createContextualFragment(line))", host.script
    )
    frame = widget.frame
    page.evaluate("() => document.body.replaceWith(document.createElement('body'))")
    widget.ask("Still there?")
    expect(widget.answers).to_have_count(2)
    widget.expect_status("done")
    assert widget.frame == frame
    page.evaluate(f"() => document.querySelector('#{MARK}').remove()")
    expect(page.locator(f"#{MARK}")).to_have_count(1)
    expect(widget.answers).to_have_count(2)  # the frame was loaded again
    page.evaluate("() => TechAssistant.destroy()")
    assert page.evaluate(
        f"() => [document.querySelectorAll('#{MARK}').length, 'TechAssistant' in window]"
    ) == [
        0,
        False,
    ]


def test_sources_of_the_site_open_in_its_tab(widget: WidgetPage, host: HostSite) -> None:
    widget.open()
    link = host.address("/guide#part")
    event = {
        "title": "Guide",
        "name": "Guide",
        "package": "Docs",
        "version": "1",
        "licence": "",
        "location": "",
    }
    source = {**event, "url": link, "quote": "Words.", "cited": True}
    events = {"sources": {"sources": [source]}, "delta": {"text": "See [1]."}}
    ended = {**events, "done": {"status": "done", "finish_reason": "eos_token"}}
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in ended.items())
    widget.page.route("**/events", lambda it: it.fulfill(content_type="text/event-stream", body=body))
    widget.ask("Where?")
    widget.frame.get_by_role("group", name="Sources").get_by_role("button").click()
    out = widget.frame.get_by_role("link", name=f"docs.localhost:{host.port}")
    # The page may open the address in its own way, as one that loads no new documents does.
    seen = "(event) => { window.seen = event.url; return false; }"
    page = widget.page
    page.evaluate(f"() => {{ window.off = TechAssistant.on('link', {seen}); }}")
    out.click()
    page.wait_for_function("(link) => window.seen === link", arg=link)
    assert page.url == host.address()
    page.evaluate("() => window.off()")
    out.click()
    page.wait_for_url(link)
    expect(widget.questions).to_have_count(1)


# ------------------------------------------------------------------------------------------- how it behaves


def test_a_site_has_its_own_words_colour_corner_and_language(
    site: Site, host: HostSite, context: BrowserContext, application: Application
) -> None:
    german = changed(
        site,
        key="deutschedocs2345",
        language="de",
        colour="#ffd400",
        position="left",
        greeting="Hallo!",
        texts={"note": "Nur ein Entwurf."},
    )
    Sites(application.data / "sites").save(german)
    line = script_line(german, address_of(application))
    widget = WidgetPage(context)
    complaints: list[str] = []
    widget.page.on("console", lambda it: complaints.append(it.text) if it.type == "error" else None)
    widget.go(host.add("/deutsch", head=line))
    widget.press(side="left")
    expect(widget.frame.get_by_role("heading", name="Hallo!")).to_be_visible()
    expect(widget.frame.get_by_text("Nur ein Entwurf.")).to_be_visible()
    text = "Die Formel \\(x^2\\) und ein Diagramm:\n\n```mermaid\ngraph TD; A-->B\n```\n"
    events = {"delta": {"text": text}, "done": {"status": "done", "finish_reason": "eos_token"}}
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events.items())
    widget.page.route("**/events", lambda it: it.fulfill(content_type="text/event-stream", body=body))
    widget.frame.get_by_role("textbox", name="Ihre Frage").fill("Wie geht das?")
    widget.button("Senden").click()
    answer = widget.frame.get_by_role("article", name="Antwort")
    expect(answer.get_by_role("button", name="Antwort kopieren")).to_be_visible()
    expect(answer.locator(".katex")).to_be_visible()
    expect(answer.locator("figure button")).to_have_count(1)  # to copy; diagrams are not drawn here
    widget.frame.evaluate(AXE_SCRIPT)
    assert widget.frame.evaluate(AXE) == []
    assert complaints == []


def test_the_chats_of_the_users_of_a_site_follow_them(
    site: Site, host: HostSite, browser: Browser, application: Application
) -> None:
    secret = "s" * 48
    of_users = changed(site, key="siteofusers23456", identity_keys=(secret,))
    Sites(application.data / "sites").save(of_users)
    address = host.add("/users", head=script_line(of_users, address_of(application)))

    def is_signed_in(response: Response) -> bool:
        return response.url.endswith("/token") and bool(response.request.post_data_json["identity"])

    def sign_in(context: BrowserContext, user: str) -> WidgetPage:
        claims = {"sub": user, "aud": of_users.key, "exp": int(time.time()) + 60, "jti": uuid4().hex}
        widget = WidgetPage(context, address)
        widget.page.evaluate("(token) => TechAssistant.identify(token)", jwt.encode(claims, secret, "HS256"))
        with widget.page.expect_response(is_signed_in) as answer:
            widget.press()
        assert answer.value.ok
        return widget

    with visitor(browser) as first, visitor(browser) as second, visitor(browser) as third:
        widget = sign_in(first, "ada")
        widget.ask("Mine")
        widget.expect_status("done")
        expect(sign_in(second, "ada").questions.locator(".bubble")).to_have_text("Mine")
        other = sign_in(third, "bob")
        expect(other.button(SUGGESTION)).to_be_visible()
        expect(other.questions).to_have_count(0)


def test_the_page_may_open_ask_listen_and_close(widget: WidgetPage) -> None:
    page = widget.page
    page.evaluate("""() => {
        window.heard = [];
        for (const name of ["ready", "open", "close", "question", "answer"]) {
            TechAssistant.on(name, () => heard.push(name));
        }
        TechAssistant.ask("From the page");
    }""")
    widget.expect_status("done")
    expect(widget.questions.locator(".bubble")).to_have_text("From the page")
    page.wait_for_function("() => heard.at(-1) === 'answer'")
    page.evaluate("() => TechAssistant.close()")
    assert page.evaluate("heard") == ["open", "ready", "question", "answer", "close"]


def test_answers_are_stopped_rated_and_asked_again(widget: WidgetPage, upstream: Upstream) -> None:
    rated: list[Any] = []

    def rate(route: Route) -> None:
        rated.append(route.request.post_data_json)
        route.fulfill(status=204)

    widget.page.route("**/api/messages/*/feedback", rate)
    widget.open()
    widget.ask_and_pause(upstream, "Question")
    widget.button("Stop").click()
    widget.expect_status("stopped")
    upstream.resume()
    widget.button("Retry").click()
    widget.expect_status("done")
    good, bad = widget.button("Good answer"), widget.button("Bad answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    bad.click()
    widget.frame.get_by_role("textbox", name="What was wrong, or missing?").fill("The version.")
    widget.frame.locator("form.why").get_by_role("button", name="Send").click()
    expect(widget.frame.locator("form.why")).to_have_count(0)
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(good).to_have_attribute("aria-pressed", "false")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "false")
    assert [(one["rating"], one["text"]) for one in rated] == [
        ("up", None), ("down", None), ("down", "The version."), (None, None)
    ]  # fmt: skip


SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({ value }) => value)))
        .observe({ type: "layout-shift", buffered: true });
}"""


def test_the_page_around_does_not_move(widget: WidgetPage) -> None:
    page = widget.page
    page.evaluate(SHIFTS)
    height = page.evaluate("document.documentElement.scrollHeight")
    widget.open()
    widget.ask("Question")
    widget.expect_status("done")
    page.keyboard.press("Escape")
    painted = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(painted)
    assert page.evaluate("shifts") == []
    assert page.evaluate("document.documentElement.scrollHeight") == height


def test_the_keyboard_opens_and_closes_it_and_the_focus_returns(
    site: Site, host: HostSite, context: BrowserContext
) -> None:
    widget = WidgetPage(context)
    page = widget.page
    page.add_init_script(OPENED)
    widget.go(host.address())
    button = page.get_by_role("button", name="Ask a question")
    expect(button).to_have_attribute("aria-expanded", "false")
    size = button.bounding_box()
    assert size is not None
    assert min(size["width"], size["height"]) >= 44
    page.get_by_role("link", name="Next").focus()
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(widget.composer).to_be_focused()
    expect(page.get_by_role("dialog", name="Ask a question")).to_be_visible()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("dialog")).to_have_count(0)
    # A page that was open before does not take the focus again.
    page.keyboard.press("Enter")
    expect(widget.composer).to_be_focused()
    widget.go(host.address("/next"))
    expect(widget.button(SUGGESTION)).to_be_visible()
    assert page.evaluate("document.activeElement === document.body")


def test_on_a_phone_it_fills_the_screen_and_keeps_the_focus(
    site: Site, host: HostSite, browser: Browser
) -> None:
    with visitor(browser, **PHONE) as context:
        widget = WidgetPage(context)
        page = widget.page
        page.add_init_script(OPENED)
        widget.go(host.address())
        button = page.get_by_role("button", name="Ask a question")
        button.tap()
        expect(widget.button(SUGGESTION)).to_be_visible()
        box = widget.frame.frame_element().bounding_box()
        assert box == {"x": 0, "y": 0, "width": 390, "height": 844}
        page.evaluate("() => addEventListener('focusin', ({ target }) => (window.escaped = target.nodeName))")
        for key in ["Tab"] * 12 + ["Shift+Tab"] * 12:
            page.keyboard.press(key)
        assert page.evaluate("window.escaped ?? 'DIV'") == "DIV"  # the root of the widget
        widget.button("Close").tap()
        expect(button).to_be_focused()


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_axe_finds_nothing_in_the_frame_and_at_the_button(
    site: Site, host: HostSite, context: BrowserContext, upstream: Upstream
) -> None:
    widget = WidgetPage(context)
    page = widget.page
    page.add_init_script(OPENED)
    widget.go(host.address())
    page.evaluate(AXE_SCRIPT)
    found = {"closed": page.evaluate(AXE)}
    page.get_by_role("button", name="Ask a question").click()
    expect(widget.button(SUGGESTION)).to_be_visible()
    widget.frame.evaluate(AXE_SCRIPT)

    def look(state: str) -> None:
        settled = "() => document.getAnimations().every((one) => !(one instanceof CSSTransition))"
        widget.frame.wait_for_function(settled)
        found[state] = widget.frame.evaluate(AXE)

    look("empty")
    found["open"] = page.evaluate(AXE)
    widget.page.route("**/api/messages/*/feedback", lambda it: it.fulfill(status=204))
    widget.ask_and_pause(upstream, "Question")
    look("answering")
    upstream.resume()
    widget.expect_status("done")
    look("done")
    widget.button("Bad answer").click()
    look("rated")
    assert found == {state: [] for state in found}


def test_the_first_view_takes_few_bytes_and_requests(
    site: Site, host: HostSite, context: BrowserContext, record_property: Callable[[str, object], None]
) -> None:
    """Beside it: Chainlit's widget takes 2.5 MB, a page of Gradio 444 kB in 85 requests."""
    widget = WidgetPage(context)
    page = widget.page
    sizes: dict[str, int] = {}

    def note(request: Any) -> None:
        if "assistant.localhost" in request.url:
            sizes[request.url] = sizes.get(request.url, 0) + request.sizes()["responseBodySize"]

    page.on("requestfinished", note)
    widget.go(host.address())
    loader = [size for url, size in sizes.items() if url.endswith("/v1.js")]
    assert len(loader) == 1
    assert loader[0] <= 5000
    started = page.evaluate("() => performance.now()")
    widget.press()
    expect(widget.button(SUGGESTION)).to_be_visible()
    ready = page.evaluate("() => performance.now()") - started
    wait_for(lambda: page.evaluate("1") and any(url.endswith("/api/engine") for url in sizes))
    frame = {url: size for url, size in sizes.items() if not url.endswith("/v1.js")}
    line = (
        f"widget: loader {loader[0]:,} bytes; frame {sum(frame.values()):,} bytes in {len(frame)} requests; "
        f"from the press to the frame {ready:.0f} ms ({PEERS})"
    )
    record_property("count", line)
    print(line)
    assert len(frame) <= 8
    assert sum(frame.values()) <= 60_000
