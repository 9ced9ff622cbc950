"""Reads Jupyter notebooks: the cells, prose and code, without their output.

Output is left out because it is large, and the prose says what there is to see in it.
"""

from __future__ import annotations

import json

from assistant.knowledge.reading.markdown import add_markdown
from assistant.knowledge.reading.page import Page, Unreadable


def read_notebook(text: str) -> Page:
    """The cells of a notebook. Raises `Unreadable`."""
    try:
        book = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is not a notebook: it is not JSON, or nested too deeply") from error
    cells = book.get("cells") if isinstance(book, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("it is not a notebook: it has no cells")
    page = Page()
    broken = at = 0
    number = 1
    for cell in cells:
        source = cell.get("source", "") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(part, str) for part in source):
            source = "".join(source)
        if not isinstance(source, str):
            broken += 1
        elif source.strip():
            lines = source.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
            first = next(line for line in lines if line.strip())
            # The cell's line in the JSON; that of the cell before it if it cannot be found.
            places = (text.find(json.dumps(first, ensure_ascii=only)[:-1], at) for only in (False, True))
            found = next((place for place in places if place >= 0), at)
            number += text.count("\n", at, found)
            at = found
            if page.lines:
                page.add([""], number)
            if cell.get("cell_type") == "code":
                page.add_code(lines, number)
            else:
                add_markdown(page, lines, number)
    if broken:
        page.left_out = "one broken cell" if broken == 1 else f"{broken} broken cells"
    return page.finished()
