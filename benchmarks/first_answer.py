"""How soon a browser shows the first useful answer, on a machine without network and model.

    .venv/bin/python -m benchmarks.first_answer

Runs `sh scripts/run --offline` with an empty data directory. A Chromium that is already open goes to its
address as soon as the application listens there, and sends a question as soon as the composer appears. All
times are in seconds from the command: to the first success of `/ready`, to the composer, to the answer with
the right name in it, and to the end of reading the documentation. A second start, with the documentation that
the first has read, is measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.startup import PATIENCE, PAUSE, Program, free_port, is_ready, row

QUESTION = "How do I remove a folder with everything in it?"
NAME = "shutil.rmtree"


@dataclass
class Starts:
    """Seconds from the command for each start."""

    ready: list[float] = field(default_factory=list)
    composer: list[float] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)


def start(browser: Browser, data: Path, starts: Starts) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["sh", "scripts/run", "--offline", "--port", str(port), "--data", str(data)]
    visitor = {"TECH_ASSISTANT_MODEL": "", "TECH_ASSISTANT_DOCUMENTATION": ""}  # as if unset
    with Program([*command, "--no-open-browser"], **visitor) as program:
        starts.ready.append(program.seconds_until(f"{address}/ready", is_ready))
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.goto(address)
        composer = page.get_by_role("textbox", name="Your question")
        composer.wait_for()
        starts.composer.append(time.monotonic() - program.started)
        composer.fill(QUESTION)
        composer.press("Enter")
        answer = page.get_by_role("article", name="Answer")
        expect(answer).to_contain_text(NAME, timeout=PATIENCE * 1000)
        starts.answer.append(time.monotonic() - program.started)
        while httpx.get(f"{address}/api/engine").json()["documentation"]["state"] == "building":
            time.sleep(PAUSE)
        starts.read.append(time.monotonic() - program.started)
        context.close()


def table(first: Starts, second: Starts) -> str:
    return "\n".join(
        [
            f"{'seconds from the command':<34}{'first start':>24}{'second start':>24}{'ratio':>8}",
            row("to /ready", first.ready, second.ready),
            row("to the composer", first.composer, second.composer),
            row("to the answer", first.answer, second.answer),
            row("to the end of reading", first.read, second.read),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_answer", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="pairs of starts (default: %(default)s)")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be positive")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    first, second = Starts(), Starts()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                start(browser, Path(folder) / "data", first)
                start(browser, Path(folder) / "data", second)
        browser.close()
    print(table(first, second))


if __name__ == "__main__":
    main()
