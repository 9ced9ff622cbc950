"""Reads Jupyter notebooks: the cells, prose and code, without their output.

Output is left out because it is large, and the prose says what there is to see in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from assistant.knowledge.reading.markdown import add_markdown, visible_text
from assistant.knowledge.reading.page import LONGEST_HEADING, Page, Unreadable


def read_notebook(text: str) -> Page:
    """The cells of a notebook. Raises `Unreadable`."""
    try:
        book = json.loads(text)
    except ValueError as error:
        raise Unreadable("it is not a notebook: it is not JSON") from error
    except RecursionError as error:
        raise Unreadable("it is not a notebook: it is nested too deeply") from error
    page = Page()
    locator = _CellLocator(text)
    broken = 0
    for cell in _cells(book):
        source = _source_of(cell)
        if cell is None or source is None:
            broken += 1
            continue
        if not source.strip():
            continue
        lines = source.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
        number = locator.line_of(lines)
        if page.lines:
            page.add([""], number)
        kind, start = cell.get("cell_type"), len(page.lines)
        if kind == "code":
            page.add_code(lines, number)
        elif kind == "heading" and isinstance(level := cell.get("level"), int):  # of notebooks before 2015
            page.add(lines, number)
            page.open_heading(visible_text(lines[0][:LONGEST_HEADING]), max(1, min(6, level)), at=start)
        else:
            add_markdown(page, lines, number)
    if broken:
        page.left_out = "one broken cell" if broken == 1 else f"{broken} broken cells"
    return page.finished()


def _source_of(cell: dict[str, object] | None) -> str | None:
    """The text of a cell; None if the cell is broken."""
    source = cell.get("source", cell.get("input", "")) if cell else None
    if isinstance(source, list) and all(isinstance(part, str) for part in source):
        return "".join(source)
    return source if isinstance(source, str) else None


def _cells(book: object) -> list[dict[str, object] | None]:
    if isinstance(book, dict):
        sheets = book.get("worksheets")
        if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict):
            book = sheets[0]
        cells = book.get("cells")
        if isinstance(cells, list):
            return [cell if isinstance(cell, dict) else None for cell in cells]
    raise Unreadable("it is not a notebook: it has no cells")


class _CellLocator:
    """Finds the line of each cell in the notebook's JSON, going through it from top to bottom."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._number = 1

    def line_of(self, lines: Sequence[str]) -> int:
        """The line where a cell begins, or that of the cell before it if the cell cannot be found."""
        first = next(line for line in lines if line.strip())
        for ascii_only in (False, True):
            found = self._text.find(json.dumps(first, ensure_ascii=ascii_only)[:-1], self._at)
            if found >= 0:
                self._number += self._text.count("\n", self._at, found)
                self._at = found
                break
        return self._number
