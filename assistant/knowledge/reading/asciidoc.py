"""Reads AsciiDoc, in the dialects of Asciidoctor, Antora and the documentation of Git."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assistant.knowledge.plain_text import code
from assistant.knowledge.reading.markdown import visible_text
from assistant.knowledge.reading.page import LONGEST_HEADING, Page
from assistant.knowledge.reading.writer import LineReader, emphasis, escape

_SURE_SIGN = re.compile(
    r"(?:include|ifdef|ifndef|endif|image|toc)::\S*\[.*\]$|\[\[[\w.-]+\]\]$|={1,5} \S.*[^=\s]$"
    r"|\[(?:verse|source|listing|quote|horizontal|synopsis|NOTE|TIP|WARNING|CAUTION|IMPORTANT)[,\]].*$"
)
_HEADING = re.compile(r"(={1,6}) +(\S.*?)(?: +=+)?$")
_ADORNMENTS = "=-~^+"
_ID = re.compile(r"\[\[([\w:.-]+)(?:,.*)?\]\]$|\[[\w ,=\"]*#([\w:.-]+)[^\]]*\]$|\[.*\bid=\"?([\w:.-]+).*\]$")
_ITEM = re.compile(r"\s*(\*{1,5}|-|\.{1,5}|\d{1,3}\.|<(?:\d{1,3}|\.)>)\s+(\S.*)")
_TERM = re.compile(r"\s*(\S.{0,300}?)(:{2,4}|;;)(?:\s+(.*))?$")
_SKIPPED = re.compile(
    r"//(?!/)|:!?[\w-]+!?:|(?:include|ifdef|ifndef|ifeval|endif|toc|image|video|audio)::|<<<$|'''$"
)
_ATTRIBUTE = re.compile(r":([\w-]+): *(.*)")
_REFERENCE = re.compile(r"\{([\w-]{1,40})\}")
_FENCE = re.compile(r"(-{4,}|\.{4,}|`{3,}|\+{4,}|/{4,}|={4,}|\*{4,}|_{4,}|--|[|,:!]={3,})\w*\s*$")
_AS_CODE = re.compile(r"\[(?:verse|synopsis|source|listing|literal|%linenums)\b")
_NOTE = re.compile(r"\[?(NOTE|TIP|WARNING|CAUTION|IMPORTANT)(?:\]$|: )")
_INLINE = re.compile(
    r"\\(?P<escaped>[*_`#+{\[<])|\{(?P<attribute>[\w-]{1,40})\}"
    r"|<<(?P<target>[^<>,\n]{1,120})(?:,(?P<shown>[^<>]{1,200}))?>>|\[\[[^\]]{1,80}\]\]|\[[.#\w-]{1,40}\](?=[#*_`])"
    r"|(?P<macro>\b[a-z]+):{1,2}(?P<url>[^\s\[\]`]{0,300})\[(?P<text>[^\]]{0,300})\]"
    r"|`{1,2}\+?(?P<code>[^`\n]{1,300}?)\+?`{1,2}|(?<![\w+])\+{1,3}(?P<pass>[^\s+](?:[^+\n]{0,200}[^\s+])?)\+{1,3}(?!\w)"
    r"|(?<!\w)(?P<mark>\*\*?|__?|##?|')(?P<marked>\S(?:[^\n]{0,200}?\S)??)(?P=mark)(?!\w)"
)
_CHARS = {
    "nbsp": " ", "empty": "", "asterisk": "*", "litdd": "--", "apostrophe": "'", "startsb": "[", "endsb": "]",
    "caret": "^", "tilde": "~", "backslash": "\\", "backtick": "`", "lt": "<", "gt": ">", "amp": "&",
    "plus": "+", "cpp": "C++", "sp": " ", "zwsp": "", "vbar": "|",
}  # fmt: skip


def looks_like_asciidoc(text: str) -> bool:
    """Whether a plain text has two lines that only AsciiDoc has."""
    lines = text.split("\n", 2000)[:2000]
    return sum(_SURE_SIGN.match(line[:LONGEST_HEADING]) is not None for line in lines) > 1


def read_asciidoc(text: str) -> Page:
    return _AsciiDocReader(text.split("\n")).read()


class _AsciiDocReader(LineReader):
    def __init__(self, lines: list[str]) -> None:
        super().__init__([*(line.rstrip() for line in lines), ""])
        self._attributes: dict[str, str] = {}
        self._ids: dict[str, int] = {}
        self._anchor = ""
        self._lists: list[tuple[str, bool]] = []  # the marks of the open lists, and whether each has entries
        # The open blocks, and how many lists were open before each; the first is the page.
        self._blocks = [("", 0)]
        self._style = ""
        self._is_attached = False  # to the item above, by directly following it or by a "+"
        self._has_gap = True  # before this line, so that an indented line is code
        self._is_manual = False

    def _read_line(self, at: int, line: str) -> int:
        writer = self._writer
        if not line:
            writer.blank()
            self._is_attached, self._has_gap, self._style = False, True, ""
        elif line == "+" and self._lists:
            writer.blank()
            self._is_attached = self._has_gap = True
        elif found := _FENCE.match(line):
            return self._read_block(at, found[1])
        elif heading := self._heading_at(at):
            return self._read_heading(at, *heading)
        elif found := _ID.match(line[:LONGEST_HEADING]):
            self._anchor = found[1] or found[2] or found[3]
        elif line[0] == "[" and line[-1] == "]" and re.match(r"\[[\w\"%.#,]", line):
            self._style = line
            if found := _NOTE.match(line):
                self._paragraph(f"**{found[1].capitalize()}:**")
        elif _SKIPPED.match(line):
            if (found := _ATTRIBUTE.match(line)) and len(self._attributes) < 500:
                self._attributes[found[1]] = found[2][:200]
        elif re.match(r"\.[^\s.]", line) and not self._is_attached:
            self._paragraph(f"**{self.inline(line[1:])}**")
            writer.blank()
            self._is_attached = False
        elif (found := _TERM.match(line[:1000])) and not re.match(r"\s*[*.-] ", line):
            self._term(found[1], found[2], found[3] or "")
        elif found := _ITEM.match(line):
            number = found[1] if found[1][0].isdigit() else "1." if found[1][0] in ".<" else "-"
            depth = self._open_list(re.sub(r"\d+", "1", found[1]))
            writer.item(f"{number} ", depth)
            writer.line(self.inline(found[2]))
        elif _AS_CODE.match(self._style) or (line[0].isspace() and self._has_gap):
            end = at
            while text := self._lines[end]:
                end += 1
                writer.number = end
                writer.code(visible_text(self.inline(text)) if "s" not in self._style[1:3] else text)
            writer.end_code()
            return end
        else:
            note = _NOTE.match(line)
            while line.count("`") % 2 and self._lines[at + 1] and len(line) < 1000:
                at += 1  # code that goes on in the next line
                line = f"{line} {self._lines[at].strip()}"
            text = self.inline(line[note.end() :] if note else line.removesuffix(" +"))
            self._paragraph(f"**{note[1].capitalize()}:** {text}" if note else text)
            if line.endswith(" +"):
                writer.blank()
        return at + 1

    @property
    def _depth(self) -> int:
        """How many open lists indent their text."""
        return sum(not is_entry for _, is_entry in self._lists)

    def _paragraph(self, text: str) -> None:
        if not self._is_attached and self._lists:
            self._leave()
        self._is_attached, self._has_gap = True, False
        self._writer.line(text)

    def _leave(self) -> None:
        """End the lists of the innermost block."""
        del self._lists[self._blocks[-1][1] :]
        self._writer.leave(self._depth)
        if not self._lists:
            self._writer.end_entry()

    def _open_list(self, mark: str) -> int:
        """The depth of an item with this mark, in the list that is open for it or in a new one."""
        marks, outer = [each for each, _ in self._lists], self._blocks[-1][1]
        if mark in marks[outer:]:
            del self._lists[marks.index(mark, outer) :]
        self._is_attached, self._has_gap = True, False
        depth = self._depth
        if len(self._lists) < 8:
            self._lists.append((mark, False))
        return depth

    def _term(self, tag: str, mark: str, text: str) -> None:
        depth = self._open_list(mark)
        nested = depth + sum(is_entry for _, is_entry in self._lists)
        self._lists[-1] = (mark, self._writer.term(self.inline(tag), nested and max(depth, 1)))
        if text:
            self._writer.line(self.inline(text))

    def _heading_at(self, at: int) -> tuple[int, str, int] | None:
        """The level, the text and the number of lines of a heading."""
        line = self._lines[at]
        if self._is_attached:
            return None
        if found := _HEADING.match(line[:LONGEST_HEADING]):
            return len(found[1]), found[2], 1
        under = self._lines[at + 1]
        is_underlined = len(under) > 2 and under[0] in _ADORNMENTS and under == under[0] * len(under)
        if is_underlined and line[0].isalnum() and abs(len(under) - len(line)) < 2 and len(self._blocks) == 1:
            return _ADORNMENTS.index(under[0]) + 1, line, 2
        return None

    def _read_heading(self, at: int, level: int, text: str, size: int) -> int:
        name = visible_text(self.inline(text[:LONGEST_HEADING]))
        anchor, self._anchor = self._anchor, ""
        self._lists, self._blocks, self._is_attached = [], [("", 0)], False
        if level == 1 and not self._writer.page.headings:
            self._is_manual = re.search(r"\(\d\w*\)$", name) is not None
            self._writer.heading(name, 1, anchor)
            at += size
            while self._lines[at] and self._lines[at][0] not in ":[/":
                at += 1  # the author and the revision
            return at
        if not anchor:
            words = re.sub(r"[^\w\- .]", "", name.lower())
            anchor = "_" + re.sub(r"[ .-]+", "_", words).strip("_")
            self._ids[anchor] = count = self._ids.get(anchor, 0) + 1
            anchor += f"_{count}" if count > 1 else ""
        # The name and the synopsis tell what the whole page is about.
        if not (self._is_manual and name.upper() in ("NAME", "SYNOPSIS")):
            self._writer.heading(name, level, anchor)
        return at + size

    def _read_block(self, at: int, fence: str) -> int:
        kind = fence[0] if fence != "--" else "open"
        if kind in "-.`+/|,:!":
            end = at + 1
            while end < len(self._lines) and not self._lines[end].startswith(fence):
                end += 1
            if kind not in "+/" and not self._is_attached:
                self._leave()
            if kind in "-.`":
                for number in range(at + 1, end):
                    self._writer.number = number + 1
                    self._writer.code(self._lines[number])
                self._writer.end_code()
            elif kind not in "+/":
                self._read_table(at + 1, end)
            return end + 1
        self._writer.blank()
        if self._blocks[-1][0] == fence:
            del self._lists[self._blocks.pop()[1] :]
            self._writer.leave(self._depth)
        elif len(self._blocks) < 20:
            if not self._is_attached:
                self._leave()
            self._blocks.append((fence, len(self._lists)))
        return at + 1

    def _read_table(self, start: int, end: int) -> None:
        depth = self._depth
        row: list[str] = []
        for at in range(start, end + 1):
            line = self._lines[at] if at < end else ""
            cells = re.split(r"(?:^|(?<=\s))[\d.+*<>^]{0,8}[a-z]?\|", line)
            if row and (len(cells) > 2 or not line):
                self._writer.item("- ", depth)
                self._writer.line(" – ".join(filter(None, row)))
                row = []
            self._writer.number = at + 1
            row += [self.inline(each.strip()) for each in cells if each.strip()][: 50 - len(row)]
        self._writer.leave(depth)

    def inline(self, text: str, depth: int = 0) -> str:
        """A line of AsciiDoc as Markdown. Marks may stand within marks, at most three deep."""
        if self._attributes and depth == 0:
            text = _REFERENCE.sub(lambda name: self._attributes.get(name[1], name[0]), text, count=20)
        shown, at = [], 0
        for found in _INLINE.finditer(text):
            shown += [escape(text[at : found.start()]), self._markdown(found.groupdict(), found[0], depth)]
            at = found.end()
        return "".join([*shown, escape(text[at:])])

    def _markdown(self, value: Mapping[str, str | None], text: str, depth: int) -> str:
        if char := value["escaped"]:
            return escape(char)
        if name := value["attribute"]:
            return escape(_CHARS.get(name, text))
        if target := value["target"]:
            return escape((value["shown"] or target).strip())
        if macro := value["macro"]:
            target, words = value["url"] or "", (value["text"] or "").partition(",")[0].strip('"^ ')
            if macro.startswith("link") and macro != "link":  # Git's own macro: linkgit:git-add[1]
                return f"{code(target)}({words})"
            if macro in ("http", "https"):
                return f"[{escape(words or target)}](<{macro}:{target}>)"
            return escape(words or target)
        if literal := value["code"] or value["pass"]:
            return code(_REFERENCE.sub(lambda name: _CHARS.get(name[1], name[0]), literal))
        if not (marked := value["marked"]):
            return ""
        if depth == 2 or not re.search(r"[*_`#+{]", marked):
            return f"**{escape(marked)}**" if (value["mark"] or "")[0] == "*" else emphasis(marked)
        return self.inline(marked, depth + 1)
