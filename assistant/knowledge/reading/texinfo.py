"""Reads Texinfo, the source of GNU manuals."""

from __future__ import annotations

import re

from assistant.knowledge.plain_text import code
from assistant.knowledge.reading.markdown import visible_text
from assistant.knowledge.reading.page import DIRECTIVE_LEVEL, Page, word_set
from assistant.knowledge.reading.writer import LineReader, emphasis, escape, literal

MOST_NESTED = 20  # commands within each other
LONGEST_COMMAND = 12  # lines

_LEVELS = {
    **dict.fromkeys(word_set("top chapter unnumbered appendix majorheading chapheading centerchap"), 2),
    **dict.fromkeys(word_set("section unnumberedsec appendixsec appendixsection heading"), 3),
    **dict.fromkeys(word_set("subsection unnumberedsubsec appendixsubsec subheading"), 4),
    **dict.fromkeys(word_set("subsubsection unnumberedsubsubsec appendixsubsubsec subsubheading"), 5),
}
_SKIPPED_BLOCKS = word_set(
    "menu detailmenu direntry titlepage copying documentdescription ignore iftex ifhtml ifxml ifdocbook "
    "iflatex tex html xml docbook latex macro rmacro ifset ifplaintext"
)
_CODE = word_set("example smallexample lisp smalllisp display smalldisplay format smallformat")
_SILENT_IN_CODE = word_set("group c comment noindent cindex findex kindex sp need")
_LISTS = word_set("itemize enumerate table ftable vtable multitable")
_TABLES = word_set("table ftable vtable")
# How many words stand before the name in a definition: its category, its class and its type.
_DEFINITIONS = {
    "un": 0, "mac": 0, "spec": 0, "var": 0, "opt": 0, "fn": 1, "vr": 1, "tp": 1, "method": 1, "ivar": 1,
    "op": 2, "cv": 2, "typefun": 1, "typevar": 1, "typefn": 2, "typevr": 2, "typemethod": 2, "typeivar": 2,
    "typeop": 3, "typecv": 3,
}  # fmt: skip
_LITERAL = word_set("code samp option command file env kbd key verb t url uref email indicateurl math value")
_EMPHASIS = word_set("var emph dfn cite i slanted")
_LINKS = word_set("ref xref pxref inforef uref url email acronym abbr")
_SIGNS = {
    "dots": "…", "enddots": "…", "result": "⇒", "error": "error→", "print": "⊣", "expansion": "→",
    "equiv": "≡",
    "bullet": "•", "minus": "-", "copyright": "©", "registeredsymbol": "®", "TeX": "TeX", "LaTeX": "LaTeX",
    "point": "∗", "atchar": "@", "lbracechar": "{", "rbracechar": "}", "tie": " ", "comma": ",", "euro": "€",
    "pounds": "£", "ss": "ß", "backslashchar": "\\", "hashchar": "#", "geq": "≥", "leq": "≤", "arrow": "→",
    "textdegree": "°", "today": "", "anchor": "", "image": "", "cindex": "",
    "*": " ", ":": "", "-": "", "/": "", "|": "",
}  # fmt: skip
_TOKEN = re.compile(r"@[a-zA-Z]+\{?|@.|[{}]|[^@{}]+|@")


def read_texinfo(text: str) -> Page:
    return _TexinfoReader(text.partition("\n@bye")[0].split("\n")).read()


class _TexinfoReader(LineReader):
    def __init__(self, lines: list[str]) -> None:
        super().__init__([*lines, ""])
        self._values: dict[str, str] = {}
        self._macros: dict[str, tuple[list[str], str]] = {}  # those that begin an item, such as an option
        self._node = ""
        self._lists: list[tuple[str, str]] = []  # the open lists: the command, and the mark of their items
        self._blocks = 0  # open blocks of code

    def _read_line(self, at: int, line: str) -> int:
        writer = self._writer
        if (used := re.match(r"@(\w+)\{(.*)\}\s*$", line)) and used[1] in self._macros:
            names, item = self._macros[used[1]]
            values = dict(zip(names, used[2].split(","), strict=False))
            line = re.sub(r"\\(\w+)\\", lambda name: values.get(name[1], ""), item)[:1000]
        found = re.match(r"\s*@([a-zA-Z]+)(?![a-zA-Z{])[ \t]*(.*)", line)
        name, rest = (found[1], found[2].strip()) if found else ("", "")
        if name == "verbatim" or name in _SKIPPED_BLOCKS:
            return self._skip(at, name)
        if name in _CODE:
            self._blocks += 1
        elif name == "end":
            self._end(rest)
        elif self._blocks:
            if name not in _SILENT_IN_CODE:
                writer.code(self.plain(line))
        elif not line.strip():
            writer.blank()
        elif not name:
            return at + 1 if line.startswith("\\input") else self._read_text(at)
        elif name == "node":
            self._node = _page_of_node(self.plain(rest.partition(",")[0]))
        elif name in _LEVELS:
            self._lists.clear()
            writer.heading(self.plain(rest), _LEVELS[name], self._node)
        elif name == "settitle":
            writer.page.title = self.plain(rest)
        elif name == "set" and len(self._values) < 500:
            self._values[rest.partition(" ")[0]] = rest.partition(" ")[2].strip()[:200]
        elif name.removeprefix("def").removesuffix("x") in _DEFINITIONS and name != "def":
            self._define(name.removeprefix("def").removesuffix("x"), rest)
        elif name in _LISTS:
            self._lists.append((name, rest))
        elif name in ("item", "itemx", "headitem"):
            self._item(re.sub(r"\s*@tab\s*", " – ", rest))
        elif name in ("tab", "quotation", "smallquotation", "exdent", "center") and rest:
            writer.line(self.markdown(rest))
        return at + 1

    def _skip(self, at: int, name: str) -> int:
        """The line after a block, of which only a verbatim one is shown."""
        end = at + 1
        while end < len(self._lines) and not re.match(rf"\s*@end {name}\b", self._lines[end]):
            if name == "verbatim":
                self._writer.number = end + 1
                self._writer.code(self._lines[end])
            end += 1
        self._writer.end_code()
        if macro := re.match(r"@r?macro\s+(\w+)\s*\{([^}]*)\}", self._lines[at]):
            item = next((each for each in self._lines[at:end] if each.startswith("@item")), "")
            self._macros[macro[1]] = re.split(r"\s*,\s*", macro[2].strip()), item
        return end + 1

    def _read_text(self, at: int) -> int:
        text, end = self._lines[at], at + 1
        # A command may go on in the next lines.
        while self._lines[end].strip() and end - at < LONGEST_COMMAND and text.count("{") > text.count("}"):
            text = f"{text} {self._lines[end].strip()}"
            end += 1
        self._writer.line(self.markdown(text))
        return end

    def _end(self, name: str) -> None:
        if name in _CODE and self._blocks:
            self._blocks -= 1
            self._writer.end_code() if not self._blocks else None
        elif name in _LISTS and self._lists:
            self._lists.pop()
            self._writer.leave(len(self._lists)) if self._lists else self._writer.end_entry()
        elif name.startswith("def"):
            self._writer.leave()
            self._writer.page.close_headings(DIRECTIVE_LEVEL)

    def _item(self, rest: str) -> None:
        kind, mark = self._lists[-1] if self._lists else ("itemize", "")
        depth = max(0, len(self._lists) - 1)
        if kind in _TABLES:
            tag = f"{mark.split()[0]}{{{rest}}}" if mark.startswith("@") and "{" not in mark else rest
            self._writer.term(self.markdown(tag), depth)
            return
        self._writer.item("1. " if kind == "enumerate" else "- ", depth)
        if rest:
            self._writer.line(self.markdown(rest))

    def _define(self, kind: str, rest: str) -> None:
        """A definition such as `@deffn {Command} name arguments`, whose name is an entry."""
        found = re.findall(r"\{[^{}]*\}|[^\s{}]+\{[^{}]*\}|[^\s{}]+", rest[:1000])
        words = [self.plain(each.strip("{}")) for each in found]
        before = _DEFINITIONS[kind]
        self._lists.clear()
        self._writer.end_entry()
        self._writer.page.open_heading(
            (words[before:] or words[-1:] or [""])[0],
            DIRECTIVE_LEVEL,
            kind="data" if kind.endswith(("vr", "var", "opt", "tp", "cv")) else "function",
            signature=re.sub(r" (?=[(),])", "", " ".join(words[before - kind.startswith("type") :])),
            anchor=self._node,
        )

    def plain(self, text: str) -> str:
        return self.markdown(text, is_code=True)

    def markdown(self, text: str, *, is_code: bool = False) -> str:
        """A text without Texinfo's commands, as Markdown or, in code, as it is."""
        # The open commands: name, what they hold so far, and whether that is code.
        stack: list[tuple[str, list[str], bool]] = [("", [], is_code)]
        for token in [*_TOKEN.findall(text), *[""] * MOST_NESTED]:
            name, pieces, is_literal = stack[-1]
            if token in ("}", "") and len(stack) > 1:
                stack.pop()
                _, outer, is_outer = stack[-1]
                outer.append(self._shown(name, "".join(pieces), is_literal=is_literal, is_code=is_outer))
            elif token[:1] == "@" and token[2:].endswith("{") and len(stack) < MOST_NESTED:
                stack.append((token[1:-1], [], is_literal or token[1:-1] in _LITERAL))
            else:
                if token[:1] == "@":
                    word = token[1:]
                    token = _SIGNS.get(word.rstrip("{") or word, "" if word[:1].isalpha() else word)
                elif token in ("{", "}") and not is_code:
                    token = ""
                pieces.append(token if is_literal else escape(token))
        return "".join(stack[0][1])

    def _shown(self, name: str, text: str, *, is_literal: bool, is_code: bool) -> str:
        """What a command with braces shows. `text` is code if `is_literal`; the result is if `is_code`."""
        if name in _SIGNS:
            return _SIGNS[name]
        if name == "value":
            return self._values.get(text, "") if is_code else escape(self._values.get(text, ""))
        if name == "footnote":
            return f" ({text})"
        if name in _LINKS:
            parts = [each.strip() for each in text.split(",")]
            shown = next((each for each in (*parts[2:3], *parts[1:2]) if each), parts[0])
            if name in ("uref", "url") and not is_code:
                return f"[{escape(shown)}](<{parts[0]}>)" if shown != parts[0] else f"<{parts[0]}>"
            return {"xref": "See ", "pxref": "see "}.get(name, "") + shown
        if is_code or not text.strip():
            return text
        if is_literal:
            return code(text) if name == "key" else literal(text)
        if name in _EMPHASIS and not re.search(r"[`*]", text):
            return emphasis(visible_text(text))
        return f"**{text}**" if name in ("strong", "b") and "*" not in text else text


def _page_of_node(name: str) -> str:
    """The file in which makeinfo writes a node: "Making-Archives.html"."""
    name = re.sub(r"\s+", "-", name.strip())
    if name in ("Top", ""):
        return "index.html" if name else ""
    return re.sub(r"[^a-zA-Z0-9-]", lambda char: f"_{ord(char[0]):04x}", name) + ".html"
