"""`python -m assistant.knowledge`: build or refresh an index of documentation, or search one.

A build prints one JSON object a line, for the application that started it; a search prints for people.
"""

# ruff: noqa: T201 - printing is what it does

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index, IndexFailed

NICENESS = 10


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.command == "search":
        return _search(options.into, " ".join(options.question), options.limit)
    if options.exit_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICENESS)  # the application's answers come first
    passages = 0

    def say(told: Mapping[str, Any]) -> None:
        nonlocal passages
        passages = told.get("passages", passages)
        print(json.dumps(told), flush=True)

    try:
        build(
            options.into,
            say,
            environments=options.packages,
            folders=options.docs,
            python=not options.no_python,
        )
    except IndexFailed as error:
        say({"state": "failed", "detail": str(error)})
        return 1
    except BrokenPipeError:  # nobody listens any more
        return 1
    say({"state": "ready", "passages": passages})
    return 0


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # what was written is whole; the readers end with this process


def _search(into: Path, question: str, limit: int) -> int:
    from assistant.knowledge.search import search

    try:
        index = Index(into)
    except IndexFailed as error:
        print(error, file=sys.stderr)
        return 1
    with contextlib.closing(index):
        try:
            found = search(index, question, limit=limit)
        except sqlite3.Error as error:
            print(index.failed(error), file=sys.stderr)
            return 1
    for passage in found.passages:
        print(passage.signature or passage.title)
        print("  " + " ".join(part for part in (passage.package, passage.version, passage.location) if part))
        for line in passage.text[:600].splitlines():
            print(f"    {line}")
        print()
    if found.unknown:
        print(f"There is no {found.unknown}. " + ", ".join(found.did_you_mean))
    elif not found.passages:
        print("The documentation has nothing on this.")
    return 0


def _folder(text: str) -> Folder:
    """`PATH` or `PATH=URL`; a path with "=" in it is one where it exists."""
    path, _, url = text.rpartition("=")
    if path and url.startswith(("http://", "https://")):
        return Folder(Path(path).expanduser(), url)
    return Folder(Path(text).expanduser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m assistant.knowledge", description="An index of the documentation on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build an index, or bring one up to date")
    building.add_argument("--into", type=Path, required=True, metavar="FILE")
    building.add_argument(
        "--packages",
        type=lambda text: Path(text).expanduser(),
        action="append",
        default=[],
        metavar="PYTHON",
        help="an interpreter or an environment's folder, whose packages are read (several)",
    )
    building.add_argument(
        "--docs",
        type=_folder,
        action="append",
        default=[],
        metavar="PATH[=URL]",
        help="a folder of documentation, and where it can be read (several)",
    )
    building.add_argument("--no-python", action="store_true", help="leave the standard library out")
    building.add_argument(
        "--exit-with-stdin", action="store_true", help="end when standard input does: never outlive a parent"
    )
    searching = commands.add_parser("search", help="search an index")
    searching.add_argument("--into", type=Path, required=True, metavar="FILE", help="the index")
    searching.add_argument("--limit", type=int, default=4)
    searching.add_argument("question", nargs="+")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
