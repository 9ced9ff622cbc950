"""diagrams.js: the picture of a Mermaid block, drawn by the real library in the frame of the server."""

from __future__ import annotations

import pytest
from playwright.sync_api import FrameLocator, Locator, Page, Route, expect

from tests.browser.chat_page import ChatPage

# A diagram of each kind, and words that stand in its picture.
KINDS = {
    "flowchart": ("flowchart TD\n A[Start] -->|go| B{Done?}\n B --> C[(Store)]", ["Start", "go", "Store"]),
    "sequence": ("sequenceDiagram\n Alice->>Bob: Hello\n Bob-->>Alice: Hi", ["Alice", "Hello"]),
    "class": ("classDiagram\n Animal <|-- Duck\n class Duck {\n  +swim() void\n }", ["Animal", "swim"]),
    "state": ("stateDiagram-v2\n [*] --> Idle\n Idle --> Busy: job", ["Idle", "job"]),
    "er": ("erDiagram\n USER ||--o{ ORDER : places\n USER {\n  string name\n }", ["ORDER", "places"]),
    "gantt": ("gantt\n title Plan\n section One\n Draw :a, 2026-01-01, 3d\n Do :after a, 5d", ["Plan", "Do"]),
    "pie": ('pie title Pets\n "Dogs" : 3\n "Cats" : 2', ["Pets", "Cats"]),
    "mindmap": ("mindmap\n  root((Python))\n    Web\n    Data", ["Python", "Web"]),
    "git": ("gitGraph\n commit id: 'first'\n branch dev\n commit id: 'second'", ["first", "dev"]),
    "journey": ("journey\n title Day\n section Work\n  Make tea: 5: Me", ["Day", "Make tea"]),
    "timeline": ("timeline\n title History\n 2004 : Facebook", ["History", "Facebook"]),
    "quadrant": ("quadrantChart\n title Reach\n x-axis Low --> High\n A: [0.3, 0.6]", ["Reach", "High"]),
    "chart": ("xychart-beta\n title Sales\n x-axis [jan, feb]\n bar [5, 6]", ["Sales", "feb"]),
    "another layout": ("---\nconfig:\n  layout: elk\n---\nflowchart LR\n A[One] --> B[Two]", ["One", "Two"]),
    "formula": ('flowchart LR\n A["$$x^2$$"] --> B[Two]', ["x^2", "Two"]),
}  # fmt: skip

# What a model may be made to write. `E` is an address that no request may reach.
HOSTILE = {
    "script in a label": 'flowchart TD\n A["<script>alert(1)</script><img src=E/a onerror=alert(1)>"]',
    "frame in a label": 'flowchart TD\n A["<iframe src=E/b></iframe><object data=E/c></object>"]',
    "style in a label": 'flowchart TD\n A["<style>@import url(E/d); *{background:url(E/e)}</style>x"]',
    "click": 'flowchart TD\n A[Here]\n click A href "javascript:alert(1)" "tip"',
    "call": "flowchart TD\n A[Here]\n click A call alert(1)",
    "loose": '%%{init: {"securityLevel": "loose", "htmlLabels": true}}%%\nflowchart TD\n A["<img src=E/f>"]\n'
    " click A call alert(1)",
    "theme": '%%{init: {"themeCSS": "@import url(E/g); * { background: url(E/h) }"}}%%\nflowchart TD\n A[x]',
    "font": '%%{init: {"fontFamily": "x; } @import url(E/i); * { color: url(E/j)"}}%%\nflowchart TD\n A',
    "colour": '%%{init: {"themeVariables": {"primaryColor": "url(E/k)"}}}%%\nflowchart TD\n A[x]',
    "image": 'flowchart TD\n A@{ img: "E/n", label: "x" }',
    "icon": 'flowchart TD\n A@{ icon: "evil:o", label: "x" }',
    "sequence": 'sequenceDiagram\n participant A\n link A: B @ javascript:alert(1)\n A->>A: <img src="E/p">',
    "class link": 'classDiagram\n class A\n link A "javascript:alert(1)" "tip"',
    "prototype": '%%{init: {"__proto__": {"securityLevel": "loose"}}}%%\nflowchart TD\n A["<img src=E/q>"]',
}  # fmt: skip

# A code block as markdown.js makes it.
ADD = """async (source) => {
    const { diagramButton } = await import("/ui/diagrams.js");
    const { element } = await import("/ui/dom.js");
    const pre = element("pre", {}, element("code", {}, source));
    const head = element("figcaption", {}, diagramButton(() => pre.textContent));
    const figure = element("figure", { class: "code" }, head, pre);
    document.querySelector("tech-chat").replaceChildren(element("div", { class: "text" }, figure));
}"""


def add(page: Page, source: str) -> tuple[Locator, FrameLocator]:
    """A code block, and its picture once the button was pressed."""
    page.evaluate(ADD, source)
    figure = page.locator("tech-chat figure")
    return figure, figure.frame_locator("iframe")


def show(figure: Locator) -> None:
    """Press the button, and wait for the picture's size or for the reason why there is none."""
    figure.get_by_role("button", name="Show diagram").click()
    expect(figure.locator("iframe[style], .reason")).to_be_visible()


def test_draws_each_kind(chat: ChatPage) -> None:
    found = {}
    for kind, (source, words) in KINDS.items():
        figure, picture = add(chat.page, source)
        show(figure)
        if figure.locator("iframe").count():
            text = picture.locator("svg").first.text_content() or ""
            box = picture.locator("svg").first.bounding_box() or {"width": 0, "height": 0}
            found[kind] = all(word in text for word in words) and min(box["width"], box["height"]) > 20
    assert found == dict.fromkeys(KINDS, True)


def test_hostile_sources_do_nothing(chat: ChatPage) -> None:
    page, happened = chat.page, []

    def reached(route: Route) -> None:  # unlike a request that the policy of the frame stops
        happened.append(route.request.url)
        route.abort()

    page.context.route(lambda url: not url.startswith(chat.address), reached)
    page.context.on("page", lambda page: happened.append(page.url))
    page.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    page.on("framenavigated", lambda frame: frame.url == frames or happened.append(frame.url))
    frames, drawn = f"{chat.address}/ui/diagram.html", set()
    for name, source in HOSTILE.items():
        figure, picture = add(page, source.replace("E/", "http://evil.test/"))
        show(figure)
        if figure.locator("iframe").count():
            drawn.add(name)
            for part in picture.locator(".node, .actor, a").all():
                part.dispatch_event("click")
            assert picture.locator("script, iframe, object, [onerror], a[*|href^=javascript]").count() == 0
    assert happened == []
    # The others reached the library. It does not draw a picture whose image may not be loaded.
    assert set(HOSTILE) - drawn == {"image"}


def test_the_code_returns_when_asked_for_and_when_the_source_is_wrong(chat: ChatPage) -> None:
    figure, _ = add(chat.page, "flowchart TD\n A --> B")
    show(figure)
    expect(figure.locator("pre")).to_be_hidden()
    figure.get_by_role("button", name="Show code").click()
    expect(figure.locator("pre")).to_be_visible()
    expect(figure.locator("iframe")).to_have_count(0)
    figure.locator("code").evaluate("code => code.textContent = 'flowchart TD\\n A[<b>'")
    show(figure)
    expect(figure.locator("pre")).to_be_visible()
    expect(figure.get_by_role("alert")).to_contain_text("The diagram cannot be drawn. Parse error on line")
    figure.locator("code").evaluate("code => code.textContent = 'pie\\n \"Cats\" : 2'")
    show(figure)
    expect(figure.get_by_role("alert")).to_have_count(0)


def test_gives_up_on_a_frame_that_does_not_answer(chat: ChatPage) -> None:
    page = chat.page
    page.route("**/ui/diagram.html", lambda route: route.fulfill(content_type="text/html", body="<p>x</p>"))
    page.clock.install()
    figure, picture = add(page, "pie")
    figure.get_by_role("button").click()
    expect(picture.locator("p")).to_have_text("x")
    page.evaluate("postMessage({ error: 'from the page itself' })")
    page.clock.fast_forward(19_000)
    expect(figure.locator("iframe")).to_be_visible()
    page.clock.fast_forward(2_000)
    expect(figure.get_by_role("alert")).to_have_text("The diagram is not drawn yet. It may be too large.")
    expect(figure.locator("pre")).to_be_visible()


@pytest.mark.parametrize("look", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_a_picture_has_the_colours_of_the_page(chat: ChatPage, look: dict[str, str]) -> None:
    figure, picture = add(chat.page, "flowchart TD\n A[Text]")
    show(figure)
    expect(picture.locator(":root")).to_have_css("color-scheme", look["color_scheme"])
