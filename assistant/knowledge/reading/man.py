"""Reads man pages: the macros of man(7) and of mdoc(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from assistant.knowledge.reading.page import Page, Unreadable, word_set
from assistant.knowledge.reading.writer import Writer, emphasis, escape, literal

LONGEST_LINE = 8_000  # characters of lines that a backslash joins
LONGEST_TAG = 1_000  # characters of the lines between `Xo` and `Xc`
Run = tuple[str, str]  # a font (B, I, U for an address, or "") and a text

# Escapes have bounded lengths, since a search for a missing end would go through the whole line each time.
_ESCAPE = re.compile(
    r"""\\(?:(?P<kind>[f*nmMkYFgVO]?)(?:\[(?P<long>[^\]]{0,40})\]|\((?P<two>..))
    | (?P<short>[f*nmMkYFgVO])(?P<one>[-+]?.) | [hvwlLDXZbBoAHNRSxC]'[^']{0,80}'
    | s(?:[-+]?\d{1,2}|[-+]?\(..|[-+]?\[[^\]]{0,20}\]|[-+]?'[^']{0,20}')
    | ["\#].* | \$. | (?P<char>.) | $)""",
    re.VERBOSE,
)
_CHARS = {"e": "\\", "~": " ", "0": " ", **{char: char for char in "-\\ .'`_"}}  # what `\e` shows
# What `\(em` shows; of a letter with an accent, the letter.
_SHOWN = word_set(
    "em— en– hy- mi- bu• ci○ sc§ co© rg® tm™ de° mu× +-± >=≥ <=≤ !=≠ ->→ <-← ua↑ da↓ rs\\ ti~ ha^ ga` aq' "
    "dq\" lq“ rq” oq‘ cq’ Fo« Fc» bv| ba| or| sl/ ul_ at@ sh# Do$ lB[ rB] lC{ rC} fm' Eu€ ssß oaå pl+ "
    "**∗ eq= aa´"
)
_GLYPHS = {each[:2]: each[2:] for each in _SHOWN}
_STRINGS = {
    "R": "®",
    "Tm": "™",
    "lq": "“",
    "rq": "”",
    'L"': '"',
    'R"': '"',
    "C+": "C++",
    "--": "–",
    "Aq": "'",
}
_FONTS = {**dict.fromkeys(word_set("B 3 CB CW C BI 4"), "B"), **dict.fromkeys(("I", "2", "CI"), "I")}
_ARGUMENT = re.compile(r'\\".*|"((?:[^"]|"")*+)"?|((?:\\.|[^\s\\]|\\$)+)')
_TWICE = re.compile(r"\\fB\\\[rs\]fB([^\\]{1,200})\\\[rs\]fR")  # the pages of npm escape fonts in bold text
_BULLETS = word_set("• ○ · - + * o \\- \\* \\+")

_MAN_FONTS = {name: name for name in word_set("B I R BI BR IB IR RB RI")} | {"SM": "R", "SB": "B"}
_SECTIONS = {"SH": 2, "Sh": 2, "SS": 3, "Ss": 3}
_SILENT = word_set("IX PD DT AT UC Dd Os Bk Ek Rs Re YS UE ME EQ EN Sm Db Hf Bf Ef")
_CODE_BEGINS, _CODE_ENDS = word_set("nf EX Vb Bd DS CS TS"), word_set("fi EE Ve Ed DE CE TE")
_LISTS = word_set("bullet dash hyphen item enum column")  # those of mdoc whose items have no tags
# A paragraph that proves to be the tag of an indented text.
_TAG = re.compile(r"^\.(?:L?P|PP|sp|ps)\b.*\n((?:[^.'\n].*\n){1,4})(?=\.(?:RS|INDENT)\b)", re.MULTILINE)
# The macros of mdoc within a line: the font of what follows, the marks around it, or the words.
_MDOC_FONTS = {
    **dict.fromkeys(word_set("Fl Cm Ic Nm Li Ql Fn Ft In Dv Ev Er Pa Va Vt Fd Ms Cd Sy Xr Fo Mt"), "B"),
    **dict.fromkeys(word_set("Ar Fa Em Ad"), "I"),
    **dict.fromkeys(word_set("No Tn An Sx St Lb Ot Ns Pf Ap Xo Xc"), ""),
}
_MARKS = word_set(
    'Op=[] Aq=<> Bq=[] Brq={} Pq=() Dq=“” Qq="" Sq=‘’ Oo=[ Oc=.] Ao=< Ac=.> Bo=[ Bc=.] Bro={ Brc=.} '
    'Po=( Pc=.) Do=“ Dc=.” Qo=" Qc=." So=‘ Sc=.’ Fc=.)'
)
_MDOC_MARKS = {each.partition("=")[0]: each.partition("=")[2] for each in _MARKS}  # a dot: no opening mark
_MDOC_WORDS = {
    **dict(
        each.split("=") for each in word_set("Ux=UNIX At=UNIX Bx=BSD Fx=FreeBSD Nx=NetBSD Ox=OpenBSD Ta=|")
    ),
    "Nd": "–",
    "Ex": "It exits with 0 on success, and with more if an error occurs.",
    "Rv": "It returns 0 on success, and -1 with errno if an error occurs.",
}
_MDOC = _MDOC_FONTS.keys() | _MDOC_MARKS.keys() | _MDOC_WORDS.keys()
_PUNCTUATION = frozenset(".,;:)]?!")


def read_man(text: str) -> Page:
    """The sections of a man page. Raises `Unreadable` if the text has no macro of man pages."""
    if not re.search(r"^[.'][ \t]*(?:TH|SH|Dd|Dt|Sh|so)\b", text, re.MULTILINE):
        raise Unreadable("it is not a man page")
    reader = _ManReader()
    for number, line in enumerate(_TAG.sub(_tagged, _TWICE.sub(r"\\fB\1", text)).split("\n"), 1):
        reader.read(line, number)
    return reader.writer.finished()


def _tagged(paragraph: re.Match[str]) -> str:
    """The same lines with the macro of a tag, joined to one line after empty requests."""
    lines = paragraph[1].split("\n")[:-1]
    return ".\n" * (len(lines) - 1) + ".TP\n" + " ".join(lines) + "\n"


class _ManReader:
    def __init__(self) -> None:
        self.writer = Writer()
        self._strings = dict(_STRINGS)
        self._name = ""  # what `.Nm` stands for
        self._section = ""
        self._joined = ""  # a line that goes on in the next
        self._until = ""  # the line that ends what is skipped
        self._braces = 0  # that must close before the text is read again
        self._next = ""  # a macro whose argument is the next line
        self._lists: list[str] = []  # what indents the text: types of mdoc's lists, or "RS"
        self._is_code = False

    def read(self, line: str, number: int) -> None:
        self.writer.number = number
        if self._joined.endswith(" Xo "):
            line = "" if line.startswith(".Sm") else line.lstrip(".")
        line, self._joined = self._joined + line, ""
        is_control = line[:1] in (".", "'")
        if self._until:
            self._until = "" if re.fullmatch(self._until, line[:200]) else self._until
        elif self._braces:
            self._braces = max(0, self._braces + line.count("\\{") - line.count("\\}"))
        elif line.endswith("\\") and not line.endswith("\\\\") and len(line) < LONGEST_LINE:
            self._joined = line[:-1]
        elif is_control and " Xo" in line and "Xc" not in line and len(line) < LONGEST_TAG:
            self._joined = f"{line} Xo "
        elif is_control and re.match(r".[ \t]*(?:if|ie)\b", line):
            # Of two versions, the second is for print and shows more. A single one is seldom text.
            self._braces = max(0, line.count("\\{") - line.count("\\}"))
        elif is_control:
            line = re.sub(r"^.[ \t]*el\b", "", line).replace("\\{", "").replace("\\}", "").strip()
            if found := re.match(r"[.'][ \t]*([^\s\\\"]+)[ \t]*(.*)", line):
                self._macro(found[1], found[2])
            elif line[:1] not in (".", "'", ""):
                self._text([("", line)])
        else:
            self._text([("", line)] if line.strip() else [])

    def _macro(self, name: str, rest: str) -> None:
        arguments = [
            found[2] if found[1] is None else found[1].replace('""', '"')
            for found in _ARGUMENT.finditer(rest)
            if not found[0].startswith('\\"')
        ]
        first, words = (arguments or [""])[0], " ".join(arguments)
        writer = self.writer
        if name in ("de", "de1", "am", "ig"):
            self._until = r"[.']\s*" + re.escape((arguments[name != "ig" :] or ["."])[0])
        elif name == "ds":
            if len(self._strings) < 1000 and first not in _STRINGS:
                self._strings[first] = rest[len(first) :].strip().lstrip('"')[:200]
        elif name in ("TH", "Dt"):
            title = self._plain([("", first)])
            title = title.lower() if title.isupper() else title
            writer.heading(f"{title}({arguments[1]})" if len(arguments) > 1 else title, 1)
        elif name in _SECTIONS:
            self._is_code, self._lists, self._next = False, [], name
            writer.end_entry()
            if arguments:
                self._text(_mdoc_runs(arguments, self._name) if name[1] in "hs" else [("", words)])
        elif name in _CODE_BEGINS:
            # The rows of a table are lines of code; its format, which ends with a dot, is skipped.
            self._until = r".*\.\s*" if name == "TS" else ""
            self._is_code = name != "Bd" or not {"-filled", "-ragged", "-centered"}.intersection(arguments)
        elif name in _CODE_ENDS:
            self._is_code = False
            writer.end_code()
        elif self._is_code and name in ("PP", "P", "LP", "HP", "Pp", "Lp", "sp", "Sp"):
            writer.code("")
        elif name in ("br", "SY", "sp", "Sp") or (name == "Pp" and self._lists):
            writer.blank()
            self._text([("B", first)]) if name == "SY" else None
        elif name in ("PP", "P", "LP", "HP", "Pp", "Lp"):
            self._leave()
        elif name in ("TP", "TQ"):
            self._next = "TP"
        elif name == "IP":
            self._term([("", first)], len(self._lists)) if first.strip() else writer.blank()
        elif name in ("RS", "INDENT", "Bl"):
            kind = next((each[1:] for each in arguments if each[1:] in _LISTS), "tag")
            self._lists.append(kind if name == "Bl" else "RS")
        elif name in ("RE", "UNINDENT", "El"):
            del self._lists[-1:]
            self._leave()
        elif name == "It":
            depth = max(0, len(self._lists) - 1)
            if self._lists and self._lists[-1] not in _LISTS:
                self._term(_mdoc_runs(arguments, self._name), depth)
            else:
                writer.item("1. " if self._lists[-1:] == ["enum"] else "- ", depth)
                self._text(_mdoc_runs(arguments, self._name)) if arguments else None
        elif name in ("UR", "MT", "Lk"):
            self._text([("", " ".join([*arguments[1:], ""])), ("U", first)])
        elif name in ("Dl", "D1"):
            writer.code(self._plain(_mdoc_runs(arguments, self._name)))
            writer.end_code()
        elif name in _SILENT:
            pass
        elif name in _MAN_FONTS and not arguments:
            self._next = _MAN_FONTS[name]
        elif name in _MAN_FONTS:
            fonts = _MAN_FONTS[name]
            pieces = arguments if len(fonts) > 1 else [words]
            self._text([(fonts[at % len(fonts)].strip("R"), each) for at, each in enumerate(pieces)])
        elif name in _MDOC:
            self._name = self._name or (first if name == "Nm" else "")
            if name in ("Nm", "Ft", "In", "Fo", "Fd") and self._section == "SYNOPSIS":
                writer.blank()
            self._text(_mdoc_runs([name, *arguments], self._name))
        elif not name.islower() and arguments:  # a macro of the page; requests have small letters
            self._text([("", words)])

    def _text(self, runs: list[Run]) -> None:
        macro, self._next = self._next, ""
        writer = self.writer
        if macro in _SECTIONS:
            self._section = self._plain(runs)
            # The name and the synopsis tell what the whole page is about.
            is_head = len(writer.page.headings) == 1 and _SECTIONS[macro] == 2
            if not is_head or (writer.page.lines and self._section.upper() != "SYNOPSIS"):
                writer.heading(self._section, _SECTIONS[macro])
        elif macro == "TP":
            self._term(runs, len(self._lists))
        elif self._is_code:
            writer.code(re.sub(r"(?<!\w)T[{}]", "", self._plain(runs)))
        elif not runs:
            writer.blank()
        else:
            font = macro[:1].strip("R")
            if runs[0][1][:1].isspace():
                writer.blank()
            writer.line(self._markdown([(each or font, text) for each, text in runs]))

    def _leave(self) -> None:
        self.writer.leave(len(self._lists)) if self._lists else self.writer.end_entry()

    def _term(self, runs: list[Run], depth: int) -> None:
        tag = self._markdown(runs).strip()
        if tag in _BULLETS or not tag:
            self.writer.item("- ", depth)
        elif found := re.fullmatch(r"[(\[]?(\d{1,3})\\?[.)\]]*", tag):
            self.writer.item(f"{found[1]}. ", depth)
        else:
            self.writer.term(tag, depth)

    def _runs(self, text: str, font: str, *, is_string: bool = False) -> list[Run]:
        """A text without escapes, in runs of one font."""
        runs: list[Run] = []
        at, outer = 0, font
        for found in _ESCAPE.finditer(text):
            runs.append((font, text[at : found.start()]))
            at = found.end()
            kind, value = found["kind"] or found["short"], found["long"] or found["two"] or found["one"] or ""
            if kind == "f":
                font = _FONTS.get(value, "" if value in ("R", "1", "CR") else outer)
            elif kind == "*" and not is_string:
                runs += self._runs(self._strings.get(value, ""), font, is_string=True)
            elif kind == "" and re.fullmatch(r"u[0-9A-F]{4,5}", value):
                runs.append((font, chr(int(value[1:], 16))))
            elif not kind:
                char = _CHARS.get(found["char"] or "", "")
                runs.append((font, char or _GLYPHS.get(value, value[1:] if value[:1] in "'`^:~," else "")))
        return [*runs, (font, text[at:])]

    def _inline(self, runs: Iterable[Run]) -> list[Run]:
        """Runs without escapes; neighbours in one font are one run."""
        parts = (part for font, text in runs for part in self._runs(text, font) if part[1])
        return [(font, "".join(text for _, text in group)) for font, group in groupby(parts, itemgetter(0))]

    def _plain(self, runs: Iterable[Run]) -> str:
        return "".join(text for _, text in self._inline(runs))

    def _markdown(self, runs: Iterable[Run]) -> str:
        shown = []
        for font, text in self._inline(runs):
            words = text.strip()
            before, _, after = text.partition(words or " ")
            style = {"B": literal, "I": emphasis, "U": "<{}>".format}.get(font, escape)
            shown.append(f"{before}{style(words)}{after}" if words else text)
        return "".join(shown)


def _mdoc_runs(arguments: list[str], page_name: str) -> list[Run]:
    """The arguments of a macro of mdoc, in which other macros stand."""
    end = len(arguments)
    while end and arguments[end - 1] in _PUNCTUATION:
        end -= 1
    words = ["", "", *arguments[:end], ""]
    runs: list[Run] = []
    font, close, dash, is_tight = "", "", "", True
    for before, last, word, following in zip(words, words[1:], words[2:], words[3:], strict=False):
        text, style = dash + word, font
        if word == "Xo":
            text, style, close, is_tight = close, "", "", is_tight or close != ""
        elif word in _PUNCTUATION or word in ("(", "[", "|"):
            text, style = word, ""
            is_tight |= word in _PUNCTUATION
        elif word in _MDOC_WORDS:
            text, style = _MDOC_WORDS[word], ""
        elif word in _MDOC_MARKS:
            opening, ending = _MDOC_MARKS[word][0].strip("."), _MDOC_MARKS[word][1:]
            close = ending + close if opening else close
            is_tight |= not opening
            text, style = opening or ending, ""
        elif word in _MDOC_FONTS:
            font, dash = _MDOC_FONTS[word] or (font if word == "Ns" else ""), "-" * (word == "Fl")
            is_tight |= word in ("Ns", "Ap")
            text, style = "'" * (word == "Ap"), ""
            if not following or following in _MDOC or following in _PUNCTUATION:
                text, style = {"Nm": page_name, "Fl": "-", "Ar": "file ..."}.get(word, text), font
        elif before == "Xr":
            text, style, is_tight = f"({word})", "", True
        if text:
            runs += [("", "" if is_tight else " "), (style, text)]
            is_tight = text in "([{<“‘'" or (word, following) == ("Fl", "Fl") or last == "Pf"
    return [*runs, ("", close + "".join(arguments[end:]))]
