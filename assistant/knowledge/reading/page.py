"""A text file of documentation as headings and lines: what the readers of all formats produce.

A `Page` keeps every line word for word, with its number in the file. No reader executes anything of a file:
no directive, no include, no script. Every reader accepts any text, in a time that grows with its length, and
never raises; only a notebook can be refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_HEADING = 300  # characters; nobody would read a longer one
DIRECTIVE_LEVEL = 100  # the heading level of what a directive describes: deeper than any real heading

# The directives that describe an API, and the classes by which Sphinx marks the same in HTML.
KIND_OF_DIRECTIVE = {
    **dict.fromkeys(("function", "decorator", "coroutinefunction"), "function"),
    **dict.fromkeys(("class", "exception"), "class"),
    **dict.fromkeys(
        ("method", "classmethod", "staticmethod", "decoratormethod", "coroutinemethod"), "method"
    ),
    **dict.fromkeys(("attribute", "data"), "data"),
    "property": "property",
}
DIRECTIVE_SIGNATURE = re.compile(
    r"(?:(?:class|async|static|classmethod|abstract|final|exception)\s+)*"
    r"(?P<name>[^\W\d][\w.]*)\s*(?P<rest>.*)$"
)
# A heading that names an API: "class acme.Client", "shutil.copy(src) -> str".
API_HEADING = re.compile(
    r"(?:(?P<word>class|exception|def|async def|function|func|fn|method|property)\s+)?"
    r"(?P<name>[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*)*)(?P<arguments>\(.*\))?\s*(?:(?:->|→|:)\s*.+)?$"
)


class Unreadable(ValueError):
    """A file cannot be read. The message completes the sentence "It is left out, since …"."""


@dataclass(frozen=True, slots=True, eq=False)
class Heading:
    """A heading, or the signature of an API that the text below it describes."""

    name: str
    level: int
    parent: Heading | None
    kind: str = "section"  # the kind of the passages below it
    signature: str = ""
    anchor: str = ""  # only one that the text itself gives

    @property
    def path(self) -> list[str]:
        """The names of the headings above and of this one, outermost first; at most the innermost eight."""
        names: list[str] = []
        heading: Heading | None = self
        while heading is not None and len(names) < 8:
            names.append(heading.name)
            heading = heading.parent
        return names[::-1]


@dataclass(frozen=True, slots=True)
class Section:
    """The lines from `start` to before `end`, which all stand under one heading. APIs that one text describes
    together have a section each, with the same lines."""

    heading: Heading | None
    start: int
    end: int


class Page:
    """A text, cut at its headings while a reader goes through it line by line."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self.lines: list[str] = []
        self.numbers: list[int] = []  # the line number in the file, for each line
        self.joined = bytearray()  # 1 for a line that must stay with the line before it
        self.skipped = bytearray()  # 1 for a line that says nothing to a person: labels, comments
        self.headings: list[Heading] = []
        self.heading_lines: list[range] = []  # the lines of each heading
        self.sections: list[Section] = []
        self.title = ""  # the title that the page states outside its text
        self.number_mark = ":"  # between the name of the file and a number: "a.md:12", "a.pdf, page 12"
        self.left_out = ""  # for people: the part that could not be read
        self.documented: set[Heading] = set()  # those with text of their own
        self._open: list[Heading] = []
        self._undocumented: list[Heading] = []  # APIs that share the text of the API below them
        self._start = 0
        self.add(lines, 1)

    def add(self, lines: Sequence[str], first_number: int) -> None:
        self.lines.extend(lines)
        self.numbers.extend(range(first_number, first_number + len(lines)))
        self.joined.extend(bytes(len(lines)))
        self.skipped.extend(bytes(len(lines)))

    def add_code(self, lines: Sequence[str], first_number: int) -> None:
        """Add lines of a block of code, indented, since Markdown shows indented lines as code."""
        start = len(self.lines)
        self.add([f"    {line}".rstrip() for line in lines], first_number)
        self.keep_together(start, len(self.lines))

    def keep_together(self, start: int, end: int) -> None:
        if end > start + 1:
            self.joined[start + 1 : end] = b"\1" * (end - start - 1)

    def skip(self, start: int, end: int) -> None:
        if end > start:
            self.skipped[start:end] = b"\1" * (end - start)

    def open_heading(
        self,
        name: str,
        level: int,
        *,
        at: int | None = None,
        body: int | None = None,
        kind: str = "section",
        signature: str = "",
        anchor: str = "",
        shares: bool = False,
    ) -> None:
        """Begin a section. The heading's own lines go from `at` to before `body`; by default it has none.
        With `shares`, an API just above that has no text shares the text of this one."""
        self.close_headings(level, at=at, shares=shares)
        parent = self._open[-1] if self._open else None
        name = " ".join(name.split())[:LONGEST_HEADING]
        heading = Heading(name or (parent.name if parent else ""), level, parent, kind, signature, anchor)
        self.headings.append(heading)
        self.heading_lines.append(range(at or 0, body or 0))
        self._open.append(heading)
        self._start = len(self.lines) if body is None else body

    def close_headings(self, level: int, *, at: int | None = None, shares: bool = False) -> None:
        """Close headings of this level and deeper; what follows belongs to the heading above them."""
        end = len(self.lines) if at is None else at
        heading = self._open[-1] if self._open else None
        start = min(self._start, end)
        waits = bool(heading and self._undocumented and self._undocumented[-1].parent is heading)
        if heading is not None and shares and self.is_undocumented(at=at):
            self._undocumented.append(heading)
        elif end > start or (heading is not None and heading.signature and not waits):
            # A signature makes a section even where no text follows it.
            above, self._undocumented = self._undocumented, []
            self.sections += [Section(each, start, end) for each in (*above, heading)]
            if heading is not None and self._has_text(start, end):
                self.documented.update((*above, heading))
        self._start = max(self._start, end)
        while self._open and self._open[-1].level >= level:
            self._open.pop()

    def is_undocumented(self, *, at: int | None = None, level: int = 0) -> bool:
        """Whether the heading above a line is an API without any text, of this level if one is given."""
        heading = self._open[-1] if self._open else None
        if heading is None or heading.level < DIRECTIVE_LEVEL or heading in self.documented:
            return False
        if level and heading.level != level:
            return False
        return not self._has_text(self._start, len(self.lines) if at is None else at)

    @property
    def heading_name(self) -> str:
        return self._open[-1].name if self._open else ""

    @property
    def anchor(self) -> str:
        """The anchor of the innermost open section."""
        return next((each.anchor for each in reversed(self._open) if each.level < DIRECTIVE_LEVEL), "")

    def _has_text(self, start: int, end: int) -> bool:
        return any(self.lines[at].strip() and not self.skipped[at] for at in range(start, end))

    def finished(self) -> Page:
        self.close_headings(0)
        return self


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def api_of(heading: re.Match[str]) -> tuple[str, str, str]:
    """The name, kind and signature of an API. Its kind comes from the word before its name ("class", "def"),
    or from the name's capitals."""
    word, name = heading["word"] or "", heading["name"]
    last = re.split(r"\.|::", name)[-1]
    kind = word if word in ("method", "property") else "function"
    if word in ("class", "exception") or (not word and last[:1].isupper() and last != last.upper()):
        kind = "class"
    return name, kind, heading.string[heading.start("name") :]


def docutils_id(text: str) -> str:
    """The anchor that docutils and Sphinx make from a heading or a label."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"^[-0-9]+|-+$", "", re.sub(r"[^a-z0-9]+", "-", plain))
