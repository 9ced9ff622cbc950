"""Reads the text of PDF files, cut at the headings of their outline, or else at each page."""

from __future__ import annotations

import io
import logging
import re
import time
from collections import Counter, defaultdict
from typing import Any

from assistant.knowledge.reading.page import Page, Unreadable
from assistant.knowledge.reading.writer import escape

MOST_PAGES = 2_000
MOST_SECONDS = 60  # of reading one file
MOST_HEADINGS = 5_000
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"})
_CONTENTS = re.compile(r"(?:\. ?){5,}\s*[\divxl]*$")  # a line of a table of contents: "Boxes . . . . . 12"


def read_pdf(data: bytes) -> Page:
    """The text, in which the number of a line is that of its page. Raises `Unreadable`."""
    try:
        import pypdf
    except ImportError as error:
        text = "reading PDF files needs a library, which `uv sync --extra pdf` installs"
        raise Unreadable(text) from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of each small fault of a file
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        texts = _texts(reader)
        headings = _headings(reader, len(texts))
        title = " ".join(str((reader.metadata or {}).get("/Title") or "").split())[:200]
    except Exception as error:  # a broken file makes the library raise anything
        reason = f"it is not a PDF file that can be read ({type(error).__name__})"
        raise Unreadable(reason) from error
    if not any(map(any, texts)):
        raise Unreadable("it has no text, only pictures")
    page = Page()
    page.title = title
    page.number_mark = ", page "
    for number, lines in enumerate(texts, 1):
        waiting = headings[number] if headings else [(f"Page {number}", 2)]
        found = [each for each in waiting if any(_ends(line, each[0]) for line in lines)]
        for each in waiting:
            if each not in found:
                page.open_heading(*each)
        for line in lines:
            while found and _ends(line, found[0][0]):
                page.open_heading(*found.pop(0))
                line = ""
            page.add([escape(line)], number)
    return page.finished()


def _texts(reader: Any) -> list[list[str]]:
    """The lines of each page, without those that head or end many pages."""
    started = time.monotonic()
    texts: list[list[str]] = []
    for page in reader.pages[:MOST_PAGES]:
        if time.monotonic() - started > MOST_SECONDS:
            break
        text = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", page.extract_text().translate(_LIGATURES))
        texts.append([line.strip() for line in text.split("\n") if not _CONTENTS.search(line[-300:])])
    edges = Counter(key for lines in texts for key in {_key(each) for each in lines[:2] + lines[-2:]})
    most = max(3, len(texts) * 0.3)
    for lines in texts:
        for edge in (slice(-2, None), slice(2)):
            lines[edge] = [each for each in lines[edge] if edges[_key(each)] <= most]
    return texts


def _key(line: str) -> str:
    return re.sub(r"\d+", "#", line)


def _headings(reader: Any, count: int) -> dict[int, list[tuple[str, int]]]:
    """The headings of the outline with their levels, by the number of their page."""
    headings: dict[int, list[tuple[str, int]]] = defaultdict(list)
    waiting = [(each, 2) for each in reversed(reader.outline[:MOST_HEADINGS])]
    for _ in range(MOST_HEADINGS):
        if not waiting:
            break
        entry, level = waiting.pop()
        if isinstance(entry, list):
            waiting += [(each, min(level + 1, 9)) for each in reversed(entry[:MOST_HEADINGS])]
        elif 0 <= (at := reader.get_destination_page_number(entry) or 0) < count:
            headings[at + 1].append((str(entry.title or ""), level))
    return headings


def _ends(line: str, heading: str) -> bool:
    """Whether a line is this heading, perhaps with a number before it."""
    letters = re.sub(r"[\W_]+", "", heading.lower())
    return letters != "" and re.sub(r"[\W_]+", "", line.lower()).endswith(letters)
