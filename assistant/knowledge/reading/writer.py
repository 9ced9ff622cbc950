"""Writes Markdown into a page: what the readers of man pages, AsciiDoc and Texinfo have in common.

An option, a command or a variable that a list describes becomes an entry: a heading of its own, so that a
question finds the entry and its description stays whole. Other terms of lists stay items of the list.
"""

from __future__ import annotations

import re

from assistant.knowledge.plain_text import code
from assistant.knowledge.reading.markdown import visible_text
from assistant.knowledge.reading.page import DIRECTIVE_LEVEL, LONGEST_HEADING, Page

LONGEST_CODE = 4000  # characters of a block of code; a longer one becomes several blocks
MOST_TAGS = 8  # that share one description
MOST_ITEMS = 8  # within each other
_FENCE = "```"

_SPECIAL = re.compile(
    r"[`*\\]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|\](?=[(\[:])|&(?=#?\w{1,32};)|~~|\|(?=[-| ]*$)"
)
_AT_THE_BEGINNING = r"(#{0,5}|\d{0,9})([#>=+-](?=[\s=>-]|$)|(?<=\d)[.)](?=\s|$))"
_IN_WORDS = re.compile(r"[A-Z][a-z']+(?: [\w'-]+)*[.:!]?|\w+(?: [\w'-]+){2,}[.:!]?")
_ENTRY = re.compile(r"(?:[-+/]{1,2}|<)[\w?#@]|(?P<name>[A-Za-z_$@][\w.:/*<>\[\]-]{2,})")


def escape(text: str) -> str:
    """Markdown that shows this text within a line."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def literal(text: str) -> str:
    """What a person types, as code; words in bold type, such as "Note:", stay bold."""
    return f"**{text}**" if _IN_WORDS.fullmatch(text) else code(text)


def emphasis(text: str) -> str:
    """Emphasised text; plain where Markdown would not see the end of the emphasis."""
    return f"*{escape(text)}*" if text[:1].isalnum() and text[-1:].isalnum() else escape(text)


class Writer:
    """Adds lines to a page, each with `number`, the number of its line in the file."""

    def __init__(self) -> None:
        self.page = Page()
        self.number = 1
        self._items: list[tuple[int, str]] = []  # the open items: depth and mark
        self._is_new = False  # the innermost item has no text yet
        self._tags: list[str] = []  # of the entry that has no text yet
        self._has_entry = False
        self._anchor = ""  # of the last heading, which its entries share
        self._code_size = -1  # characters of the open block of code; -1 if there is none
        self._empty_lines = 0  # of code, until another line of code follows

    def _put(self, text: str, *, is_joined: bool = False) -> None:
        marks = [mark for _, mark in self._items]
        last = marks.pop() if self._is_new else ""
        self._is_new = False
        self.page.add([f"{' ' * sum(map(len, marks))}{last}{text}".rstrip()], self.number)
        self.page.joined[-1] = is_joined

    def line(self, text: str) -> None:
        """Add a line of Markdown to the open paragraph or item."""
        self.end_code()
        if not (text := text.strip()):
            self.blank()
            return
        self._open_entry()
        self._put(re.sub(rf"\A{_AT_THE_BEGINNING}", r"\1\\\2", text))

    def blank(self) -> None:
        """End the paragraph."""
        self.end_code()
        if self.page.lines and self.page.lines[-1] and not self._is_new:
            self._put("")

    def code(self, text: str) -> None:
        """Add a line of code; lines that follow each other make a block."""
        if not text.strip():
            self._empty_lines += self._code_size >= 0
            return
        if not 0 <= self._code_size < LONGEST_CODE:
            self.blank()
            self._open_entry()
            self._put(_FENCE)
            self._code_size = 0
        for line in [""] * self._empty_lines + [text]:
            self._put(line, is_joined=True)
        self._empty_lines = 0
        self._code_size += len(text) + 1

    def end_code(self) -> None:
        if self._code_size >= 0:
            self._code_size, self._empty_lines = -1, 0
            self._put(_FENCE, is_joined=True)
            self._put("")

    def item(self, mark: str = "- ", depth: int = 0) -> None:
        """Begin an item of a list within the items of a smaller depth."""
        if not self._items or self._items[-1][0] != depth or self._is_new:
            self.leave(depth)
        self.end_code()
        self._items = [each for each in self._items if each[0] < depth][:MOST_ITEMS]
        self._items.append((depth, mark))
        self._is_new = True
        self._open_entry()

    def leave(self, depth: int = 0) -> None:
        """End the paragraph, and the items of this depth and deeper."""
        self.end_code()
        self._is_new &= bool(self._items) and self._items[-1][0] < depth
        self.blank()
        self._items = [each for each in self._items if each[0] < depth]

    def term(self, tag: str, depth: int = 0) -> bool:
        """Begin the description of `tag`, a line of Markdown: an entry if it names something that people look
        up, or else an item. Returns whether it is an entry."""
        plain = visible_text(tag[:LONGEST_HEADING])
        found = _ENTRY.match(plain)
        name = found["name"] if found else None
        if depth == 0 and found and (not name or tag[0] == "`" or re.search(r"\w[._]\w", name)):
            if not self._tags:
                self.end_entry()
            self._tags.append(tag)
            return True
        self.item("- ", depth)
        self.line(tag if tag.endswith((":", ".")) else f"{tag}:")
        return False

    def _open_entry(self) -> None:
        tags, self._tags = self._tags, []
        if tags:
            name = ", ".join(map(visible_text, tags[:MOST_TAGS]))
            self.page.open_heading(name, DIRECTIVE_LEVEL, anchor=self._anchor)
            self._has_entry = True

    def end_entry(self) -> None:
        """End the list and the open entry; one without a description shows its tag."""
        self.leave()
        for tag in tags if (tags := self._tags) else ():
            self.line(tag)
        if self._has_entry:
            self.page.close_headings(DIRECTIVE_LEVEL)
        self._has_entry = False

    def heading(self, name: str, level: int, anchor: str = "") -> None:
        self.end_entry()
        self.page.open_heading(name, level, anchor=anchor)
        self._anchor = anchor

    def finished(self) -> Page:
        self.end_entry()
        return self.page.finished()


class LineReader:
    """Reads a text line by line and writes what it finds. `_read_line` reads what begins at a line, and
    returns the index of the line after it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._writer = Writer()

    def read(self) -> Page:
        at = 0
        while at < len(self._lines):
            self._writer.number = at + 1
            at = self._read_line(at, self._lines[at])
        return self._writer.finished()

    def _read_line(self, at: int, line: str) -> int:
        raise NotImplementedError
