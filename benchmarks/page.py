"""What a growing answer costs the browser, compared with another checkout and with a page that renders anew.

    .venv/bin/python -m benchmarks.page [--base FOLDER] [--marked FILE] [PART ...]

FOLDER is another checkout of this project (`git worktree add FOLDER COMMIT` makes one). FILE is the ES module
of the npm package marked (`node_modules/marked/lib/marked.esm.js`). It is used as many chats use it: for each
piece, the whole text becomes HTML again. That is done here for every 20th piece, and the sums are multiplied.

The parts are

    answer   200 KB of prose, lists, tables and code in 2,000 pieces
    fence    one code block of 3,000 lines of Python, line by line
    table    one table of 32 KB, row by row
    bytes    what the browser loads, compressed by gzip

Each piece is appended in a frame of its own, and the view follows its end, in a window of 1280 by 800 with
the page's own styles. The time of script, of layout (with style) and of all work of the main thread are those
that Chromium counts. All parts take half an hour; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route, sync_playwright

from assistant.web.static_files import sent
from tests.support.application import ROOT

PARTS = ("answer", "fence", "table", "bytes")
LAST = {"fence": 300, "table": 20}  # the pieces at the end whose mean counts
EVERY = 20  # marked renders one piece of so many
IMPORT = re.compile(r"""(?:from|import)\s*["'](\./[\w./-]+)["']""")

WORDS = """
    the index keeps each request in order while a worker reads from its queue and returns what it found so
    that no lock is held for long because memory grows with every open file and the cache drops old entries
"""
CODE = {
    "python": '''@dataclass
class Entry{n}:
    """One entry of the cache."""

    key: str
    size: int = {n}

    def fits(self, limit: int) -> bool:
        # The head counts too.
        return self.size + 64 < limit

async def load_{n}(path: Path) -> Entry{n} | None:
    async with open_file(path, "rb") as file:
        text = await file.read()
    return Entry{n}(key=f"{path.name}-{len(text)}") if text else None
''',
    "javascript": """export async function load{n}(url) {
  const response = await fetch(`${url}/items/{n}`);
  if (!response.ok) throw new Error(`HTTP ${response.status}`); // the caller tells
  return (await response.json()).map(({ id, name }) => ({ id, label: name ?? "none" }));
}
""",
    "bash": """#!/bin/sh
set -eu
for file in *.log; do  # the oldest first
  gzip -9 "$file" && mv "$file.gz" "/archive/{n}/"
done
""",
    "json": """{
  "name": "service-{n}",
  "ports": [80{n}, 443],
  "debug": false,
  "owner": null
}
""",
    "sql": """SELECT name, count(*) AS total -- by owner
FROM items_{n} JOIN owners USING (owner_id)
WHERE created > '2026-01-01' AND size BETWEEN 1 AND {n}
GROUP BY name HAVING count(*) > 3;
""",
    "rust": """impl Iterator for Pages{n} {
    type Item = Result<Page, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let page = self.source.read("page")?; // may block
        self.at += {n};
        Some(Ok(page))
    }
}
""",
}

# What `show(piece)` does in each candidate's page, where `text` is the element of the answer's text.
OURS = """async () => {
    const { MarkdownView } = await import("/markdown.js");
    const view = new MarkdownView(text);
    window.show = (piece) => view.append(piece);
}"""
MARKED = """async () => {
    const { marked } = await import("/marked.js");
    let whole = "";
    window.show = (piece) => void (whole += piece);
    window.draw = () => void (text.innerHTML = marked.parse(whole));
}"""
# Append and scroll to the end, which lays out, as the page does. Gives the milliseconds that each piece took.
# The work is done in the frame's own callback, because Chromium does not count what follows an `await`.
GROW = """async ({ pieces, every }) => {
    const times = [];
    const draw = (piece) => {
        const started = performance.now();
        show(piece);
        window.draw?.();
        scroller.scrollTop = scroller.scrollHeight;
        times.push(performance.now() - started);
    };
    for (const [index, piece] of pieces.entries()) {
        if ((index + 1) % every) show(piece);
        else await new Promise((drawn) => requestAnimationFrame(() => drawn(draw(piece))));
    }
    return times;
}"""
BODY = """<!doctype html><title>page</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/chat.css">
<style>tech-chat { position: fixed !important; inset: 0 0 100px 16rem }</style>
<tech-chat><div class="scroller" id="scroller" tabindex="0"><div class="column"><div class="list">
<article class="message answer" data-status="streaming" aria-busy="true">
<div class="text" id="text"></div></article></div></div></div></tech-chat>"""


@dataclass(frozen=True)
class Candidate:
    name: str
    static: Path  # the folder of the page's scripts and styles
    marked: Path | None = None

    @property
    def every(self) -> int:
        return EVERY if self.marked else 1


@dataclass(frozen=True)
class Cost:
    """Seconds of the main thread, and the milliseconds of each piece (script and layout)."""

    script: float
    layout: float
    task: float
    pieces: Sequence[float]


def sentence(source: random.Random) -> str:
    words = source.choices(WORDS.split(), k=source.randint(8, 18))
    for form in ("`{}()`", "**{}**", "*{}*", "[{}](https://example.com/{})"):
        if source.random() < 0.3:
            at = source.randrange(len(words))
            words[at] = form.format(words[at], at)
    return " ".join(words).capitalize() + "."


def block(source: random.Random, number: int) -> str:
    kinds = ["prose", "heading", "list", "table", "code", "quote"]
    (kind,) = source.choices(kinds, weights=[10, 3, 3, 2, 5, 1])
    one, two, three = (sentence(source) for _ in range(3))
    match kind:
        case "heading":
            return f"## {one[:40]}"
        case "list":
            return f"- {one}\n- {two}\n  1. {three}\n  2. {one}\n- {three}"
        case "table":
            return f"| name | use | size |\n|---|:---|--:|\n| `a` | {one} | 1 |\n| b | {two} | {number} |"
        case "code":
            language = source.choice(list(CODE))
            return f"```{language}\n{CODE[language].replace('{n}', str(number))}```"
        case "quote":
            return f"> {one} {two}"
        case _:
            return f"{one} {two} {three}"


def answer(size: int) -> str:
    """The same mixed answer each time."""
    source = random.Random(7)
    text = ""
    while len(text) < size:
        text += block(source, len(text)) + "\n\n"
    return text[:size]


def python_lines(count: int) -> list[str]:
    lines = CODE["python"].splitlines()
    code = [lines[n % len(lines)].replace("{n}", str(n)) + "\n" for n in range(count)]
    return ["```python\n" + code[0], *code[1:]]


def table_rows(size: int) -> list[str]:
    source = random.Random(7)
    rows = [f"| `item_{n}` | {sentence(source)[:50]} | {n} |\n" for n in range(size // 70)]
    return ["| name | use | size |\n|---|:---|--:|\n" + rows[0], *rows[1:]]


def pieces_of(part: str, options: argparse.Namespace) -> list[str]:
    if part == "fence":
        return python_lines(options.lines)
    if part == "table":
        return table_rows(32_000)
    text = answer(100 * options.pieces)
    return [text[at : at + 100] for at in range(0, len(text), 100)]


def open_page(browser: Browser, candidate: Candidate, asked: list[Path]) -> Page:
    def serve(route: Route) -> None:
        name = route.request.url.partition("localhost/")[2]
        if not name:
            route.fulfill(content_type="text/html", body=BODY)
            return
        path = candidate.marked if name == "marked.js" and candidate.marked else candidate.static / name
        asked.append(path)
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        route.fulfill(content_type=kind, path=path)

    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.route("http://localhost/**", serve)
    page.goto("http://localhost/")
    page.evaluate(MARKED if candidate.marked else OURS)
    return page


def grow(browser: Browser, candidate: Candidate, pieces: list[str], last: int) -> Cost:
    """Let an answer grow by these pieces; the sums are those of the `last` ones."""
    page = open_page(browser, candidate, [])
    chromium = page.context.new_cdp_session(page)
    chromium.send("Performance.enable")

    def seconds() -> dict[str, float]:
        return {each["name"]: each["value"] for each in chromium.send("Performance.getMetrics")["metrics"]}

    def write(some: list[str]) -> list[float]:
        return list(page.evaluate(GROW, {"pieces": some, "every": candidate.every}))

    times = write(pieces[:-last])
    before = seconds()
    times += write(pieces[-last:])
    after = seconds()
    page.context.close()

    def sum_of(*names: str) -> float:
        return candidate.every * sum(after[name] - before[name] for name in names)

    script, layout = sum_of("ScriptDuration"), sum_of("LayoutDuration", "RecalcStyleDuration")
    return Cost(script, layout, sum_of("TaskDuration"), times)


def compressed(paths: set[Path]) -> int:
    return sum(len(sent(path)) for path in paths)


def modules(path: Path, known: set[Path]) -> set[Path]:
    """A module and all that it imports at once."""
    if path not in known and path.is_file():
        known.add(path)
        for name in IMPORT.findall(path.read_text()):
            modules((path.parent / name).resolve(), known)
    return known


def first_bytes(browser: Browser, candidate: Candidate) -> int:
    """The compressed bytes of what the browser loads to show Markdown with a block of Python."""
    asked: list[Path] = []
    page = open_page(browser, candidate, asked)
    page.evaluate("show('# Title\\n\\n```python\\nprint(1)\\n```\\n\\nThe end.')")
    page.wait_for_load_state("networkidle")
    page.context.close()
    return compressed({path for path in asked if path.suffix == ".js" and path.name != "dom.js"})


def rows_of(part: str, browser: Browser, candidate: Candidate, options: argparse.Namespace) -> dict[str, str]:
    if part == "bytes":
        rows = {"Markdown with Python, bytes": f"{first_bytes(browser, candidate):,}"}
        if not candidate.marked:
            rows["the page's modules, bytes"] = (
                f"{compressed(modules(candidate.static / 'page.js', set())):,}"
            )
        return rows
    pieces = pieces_of(part, options)
    if part == "answer":
        cost = grow(browser, candidate, pieces, len(pieces))
        name = f"answer of {len(pieces) / 10:.0f} KB"
        return {
            f"{name}: script, s": f"{cost.script:.1f}",
            f"{name}: layout, s": f"{cost.layout:.1f}",
            f"{name}: main thread, s": f"{cost.task:.1f}",
            f"{name}: worst piece, ms": f"{max(cost.pieces):.0f}",
        }
    last = min(LAST[part], len(pieces))
    cost = grow(browser, candidate, pieces, last)
    name = f"fence, last {last} lines" if part == "fence" else f"table, last {last} rows"
    return {
        f"{name}: script, ms each": f"{1000 * cost.script / last:.1f}",
        f"{name}: layout, ms each": f"{1000 * cost.layout / last:.1f}",
        f"{name}: main thread, ms each": f"{1000 * cost.task / last:.1f}",
        f"{part}: worst of all {len(pieces):,}, ms": f"{max(cost.pieces):.0f}",
    }


def table(columns: dict[str, dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = ["".join([f"{'':<44}", *(f"{name:>18}" for name in columns)])]
    lines += [
        "".join([f"{name:<44}", *(f"{column.get(name, ''):>18}" for column in columns.values())]).rstrip()
        for name in names
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("parts", nargs="*", metavar="PART", help="what to measure (default: all)")
    add("--base", type=Path, metavar="FOLDER", help="another checkout of this project")
    add("--marked", type=Path, metavar="FILE", help="the ES module of marked")
    add(
        "--pieces",
        type=int,
        default=2000,
        help="of the answer, 100 characters each (default: %(default)s)",
    )
    add("--lines", type=int, default=3000, help="lines of the fence (default: %(default)s)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    static = Path("assistant", "web", "static")
    candidates = [Candidate("this checkout", ROOT / static)]
    if options.base:
        candidates.append(Candidate("base", options.base.resolve() / static))
    if options.marked:
        candidates.append(Candidate("marked", ROOT / static, options.marked))
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    columns: dict[str, dict[str, str]] = {candidate.name: {} for candidate in candidates}
    with sync_playwright() as playwright:
        for part in options.parts or PARTS:
            for candidate in candidates:
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                columns[candidate.name] |= rows_of(part, browser, candidate, options)
                browser.close()
    print(table(columns))


if __name__ == "__main__":
    main()
