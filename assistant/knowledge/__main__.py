"""`python -m assistant.knowledge`: build an index of documentation, bring one up to date or search one, and
fetch the documentation of a site into a folder.

A build prints one JSON object a line, for the application that started it. The others print for people.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sqlite3
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index, IndexFailed
from assistant.knowledge.reading.folders import printable

NICENESS = 10


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.command == "search":
        return _search(options.into, " ".join(options.question), options.limit)
    if options.exit_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    if options.command == "fetch":
        return _fetch(options)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICENESS)  # the application's replies come first
    passages = 0

    def report(progress: Mapping[str, Any]) -> None:
        nonlocal passages
        passages = progress.get("passages", passages)
        print(json.dumps(progress), flush=True)

    try:
        build(
            options.into,
            report,
            environments=options.packages,
            folders=options.docs,
            python=not options.no_python,
        )
    except IndexFailed as error:
        report({"state": "failed", "detail": str(error)})
        return 1
    except BrokenPipeError:  # the application has ended
        return 1
    report({"state": "ready", "passages": passages})
    return 0


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # the index stays consistent, and the reading processes end with this one


def _search(into: Path, question: str, limit: int) -> int:
    from assistant.knowledge.search.search import search

    try:
        index = Index(into)
    except IndexFailed as error:
        print(error, file=sys.stderr)
        return 1
    with contextlib.closing(index):
        try:
            result = search(index, question, limit=limit)
        except sqlite3.Error as error:
            print(index.failed(error), file=sys.stderr)
            return 1
    for passage in result.passages:
        print(passage.signature or passage.title)
        print("  " + " ".join(part for part in (passage.package, passage.version, passage.location) if part))
        for line in passage.text[:600].splitlines():
            print(f"    {line}")
        print()
    if result.unknown:
        suggestion = f" Did you mean {', '.join(result.did_you_mean)}?" if result.did_you_mean else ""
        print(f"There is no {result.unknown}.{suggestion}")
    elif not result.passages:
        print("The documentation has no answer to this question.")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from assistant.knowledge.crawling.crawl import Limits, crawl
    from assistant.knowledge.crawling.page_folder import CrawlFailed

    limits = Limits(pages=options.most_pages, seconds=options.most_seconds, pause=options.pause)

    def report(event: str, address: str, reason: str) -> None:
        if event != "unchanged":
            print(f"{event}  {printable(address)}{reason and f': {printable(reason)}'}", flush=True)

    try:
        crawled = crawl(
            options.address,
            options.folder,
            limits=limits,
            private_hosts=options.allow_private_host,
            report=report,
        )
    except CrawlFailed as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    counts = {
        "fetched": len(crawled.fetched),
        "unchanged": len(crawled.unchanged),
        "removed": len(crawled.removed),
        "skipped": len(crawled.skipped),
    }
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + ".")
    if crawled.stopped:
        print(crawled.stopped)
    print(f"Read the pages with: --docs {shlex.quote(f'{options.folder}={options.address}')}")
    return 0


def _folder(text: str) -> Folder:
    """Parses `PATH` or `PATH=URL`. A "=" that no address follows belongs to the path."""
    path, _, url = text.rpartition("=")
    if path and url.startswith(("http://", "https://")):
        return Folder(Path(path).expanduser(), url)
    return Folder(Path(text).expanduser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m assistant.knowledge",
        description="Builds and searches an index of documentation, and fetches the documentation of a site.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build an index, or bring one up to date")
    building.add_argument("--into", type=Path, required=True, metavar="FILE", help="the file of the index")
    building.add_argument(
        "--packages",
        type=lambda text: Path(text).expanduser(),
        action="append",
        default=[],
        metavar="PYTHON",
        help="read the packages of this environment, given as its interpreter or folder (repeatable)",
    )
    building.add_argument(
        "--docs",
        type=_folder,
        action="append",
        default=[],
        metavar="PATH[=URL]",
        help="read this folder of documentation, whose address on the web is URL (repeatable)",
    )
    building.add_argument("--no-python", action="store_true", help="leave out the standard library")
    searching = commands.add_parser("search", help="search an index")
    searching.add_argument("--into", type=Path, required=True, metavar="FILE", help="the file of the index")
    searching.add_argument("--limit", type=int, default=4, help="the most passages to print")
    searching.add_argument("question", nargs="+")
    fetching = commands.add_parser(
        "fetch", help="fetch the documentation of a site, or what has changed of it"
    )
    fetching.add_argument("address", metavar="ADDRESS", help="where the documentation begins on the web")
    fetching.add_argument(
        "folder", type=lambda text: Path(text).expanduser(), metavar="FOLDER", help="the folder for the pages"
    )
    fetching.add_argument(
        "--most-pages", type=_count, default=2_000, metavar="N", help="the most pages to fetch"
    )
    fetching.add_argument(
        "--most-seconds",
        type=_count,
        default=3_600,
        metavar="N",
        help="the longest time; fetch again to go on",
    )
    fetching.add_argument(
        "--pause", type=float, default=0.5, metavar="SECONDS", help="the time between two requests"
    )
    fetching.add_argument(
        "--allow-private-host",
        action="append",
        default=[],
        metavar="NAME",
        help="let this host have an address of a private network (repeatable)",
    )
    for each in (building, fetching):
        each.add_argument(
            "--exit-with-stdin",
            action="store_true",
            help="exit when standard input closes, as when a parent ends",
        )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
