"""formulas.js: which formulas are drawn, and that no formula does harm."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat_page import ChatPage

# As language models write them.
FORMULAS = r"""
x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
\sum_{i=1}^{n} i = \frac{n(n+1)}{2}, \quad \prod_{\substack{1 \le i \le n \\ i \ne j}} a_{ij}
\int_0^\infty e^{-x^2} \, dx = \frac{\sqrt{\pi}}{2}, \quad \oint_{\partial S} \mathbf{F} \cdot d\mathbf{r}
\begin{aligned} a &= b + c \\ &= d + e \end{aligned}
\begin{align*} \nabla \cdot \mathbf{E} &= \frac{\rho}{\varepsilon_0} \\ \nabla \times \mathbf{B} &= \mu_0 \mathbf{J} \end{align*}
\begin{align} f(x) &= x^2 \tag{1} \\ g(x) &= \int f \, dx \tag{2} \end{align}
\begin{equation} \label{eq:1} E = mc^2 \end{equation}
\begin{gathered} a = b \\ c = d \end{gathered} \begin{split} a &= b \\ &= c \end{split}
|x| = \begin{cases} x, & \text{if } x \geq 0, \\[4pt] -x, & \text{otherwise.} \end{cases}
\begin{pmatrix} a & b \\ c & d \end{pmatrix} \begin{bmatrix} 1 \\ 0 \end{bmatrix} \begin{vmatrix} a \end{vmatrix}
\left( \begin{array}{cc|c} 1 & 2 & 3 \\ \hline 4 & 5 & 6 \end{array} \right)
\begin{matrix} 1 & \cdots & n \\ \vdots & \ddots & \vdots \end{matrix} \begin{smallmatrix} a \end{smallmatrix}
\mathbb{R}^n \subset \mathcal{L}, \mathfrak{g}, \mathscr{F}, \mathsf{x}, \mathtt{x}, \boldsymbol{\theta}, \bm{x}
\operatorname{softmax}(z)_i = \frac{e^{z_i}}{\sum_j e^{z_j}}, \quad \operatorname*{arg\,max}_{\theta} \mathcal{L}(\theta)
\text{Attention}(Q, K, V) = \text{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right)V
P(A \mid B) = \frac{P(B \mid A)\,P(A)}{P(B)}, \quad \Pr[X \ge a] \le \frac{\mathbb{E}[X]}{a}
\overbrace{a + b}^{\text{sum}} + \underbrace{d + e}_{n} + \widehat{ABC} + \overrightarrow{AB} + \hat{y} + \vec{w}
\left\lfloor \frac{x}{2} \right\rfloor + \left\| \frac{A}{B} \right\|_F + \left. \frac{d}{dx} f \right|_{x=0}
a \equiv b \pmod{n}, \forall x \in X, \exists y \notin Y \implies f(x) \ne f(y) \iff \neg p \land q
\boxed{x = 42} \cancel{x} \xrightarrow{\text{heat}} \stackrel{?}{=} \overset{!}{=} \color{red}{x} \textcolor{#00f}{y}
\text{面积} = \pi r^2, \quad 速度 = \frac{距离}{时间}
α + β = γ, ∑ x ≤ ∞, ℝ → ℂ, x² + y²
5\,\text{km/h} \approx 1.39\,\mathrm{m\,s^{-1}}, \quad \$100 \times 1.05, \quad 50\%, \quad 90^\circ
\ce{2H2 + O2 -> 2H2O}, \quad \ce{SO4^2- + Ba^2+ -> BaSO4 v}
\def\R{\mathbb{R}} \newcommand{\norm}[1]{\left\lVert #1 \right\rVert} \norm{x} \in \R, \quad \mbox{text}
""".strip().splitlines()  # noqa: E501

# Each stays the text that it is.
REFUSED = {
    "unfinished": r"\frac{1}{",
    "unknown": r"\nosuchthing{x}",
    "link": r"\href{javascript:alert(1)}{x}",
    "address": r"\url{https://evil.test/}",
    "image": r"\includegraphics{https://evil.test/x.png}",
    "attribute": r"\htmlData{x=y}{x} \htmlId{tech-page}{x}",
    "style": r"\htmlStyle{position: fixed; background: url(https://evil.test/)}{x}",
    "colour": r"\color{url(https://evil.test/)}{x}",
    "endless macro": r"\def\a{\a\a}\a",
    "growing macros": r"\def\a{" + "x" * 200 + r"}\def\b{\a\a\a\a\a\a\a\a}\b\b\b\b\b\b\b\b\b\b",
    "long": "x" * 1501,
    "many parts": "x+" * 750,
    "nested roots": r"\sqrt{" * 150 + "x" + "}" * 150,
    "nested sizes": r"{\Huge " * 150 + "x" + "}" * 150,
    "nested braces": "{" * 700 + "x" + "}" * 700,
}

# What stands on the page for some formulas, after the browser has drawn what it draws.
SHOW = """async ([sources, isBlock]) => {
    const { formula } = await import("/markdown.js");
    const nodes = sources.map((source) => formula(source, isBlock));
    document.body.append(...nodes);
    const isDrawn = (node) => node.querySelector(".katex math") !== null;
    while (!nodes.every((node) => node.title || isDrawn(node))) await new Promise(requestAnimationFrame);
    const found = nodes.map((node) => ({
        source: node.dataset.tex,
        text: node.textContent,
        isDrawn: isDrawn(node),
        foreign: node.querySelectorAll("a, img, script, iframe, [id], [href], [src]").length,
    }));
    for (const node of nodes) node.remove();
    return found;
}"""


# Lets a test write the events of the next reply by `write(name, data)`.
WRITE = """() => {
    const { fetch } = window;
    window.fetch = (address, options) => {
        if (!String(address).includes("/events")) return fetch(address, options);
        const body = new ReadableStream({
            start(stream) {
                window.write = (name, data) => {
                    const event = `event: ${name}\\ndata: ${JSON.stringify(data)}\\n\\n`;
                    stream.enqueue(new TextEncoder().encode(event));
                };
            },
        });
        return Promise.resolve(new Response(body, { headers: { "Content-Type": "text/event-stream" } }));
    };
}"""


def shown(page: Page, sources: list[str], *, block: bool) -> list[dict[str, Any]]:
    return list(page.evaluate(SHOW, [sources, block]))


def test_draws_what_language_models_write(blank: Page) -> None:
    found = shown(blank, FORMULAS, block=True)
    assert [each["source"] for each in found if each["isDrawn"] and not each["foreign"]] == FORMULAS


@pytest.mark.parametrize("block", [False, True], ids=["inline", "block"])
def test_what_cannot_be_drawn_stays_as_it_was(blank: Page, block: bool) -> None:
    shown(blank, ["x"], block=block)  # loads the library
    happened: list[str] = []
    blank.on("request", lambda request: happened.append(request.url))
    blank.on("dialog", lambda dialog: happened.append(dialog.message))
    found = shown(blank, list(REFUSED.values()), block=block)
    assert [name for name, each in zip(REFUSED, found, strict=True) if each["isDrawn"]] == []
    start, end = ("$$", "$$") if block else (r"\(", r"\)")
    assert [each["text"] for each in found] == [start + source + end for source in REFUSED.values()]
    assert happened == []


def test_a_macro_ends_with_its_formula(blank: Page) -> None:
    shown(blank, [r"\gdef\x{y} \x"], block=False)
    (after,) = shown(blank, [r"\x"], block=False)
    assert not after["isDrawn"]


def test_the_library_is_loaded_with_the_first_formula_and_again_after_a_failure(chat: ChatPage) -> None:
    page, library = chat.page, "**/vendor/katex.js"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route(library, lambda route: route.abort())
    page.evaluate("async () => { window.formula = (await import('/ui/markdown.js')).formula; }")
    assert not [url for url in asked if "katex" in url]
    with page.expect_event("requestfailed"):
        page.evaluate("document.body.append(formula('x^2', true))")
    first = page.locator(".formula").first
    expect(first).to_have_text("$$x^2$$")
    page.unroute(library)
    page.evaluate("document.body.append(formula('y', false))")
    expect(page.locator(".formula .katex-html")).to_have_text(["x2", "y"])
    # The page's policy allows the style sheet and the fonts.
    page.wait_for_function("[...document.fonts].some((font) => font.status === 'loaded')")
    expect(first.locator(".katex-mathml")).to_have_css("position", "absolute")


def test_a_screen_reader_reads_out_the_source_of_a_formula_once(chat: ChatPage) -> None:
    chat.page.evaluate(WRITE)
    chat.ask("What is the area?")
    chat.page.wait_for_function("'write' in window")
    chat.page.evaluate(r"write('delta', { text: 'It is \\(x^2\\) ' })")
    expect(chat.answer.locator(".katex")).to_be_visible()
    chat.page.evaluate(r"write('delta', { text: 'here.\n\n$$y = 1$$\n\nThe end' })")
    expect(chat.answer.locator(".katex-display")).to_be_visible()
    expect(chat.spoken.filter(has_text="It is")).to_have_text("It is x^2 here.")
