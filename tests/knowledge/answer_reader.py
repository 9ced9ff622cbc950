"""Parses the Markdown of an answer into pieces of text and code, independently of the code that writes it.

Supports block quotes, fences, paragraphs, lists and escapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)$")
BLOCK = re.compile(r" {0,3}(?:#{1,6}(?: |$)|(?:\*\s*){3,}$|(?:-\s*){3,}$|(?:_\s*){3,}$|=+\s*$|-+\s*$|\|)")
ITEM = re.compile(r"(\s*)(?:[-*+]|\d{1,9}[.)])(?:\s+|$)")
BOLD = re.compile(r"\*\*(?!\s)(.*?[^\s\\](?:\\\\)*|(?:\\.)+)\*\*$")
ESCAPE = re.compile(r"(``(?![`\s])[^`\n]*(?<![`\s])``(?!`))|\\([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class Piece:
    kind: str  # prose, code, bold (a line that is bold as a whole), item (of a list), block (any other block)
    text: str
    language: str = ""
    quoted: bool = field(default=False, compare=False)


def unescaped(text: str) -> str:
    """The characters that Markdown shows; code spans keep their backticks."""
    return ESCAPE.sub(lambda found: found[1] or found[2], text)


def pieces_of(markdown: str) -> list[Piece]:
    """The pieces of an answer in order."""
    pieces: list[Piece] = []
    for quoted, lines in _containers(markdown):
        pieces += _blocks(lines, quoted)
    return pieces


def _containers(markdown: str) -> list[tuple[bool, list[str]]]:
    """Runs of lines, each outside or inside a block quote."""
    runs: list[tuple[bool, list[str]]] = []
    fence = ""
    for line in markdown.split("\n"):
        quoted = not fence and line.startswith(">")
        if quoted:
            line = line[1:].removeprefix(" ")
        elif found := FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1][0] == fence[0] and len(found[1]) >= len(fence) and not found[2].strip():
                fence = ""
        if not runs or runs[-1][0] != quoted:
            runs.append((quoted, []))
        runs[-1][1].append(line)
    return runs


def _blocks(lines: list[str], quoted: bool) -> list[Piece]:
    pieces: list[Piece] = []
    open_lines: list[str] = []

    def close() -> None:
        if open_lines:
            pieces.extend(_paragraph(open_lines, quoted))
            open_lines.clear()

    rest = iter(lines)
    for line in rest:
        if found := FENCE.match(line):
            close()
            inside = []
            for inner in rest:
                end = FENCE.match(inner)
                if end and end[1][0] == found[1][0] and len(end[1]) >= len(found[1]) and not end[2].strip():
                    break
                inside.append(inner)
            pieces.append(Piece("code", "\n".join(inside), found[2].strip(), quoted))
        elif line.strip():
            open_lines.append(line)
        else:
            close()
    close()
    return pieces


def _paragraph(lines: list[str], quoted: bool) -> list[Piece]:
    """A paragraph, or the items of a list with their marks."""
    if len(lines) == 1 and (bold := BOLD.match(lines[0])):
        return [Piece("bold", unescaped(bold[1]), "", quoted)]
    if not ITEM.match(lines[0]) and any(BLOCK.match(line) for line in lines):
        return [Piece("block", "\n".join(lines), "", quoted)]
    plain = [unescaped(line[:-1] if _is_broken(line) else line) for line in lines]
    return [Piece("item" if ITEM.match(lines[0]) else "prose", "\n".join(plain), "", quoted)]


def _is_broken(line: str) -> bool:
    """Whether a line ends with a hard break: a backslash that is not escaped."""
    marks = re.search(r"\\+$", line)
    return bool(marks) and len(marks[0]) % 2 == 1
