"""Reads Markdown: as CommonMark defines it, and the dialects of site generators."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt

from assistant.knowledge.reading.dialects import in_commonmark, without_marks
from assistant.knowledge.reading.includes import Includes, expanded
from assistant.knowledge.reading.page import API_HEADING, LONGEST_HEADING, Page, api_of, docutils_id

_FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*")
_TITLE = re.compile(r"""title\s*[:=]\s*(["']?)(.+?)\1\s*$""")
_ANCHOR_OF_ATTRIBUTES = re.compile(r"\{(?:/\*\s*|[^{}#]*#)([\w:.-]+)[^{}]*\}\s*$")
_ANCHOR_OF_HTML = re.compile(r"""<\w+[^<>]{0,100}?\s(?:id|name)\s*=\s*["']?([\w:.-]+)""")
_MYST_LABEL = re.compile(r"\(([\w:. -]+)\)=\s*$")
_INLINE = re.compile(r"[\\`*_\[<&!]")


@functools.cache
def _blocks() -> MarkdownIt:
    """A parser of blocks alone: nobody needs what stands within a line, and parsing that costs the most."""
    parser = MarkdownIt("commonmark", {"maxNesting": 40})
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


@functools.cache
def _spans() -> MarkdownIt:
    return MarkdownIt("commonmark", {"maxNesting": 10})


def read_markdown(text: str, includes: Includes | None = None) -> Page:
    page = Page()
    lines = text.split("\n")
    first = _end_of_front_matter(lines)
    page.title = next((found[2] for line in lines[:first] if (found := _TITLE.match(line))), "")
    add_markdown(page, lines[first:], first + 1, includes)
    return page.finished()


def _end_of_front_matter(lines: Sequence[str]) -> int:
    """The line after the front matter; 0 if there is none."""
    if lines and (mark := _FRONT_MATTER.fullmatch(lines[0])):
        for at, line in enumerate(lines[1:200], 1):
            if line.rstrip() in (mark[1], "..."):
                return at + 1
    return 0


def add_markdown(
    page: Page, source: Sequence[str], first_number: int, includes: Includes | None = None
) -> None:
    """Add these lines of Markdown to a page."""
    before = len(page.lines)
    shown, labels = in_commonmark(expanded(source, first_number, includes))
    lines = [line for line, _ in shown]
    page.add(lines, first_number)
    page.numbers[before:] = [number for _, number in shown]
    is_code = bytearray(len(lines))
    tokens = _blocks().parse("\n".join(lines))
    for at, token in enumerate(tokens):
        if token.map is None:
            continue
        start, end = before + token.map[0], min(before + token.map[1], len(page.lines))
        if token.type in ("fence", "code_block", "html_block"):
            page.keep_together(start, end)
            if token.type != "html_block":
                is_code[start - before : end - before] = b"\1" * (end - start)
        elif token.type == "heading_open" and token.level == 0:
            label = _MYST_LABEL.match(page.lines[start - 1]) if start > before else None
            anchor = docutils_id(label[1]) if label else ""
            _open_heading(page, tokens[at + 1].content, int(token.tag[1]), start, end, anchor)
    at = 0
    while at < len(lines):
        if lines[at][:1] == "(" and _MYST_LABEL.match(lines[at][:LONGEST_HEADING]):
            page.skip(before + at, before + at + 1)
        end = at + 1
        if lines[at].strip() and not is_code[at]:
            while end < len(lines) and lines[end].strip() and not is_code[end]:
                end += 1
            shown_lines = without_marks("\n".join(lines[at:end]), labels).split("\n")
            page.lines[before + at : before + end] = shown_lines
        at = end


def in_plain_commonmark(text: str) -> str:
    """Markdown of any dialect as CommonMark. Its headings become lines in bold, since it is only a part of
    another text."""
    page = Page()
    add_markdown(page, text.split("\n"), 1)
    for lines, heading in zip(page.heading_lines, page.headings, strict=True):
        bold = [f"**{heading.signature or heading.name}**", *[""] * len(lines)]
        page.lines[lines.start : lines.stop] = bold[: len(lines)]
    return "\n".join(page.lines).strip("\n")


def _open_heading(page: Page, text: str, level: int, at: int, body: int, anchor: str) -> None:
    text = text[:LONGEST_HEADING]
    if found := _ANCHOR_OF_ATTRIBUTES.search(text) or _ANCHOR_OF_HTML.search(text):
        anchor = found[1]
    name = visible_text(without_marks(text))
    kind, signature = "section", ""
    # Prose uses the word "class" too: an API has arguments, is marked as code, or has a dotted name.
    if (api := API_HEADING.match(name)) and (
        api["arguments"] or (api["word"] and ("`" in text or "." in api["name"]))
    ):
        name, kind, signature = api_of(api)
    page.open_heading(name, level, at=at, body=body, kind=kind, signature=signature, anchor=anchor)


def visible_text(text: str) -> str:
    """A heading's text without the marks of Markdown."""
    if not _INLINE.search(text):
        return text.strip()
    (inline,) = _spans().parseInline(text)
    shown = []
    for token in inline.children or ():
        if token.type in ("text", "code_inline", "image"):
            shown.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            shown.append(" ")
    return "".join(shown).strip()
