"""Reads reStructuredText, line by line, because docutils' tree has lost where the words stood."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from assistant.knowledge.reading.includes import Includes, expanded
from assistant.knowledge.reading.page import (
    DIRECTIVE_LEVEL,
    DIRECTIVE_SIGNATURE,
    KIND_OF_DIRECTIVE,
    LONGEST_HEADING,
    Page,
    docutils_id,
)
from assistant.knowledge.rest_in_words import (
    CODE_DIRECTIVES,
    SKIPPED_DIRECTIVES,
    end_of_block,
    in_words,
    indent_of,
    without_backticks,
)

MOST_SIGNATURES = 8  # of one function or class

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*$")
_DIRECTIVE = re.compile(r"\.\.\s+(?:(?P<domain>[\w-]+):)?(?P<name>[\w+.-]+)::(?:\s+(?P<rest>.*))?$")
_LABEL = re.compile(r"\.\.\s+_(?P<label>`[^`]*`|[^`]*?):(?:\s+(?P<target>.*))?$|__(?:\s|$)")
_OPTION = re.compile(r":[\w -]+:")
_METADATA = re.compile(r":(?:orphan|tocdepth|no-?search|nocomments|hidetoc|hide-toc|lastproofread):")
_KIND_IN_C = dict.fromkeys(("macro", "var", "type", "struct", "member", "enum"), "data")
_NAMES_IN_C = re.compile(r"([^\W\d][\w.]*(?:::~?\w+)*)\s*(\(?)")
_DOMAINS = (None, "py", "c", "cpp", "js", "rb", "php")


def looks_like_rest(text: str) -> bool:
    """Whether a plain text is reStructuredText: it has a directive, or two underlined headings."""
    lines = text.split("\n", 2000)[:2000]
    if any(line.startswith(".. ") and _DIRECTIVE.match(line[:LONGEST_HEADING]) for line in lines):
        return True
    return sum(_heading_at(lines, at) is not None for at in range(len(lines))) >= 2


def read_rest(text: str, includes: Includes | None = None) -> Page:
    shown = list(expanded(text.split("\n"), 1, includes))
    page = Page([line for line, _ in shown])
    page.numbers = [number for _, number in shown]
    _RestReader(page).read()
    return page.finished()


class _OpenDirective(NamedTuple):
    """A directive that describes an API, as long as the lines below it are indented deeper."""

    indent: int
    name: str
    kind: str


class _RestReader:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._lines = page.lines
        self._styles: list[tuple[str, bool]] = []  # how headings are underlined, the highest level first
        self._directives: list[_OpenDirective] = []
        self._text_of = 0  # how many directives are open while text follows that is not indented
        self._module = ""
        self._label = ""

    def read(self) -> None:
        at = 0
        while at < len(self._lines):
            line = self._lines[at]
            if line.strip():
                indent = indent_of(line)
                self._close_directives(at, line, indent)
                at = self._read_line(at, line, indent)
            else:
                at += 1

    def _close_directives(self, at: int, line: str, indent: int) -> None:
        """Close what ends before this line. The text of many a directive is not indented below it."""
        while self._directives and indent <= self._directives[-1].indent:
            api = self._api_in(line.lstrip())
            is_label = _LABEL.match(line.lstrip()[:LONGEST_HEADING])
            ends = api is not None or is_label or _heading_at(self._lines, at)
            is_level = indent == self._directives[-1].indent and not ends
            if is_level and (self._text_of == len(self._directives) or self._page.is_undocumented(at=at)):
                self._text_of = len(self._directives)
                return
            above = self._directives.pop()
            shares = above.indent == indent and api is not None and api[1] == above.kind
            self._page.close_headings(DIRECTIVE_LEVEL + len(self._directives), at=at, shares=shares)
            self._text_of = 0

    def _read_line(self, at: int, line: str, indent: int) -> int:
        """Read what begins at a line; returns the line after it."""
        if indent <= 1 and (found := _heading_at(self._lines, at)):
            return self._read_heading(at, *found)
        text = line.lstrip()
        if text.startswith("..") and (text == ".." or text[2:3].isspace()):
            return self._read_markup(at, text, indent)
        self._label = ""
        if (at == 0 and _OPTION.match(text)) or (indent == 0 and _METADATA.match(text)):
            self._page.skip(at, at + 1)
        if text.startswith((">>> ", "$ ")):
            blank = (end for end in range(at + 1, len(self._lines)) if not self._lines[end].strip())
            self._page.keep_together(at, end := next(blank, len(self._lines)))
            return end
        if text.rstrip().endswith("::"):
            return self._read_code(at, indent)
        return at + 1

    def _read_heading(self, at: int, body: int, style: tuple[str, bool], text: str) -> int:
        if style not in self._styles:
            self._styles.append(style)
        name = without_backticks(in_words(text)).replace("**", "").replace("*", "")
        anchor, self._label = self._label, ""
        self._page.open_heading(name, self._styles.index(style) + 1, at=at, body=body, anchor=anchor)
        return body

    def _read_markup(self, at: int, text: str, indent: int) -> int:
        text = text[: 10 * LONGEST_HEADING]
        if label := _LABEL.match(text):
            end = end_of_block(self._lines, at + 1, indent)
            is_link = label["label"] is None or label["target"] or end > at + 1
            if not is_link:
                self._label = docutils_id(label["label"].strip("`"))
                end = at + 1
            self._page.skip(at, end)
            return end
        directive = _DIRECTIVE.match(text)
        if directive is None:  # a comment, a footnote, a substitution
            if not text[2:].lstrip().startswith("["):
                self._page.skip(at, end := end_of_block(self._lines, at + 1, indent))
                return end
            return at + 1
        if api := self._api_in(text):
            return self._read_api(at, indent, *api)
        domain, name, rest = directive["domain"], directive["name"], (directive["rest"] or "").strip()
        if name in ("module", "currentmodule") and domain in (None, "py"):
            self._module = "" if rest == "None" else rest
        if name in CODE_DIRECTIVES:
            return self._read_code(at, indent)
        if name in SKIPPED_DIRECTIVES:
            self._page.skip(at, end := end_of_block(self._lines, at + 1, indent))
            return end
        is_entry = domain is None and not name.startswith(("version", "deprecated"))
        if is_entry and rest and " " not in rest and rest in self._page.heading_name:
            self._page.skip(at, at + 1)  # it only makes the index find the section, such as that of a setting
        self._label = ""
        return at + 1

    @staticmethod
    def _api_in(text: str) -> tuple[str, str, str] | None:
        """The domain, the kind and the signature of the API that a line describes."""
        found = _DIRECTIVE.match(text[: 10 * LONGEST_HEADING]) if text.startswith("..") else None
        if found is None or found["domain"] not in _DOMAINS or not (rest := (found["rest"] or "").strip()):
            return None
        kind = KIND_OF_DIRECTIVE.get(found["name"])
        if kind is None and found["domain"] == "c":
            kind = _KIND_IN_C.get(found["name"])
        return (found["domain"] or "py", kind, rest) if kind else None

    def _read_api(self, at: int, indent: int, domain: str, kind: str, rest: str) -> int:
        body = at + 1
        while rest.endswith("\\") and body < len(self._lines) and len(rest) < LONGEST_HEADING:
            rest = f"{rest[:-1].rstrip()} {self._lines[body].strip()}"
            body += 1
        signature = " ".join(rest.split())[:LONGEST_HEADING]
        found = DIRECTIVE_SIGNATURE.match(signature)
        name = found["name"] if found else signature
        anchor = name if domain == "js" else ""
        if domain in ("c", "cpp"):
            names = _NAMES_IN_C.findall(signature.partition("=")[0]) or [(name, "")]
            name = next((each for each, bracket in names if bracket), names[-1][0])
            anchor = f"c.{name}" if domain == "c" else ""
        elif domain == "py":
            name = anchor = self._full_name(name)
            arguments = found["rest"] if found else ""
            if found:
                signature = f"{name}{'' if arguments[:1] in ('(', '[') else ' '}{arguments}".strip()
        signatures = [signature]
        while (
            body < len(self._lines)
            and (line := self._lines[body].strip())
            and indent_of(self._lines[body]) > indent
        ):
            if not _OPTION.match(line):
                if len(signatures) == MOST_SIGNATURES or "(" not in line[:LONGEST_HEADING]:
                    break
                signatures.append(line[:LONGEST_HEADING])
            body += 1
        self._page.open_heading(
            name,
            DIRECTIVE_LEVEL + len(self._directives),
            at=at,
            body=body,
            kind=kind,
            signature="\n".join(signatures),
            anchor=anchor,
        )
        self._directives.append(_OpenDirective(indent, name, kind))
        self._label = ""
        return body

    def _full_name(self, name: str) -> str:
        """The dotted name: `open`, below the class `ZipFile` in the module `zipfile`, is
        `zipfile.ZipFile.open`."""
        above = next((one.name for one in reversed(self._directives) if one.kind == "class"), self._module)
        last = above.rpartition(".")[2]
        if not above or name.startswith(f"{above}."):
            return name[:LONGEST_HEADING]
        if self._directives and name.startswith(f"{last}."):
            name = name[len(last) + 1 :]
        return f"{above}.{name}"[:LONGEST_HEADING]

    def _read_code(self, at: int, indent: int) -> int:
        """Keep a line together with the block of code that it announces; returns the line after the block."""
        end = end_of_block(self._lines, at + 1, indent)
        self._page.keep_together(at, end)
        self._label = ""
        return end


def _heading_at(lines: Sequence[str], at: int) -> tuple[int, tuple[str, bool], str] | None:
    """For a heading that begins at a line: the line after it, its style and its text."""
    above = lines[at - 1].rstrip() if at > 0 else ""
    if above and not above.startswith("..") and not _ADORNMENT.fullmatch(above):
        return None  # in the middle of a paragraph
    first = lines[at].rstrip()
    if not first or len(first) > LONGEST_HEADING:
        return None
    if found := _ADORNMENT.fullmatch(first):
        if len(first) < 3 or at + 2 >= len(lines):
            return None
        title, under = lines[at + 1].strip(), lines[at + 2].rstrip()
        if title and first == under and len(title) <= len(first) and not _ADORNMENT.fullmatch(title):
            return at + 3, (found[1], True), title
        return None
    if first[0].isspace() or at + 1 >= len(lines):
        return None
    under = lines[at + 1].rstrip()
    found = _ADORNMENT.fullmatch(under[:LONGEST_HEADING])
    if found and len(under) >= min(len(first), 4) and len(under) >= len(first) - 2:
        return at + 2, (found[1], False), first
    return None
