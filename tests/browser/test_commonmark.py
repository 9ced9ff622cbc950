"""The examples of the CommonMark specification, as the page renders them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.support import commonmark

# They have raw HTML, which the page shows as the text that it is: two chapters, and single ones elsewhere.
RAW_HTML = {
    *range(148, 192), *range(613, 633), 21, 31, 201, 308, 309, 344, 475, 476, 477, 491,
    494, 524, 536, 642, 643,
}  # fmt: skip
# Bare addresses become links, as on GitHub.
DELIBERATE = {608, 611, 612}

COMPARE = """([text, html]) => {
    const ours = render([text]);
    const byLetters = render([...text]);
    const theirs = new DOMParser().parseFromString(html, "text/html").body;

    const linkOf = (address, ...nodes) => {
        const url = URL.canParse(address) ? new URL(address) : null;
        const isSafe = url && ["http:", "https:", "mailto:"].includes(url.protocol);
        const link = document.createElement(isSafe ? "a" : "span");
        if (isSafe) link.href = url.href;
        link.append(...nodes);
        return link;
    };
    for (const image of theirs.querySelectorAll("img")) {
        image.replaceWith(linkOf(image.getAttribute("src"), image.alt.trim() || "image"));
    }
    for (const link of theirs.querySelectorAll("a[href]")) {
        link.replaceWith(linkOf(link.getAttribute("href"), ...link.childNodes));
    }
    for (const heading of ours.querySelectorAll("[data-level]")) {
        const other = document.createElement(`h${heading.dataset.level}`);
        other.append(...heading.childNodes);
        heading.replaceWith(other);
    }
    for (const figure of ours.querySelectorAll("figure")) figure.replaceWith(figure.querySelector("pre"));
    for (const pre of [...ours.querySelectorAll("pre"), ...theirs.querySelectorAll("pre")]) {
        pre.textContent = pre.textContent.replace(/\\n$/, "");
    }
    for (const node of [...ours.querySelectorAll("*"), ...theirs.querySelectorAll("*")]) {
        for (const name of node.getAttributeNames()) {
            if (!["href", "start"].includes(name)) node.removeAttribute(name);
        }
    }
    const BLOCK = /\\s*(<\\/?(?:p|ul|ol|li|blockquote|h[1-6]|hr|pre)(?: [^>]*)?>)\\s*/g;
    const plain = (node) => node.innerHTML.replace(/\\s*\\n\\s*/g, "\\n").replace(BLOCK, "$1").trim();
    return [render([text]).innerHTML === byLetters.innerHTML, plain(ours), plain(theirs)];
}"""


@pytest.mark.skipif(not commonmark.SPECIFICATION.exists(), reason="scripts/test could not download it")
def test_all_examples_but_those_with_raw_html_render_as_specified(blank: Page) -> None:
    examples = commonmark.examples()
    assert len(examples) == 652
    results = blank.evaluate(f"(examples) => examples.map({COMPARE})", examples)
    differing = {number for number, (_, ours, theirs) in enumerate(results, start=1) if ours != theirs}
    assert differing - RAW_HTML == DELIBERATE
    assert [number for number, (is_same, *_) in enumerate(results, start=1) if not is_same] == []
