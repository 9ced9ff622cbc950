"""Reads plain texts in which each version of a program has its list of changes."""

from __future__ import annotations

import re

from assistant.knowledge.reading.page import Page

# "Version 2.1.0 (2026-01-31)", "* Noteworthy changes in release 9.1", "tar (1.34-1) unstable; urgency=low"
_VERSION = re.compile(
    r"(?:[*=-]{1,4} +)?(?:[\w.+-]+,? +){0,5}?[\[(]?v?\d+\.\d[\w.+~-]*[\])]?:?"
    r"(?: *[-–—:,(\[]? *(?:\w+ +){0,3}[\w/., -]*\d{4}.{0,40}| +\(.{0,40}\)|;? urgency=.*| +[\w;= ]{1,30})?"
    r"[*= \])]*$"
)


def _is_version(lines: list[str], at: int) -> bool:
    line = lines[at][:120]
    if line[:1].isspace() or not re.search(r"\d\.\d", line) or not _VERSION.match(line):
        return False
    is_first = at == 0 or not re.search(r"\w", lines[at - 1])
    return is_first and not (
        line.startswith("- ") or re.match(r"\* (?!.*(?:release|version|changes))", line, re.IGNORECASE)
    )


def looks_like_changelog(text: str) -> bool:
    lines = text.split("\n", 5000)[:5000]
    return sum(_is_version(lines, at) for at in range(len(lines))) > 1


def read_changelog(text: str) -> Page:
    page = Page(text.split("\n"))
    for at in range(len(page.lines)):
        if _is_version(page.lines, at):
            following = page.lines[at + 1] if at + 1 < len(page.lines) else ""
            is_underlined = len(following) > 2 and following == following[0] * len(following)
            page.open_heading(page.lines[at].strip("*=# -"), 1, at=at, body=at + 1 + is_underlined)
    return page.finished()
