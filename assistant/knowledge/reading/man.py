"""Reads man pages: the macros of man(7) and mdoc(7), those of Perl and DocBook, and simple tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from assistant.knowledge.reading.page import Page, Unreadable, word_set
from assistant.knowledge.reading.writer import Writer, emphasis, escape, literal

LONGEST_LINE = 8_000  # characters that backslashes join
Run = tuple[str, str]  # a font (B, I, U for an address, or "") and a text

# Escapes have bounded lengths, since a search for a missing end would go through the whole line each time.
_ESCAPE = re.compile(
    r"""\\(?:
    f(?:\[(?P<font>[^\]]{0,20})\]|\((?P<font2>..)|(?P<font1>.))
    | \*(?:\[(?P<string>[^\]]{0,40})\]|\((?P<string2>..)|(?P<string1>.))
    | \[(?P<glyph>[^\]]{0,40})\] | \((?P<glyph2>..) | C'(?P<glyph3>[^']{0,40})'
    | s(?:[-+]?\d{1,2}|[-+]?\(..|[-+]?\[[^\]]{0,20}\]|[-+]?'[^']{0,20}') | [hvwlLDXZbBoAHNRSx]'[^']{0,80}'
    | [nmMkYFgVO](?:\[[^\]]{0,40}\]|\(..|[-+]?.) | ["\#].* | \$. | z
    | (?P<char>.) | $)""",
    re.VERBOSE,
)
# What `\x` and `\(xx` show.
_CHARS = {"e": "\\", "~": " ", "0": " ", **{char: char for char in "-\\ .'`_"}}
# fmt: off
_SHOWN = word_set(
    "em— en– hy- mi- bu• ci○ sq□ ps¶ sc§ dg† co© rg® tm™ de° mu× di÷ +-± >=≥ <=≤ !=≠ ->→ <-← ua↑ da↓ rs\\ "
    "ti~ ha^ ga` aq' dq\" lq“ rq” oq‘ cq’ Bq„ bq‚ Fo« Fc» fo‹ fc› bv| ba| or| br| sl/ ul_ at@ sh# Do$ lB[ "
    "rB] lC{ rC} la⟨ ra⟩ fm' Po£ Eu€ Ye¥ ct¢ AEÆ aeæ OEŒ oeœ /OØ /oø oAÅ oaå ssß 12½ 14¼ 34¾ if∞ pl+ "
    "**∗ eq= aa´"
)
# fmt: on
_GLYPHS = {each[:2]: each[2:] for each in _SHOWN}
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", ":": "\u0308", "~": "\u0303", ",": "\u0327"}
_STRINGS = {
    "R": "®", "Tm": "™", "lq": "“", "rq": "”", 'L"': '"', 'R"': '"', "C+": "C++", "--": "–", "Aq": "'",
}  # fmt: skip
_FONTS = {
    **dict.fromkeys(("B", "3", "CB", "CW", "C", "BI", "4"), "B"),
    **dict.fromkeys(("I", "2", "CI"), "I"),
}
_ARGUMENT = re.compile(r'\\".*|"((?:[^"]|"")*+)"?|((?:\\.|[^\s\\]|\\$)+)')
_BULLETS = word_set("• ○ · - + * o \\- \\* \\+")

_MIXED = {first + second for first in "BIR" for second in "BIR"} - {"BB", "II", "RR"}
_SILENT = word_set("IX PD DT AT UC Dd Os Bk Ek Rs Re Xo Xc YS UE ME EQ EN Sm Db Hf Bf Ef")
_CODE_BEGINS, _CODE_ENDS = word_set("nf EX Vb Bd DS CS"), word_set("fi EE Ve Ed DE CE")
_LISTS = word_set("bullet dash hyphen item enum tag hang ohang inset diag column")
# The macros of mdoc within a line: the font of what follows, the marks around it, or the words.
_MDOC_FONTS = {
    **dict.fromkeys(word_set("Fl Cm Ic Nm Li Ql Fn Ft In Dv Ev Er Pa Va Vt Fd Ms Cd Sy Xr Fo Mt"), "B"),
    **dict.fromkeys(word_set("Ar Fa Em Ad"), "I"),
    **dict.fromkeys(word_set("No Tn An Sx St Lb Ot Ns Pf Ap Xo Xc Bk Ek"), ""),
}
_MARKS = word_set(
    'Op=[] Aq=<> Bq=[] Brq={} Pq=() Dq=“” Qq="" Sq=‘’ Oo=[ Oc=.] Ao=< Ac=.> Bo=[ Bc=.] Bro={ Brc=.} '
    'Po=( Pc=.) Do=“ Dc=.” Qo=" Qc=." So=‘ Sc=.’ Fc=.)'
)
_MDOC_MARKS = {each.partition("=")[0]: each.partition("=")[2] for each in _MARKS}  # a dot: no opening mark
_MDOC_WORDS = {
    "Ux": "UNIX", "Bx": "BSD", "Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Dx": "DragonFly",
    "Bsx": "BSD/OS", "At": "UNIX", "Ta": "|",
    "Ex": "It exits with 0 on success, and with more if an error occurs.",
    "Rv": "It returns 0 on success, and -1 with errno if an error occurs.",
}  # fmt: skip
_MDOC = _MDOC_FONTS.keys() | _MDOC_MARKS.keys() | _MDOC_WORDS.keys()
_PUNCTUATION = frozenset(".,;:)]?!")


def read_man(text: str) -> Page:
    """The sections of a man page. Raises `Unreadable` if the text has no macro of man pages."""
    if not re.search(r"^[.'][ \t]*(?:TH|SH|Dd|Dt|Sh|so)\b", text, re.MULTILINE):
        raise Unreadable("it is not a man page")
    reader = _ManReader()
    for number, line in enumerate(text.split("\n"), 1):
        reader.read(line, number)
    return reader.finished()


class _ManReader:
    def __init__(self) -> None:
        self._writer = Writer()
        self._strings = dict(_STRINGS)
        self._name = ""  # what `.Nm` stands for
        self._section = ""
        self._joined = ""  # a line that goes on in the next
        self._until = ""  # the line that ends a definition, which is skipped
        self._braces = 0  # that must close before the text is read again
        self._last_condition = True
        self._next = ""  # a macro whose argument is the next line
        self._depth = 0
        self._lists: list[str] = []  # the types of mdoc's lists
        self._is_code = False
        self._table: list[str] | None = None
        # The lines of a paragraph that may prove to be the tag of an indented text.
        self._held: list[tuple[int, str]] | None = None
        self._tag: list[Run] | None = None  # a tag of mdoc that goes on in the next lines

    def read(self, line: str, number: int) -> None:
        self._writer.number = number
        line, self._joined = self._joined + line, ""
        if self._until:
            ends = line[:1] in (".", "'") and line[1:].strip() == self._until
            self._until = "" if ends else self._until
        elif self._braces:
            self._braces = max(0, self._braces + line.count("\\{") - line.count("\\}"))
        elif line.endswith("\\") and not line.endswith("\\\\") and len(line) < LONGEST_LINE:
            self._joined = line[:-1]
        elif self._table is not None and not line.startswith(".TE"):
            self._table.append(line)
        elif line[:1] in (".", "'") and line[1:2] not in ("\\", ""):
            self._read_condition(line)
        elif not line.startswith((".\\", "'\\")) and line != ".":
            self._text([("", line)] if line.strip() else [])

    def _read_condition(self, line: str) -> None:
        for _ in range(4):  # conditions within conditions
            line = line.replace("\\}", "")
            found = re.match(
                r"[.'][ \t]*(if|ie|el)\b[ \t]*(!?[ \t]*(?:'[^']{0,99}'[^']{0,99}'|\S+))?[ \t]*(.*)", line
            )
            if not found:
                break
            word, condition, rest = found[1], found[2] or "", found[3]
            if word == "el":
                holds, rest = not self._last_condition, f"{condition} {rest}".strip()
            else:  # it is read as on a terminal, by groff
                is_terminal = condition.lstrip("! ").startswith(("n", "\\n(.g", "\\n[.g"))
                holds = is_terminal != condition.startswith("!")
            self._last_condition = holds if word == "ie" else True
            if not holds:
                self._braces = max(0, line.count("\\{") - line.count("\\}"))
                return
            line = rest.replace("\\{", "", 1).strip()
        if found := re.match(r"[.'][ \t]*([^\s\\\"]+)[ \t]*(.*)", line):
            self._macro(found[1], found[2])
        elif line:
            self._text([("", line)])

    def _macro(self, name: str, rest: str) -> None:
        arguments = [
            found[2] if found[1] is None else found[1].replace('""', '"')
            for found in _ARGUMENT.finditer(rest)
            if not found[0].startswith('\\"')
        ]
        first, words = (arguments or [""])[0], [("", " ".join(arguments))]
        writer = self._writer
        if self._tag is not None and (name == "Xc" or (name not in _MDOC and name != "Sm")):
            tag, self._tag = self._tag, None
            self._term(tag, len(self._lists) - 1)
        if name in ("de", "de1", "am", "ig"):
            self._until = (arguments[name != "ig" :] or ["."])[0]
        elif name == "ds":
            if len(self._strings) < 1000 and first not in _STRINGS:
                self._strings[first] = rest[len(first) :].strip().lstrip('"')[:200]
        elif name in ("TH", "Dt"):
            title = "".join(text for _, text in self._runs(first))
            title = title.lower() if title.isupper() else title
            writer.heading(f"{title}({arguments[1]})" if len(arguments) > 1 else title, 1)
        elif name in ("SH", "SS", "Sh", "Ss"):
            self._end_paragraph(is_section=True)
            self._next = name
            if arguments:
                self._text(self._of_mdoc(arguments) if name[1] in "hs" else words)
        elif name in _CODE_BEGINS:
            self._flush()
            self._is_code = name != "Bd" or not {"-filled", "-ragged", "-centered"}.intersection(arguments)
        elif name in _CODE_ENDS:
            self._is_code = False
            writer.end_code()
        elif name in ("PP", "P", "LP", "HP", "Pp", "Lp", "sp", "Sp"):
            if self._is_code:
                writer.code("")
            elif name[0] in "sS" or self._lists:
                self._flush()
                writer.blank()
                self._held = [] if name == "sp" else None
            else:
                self._end_paragraph()
                self._held = []
        elif name in ("br", "SY"):
            writer.hard_break()
            self._text([("B", first)]) if first else None
        elif name in ("TP", "TQ"):
            self._flush()
            self._next = "TP"
        elif name == "IP":
            self._flush()
            self._term([("", first)]) if first.strip() else writer.blank()
        elif name in ("RS", "INDENT"):
            tags, self._held = self._held, None
            for _, each in tags or ():
                writer.term(each, self._depth)
            self._depth += 1
        elif name in ("RE", "UNINDENT"):
            self._flush()
            self._depth = max(0, self._depth - 1)
            writer.leave(self._depth) if self._depth else writer.end_entry()
        elif name == "Bl":
            self._flush()
            self._lists.append(next((each[1:] for each in arguments if each[1:] in _LISTS), "tag"))
        elif name == "El":
            self._flush()
            self._lists = self._lists[:-1]
            writer.leave(len(self._lists)) if self._lists else writer.end_entry()
        elif name == "It":
            self._item(arguments)
        elif name == "TS":
            self._flush()
            self._table = []
        elif name == "TE":
            self._write_table()
        elif name in ("UR", "MT", "Lk"):
            self._text([("", " ".join([*arguments[1:], ""])), ("U", first)])
        elif name in ("Dl", "D1"):
            self._flush()
            writer.code("".join(text for _, text in self._of_mdoc(arguments)))
            writer.end_code()
        elif name == "OP":
            self._text([("", "["), ("B", first), ("", " "), ("I", " ".join(arguments[1:])), ("", "]")])
        elif name == "Nd":
            self._text([("", "– "), *self._of_mdoc(arguments)])
        elif name in _SILENT:
            pass
        elif name in ("B", "I", "R", "SM", "SB", "RB", "BR") and not arguments:
            self._next = name
        elif name in ("B", "I", "R", "SM", "SB"):
            self._text([(name[-1].strip("RM"), words[0][1])])
        elif name in _MIXED:
            self._text([(name[at % 2].strip("R"), each) for at, each in enumerate(arguments)])
        elif name in _MDOC or name[0] == "%":
            self._name = self._name or (first if name == "Nm" else "")
            if name in ("Nm", "Ft", "In", "Fo", "Fd") and self._section == "SYNOPSIS":
                writer.hard_break()
            self._text(self._of_mdoc([name, *arguments] if name in _MDOC else arguments))
        elif not name.islower() and arguments:  # a macro of the page; requests have small letters
            self._text(words)

    def _text(self, runs: list[Run]) -> None:
        macro, self._next = self._next, ""
        writer = self._writer
        if self._tag is not None:
            self._tag += [("", " "), *runs]
        elif macro in ("SH", "SS", "Sh", "Ss"):
            self._section = "".join(text for _, text in self._inline(runs))
            # The name and the synopsis tell what the whole page is about.
            is_head = len(writer.page.headings) == 1 and macro in ("SH", "Sh")
            if not is_head or (writer.page.lines and self._section.upper() != "SYNOPSIS"):
                writer.heading(self._section, 2 if macro in ("SH", "Sh") else 3)
        elif macro == "TP":
            self._term(runs)
        elif self._is_code:
            writer.code("".join(text for _, text in self._inline(runs)))
        elif not runs:
            self._flush()
            writer.blank()
        else:
            font = macro.replace("SM", "").replace("SB", "B")[:1].strip("R")
            shown = self._markdown([(each or font, text) for each, text in runs])
            if re.fullmatch(r"[•○·]|\d{1,3}\.", shown.strip()):
                self._term(runs)
            elif self._held is not None and len(self._held) < 8:
                self._held.append((writer.number, shown))
            else:
                self._flush()
                if runs[0][1][:1].isspace():
                    writer.hard_break()
                writer.line(shown)

    def _flush(self) -> None:
        held, self._held = self._held, None
        here = self._writer.number
        for number, line in held or ():
            self._writer.number = number
            self._writer.line(line)
        self._writer.number = here

    def _end_paragraph(self, *, is_section: bool = False) -> None:
        self._flush()
        if is_section:
            self._is_code, self._depth, self._lists = False, 0, []
        self._writer.leave(self._depth) if self._depth else self._writer.end_entry()

    def _term(self, runs: list[Run], depth: int | None = None) -> None:
        tag = self._markdown(runs).strip()
        depth = self._depth if depth is None else depth
        if tag in _BULLETS or not tag:
            self._writer.item("- ", depth)
        elif found := re.fullmatch(r"[(\[]?(\d{1,3})\\?[.)\]]*", tag):
            self._writer.item(f"{found[1]}. ", depth)
        else:
            self._writer.term(tag, depth)

    def _item(self, arguments: list[str]) -> None:
        kind = self._lists[-1] if self._lists else "tag"
        depth = max(0, len(self._lists) - 1)
        self._flush()
        if "Xo" in arguments:
            self._tag = self._of_mdoc(arguments)
        elif kind in ("tag", "hang", "ohang", "inset", "diag"):
            self._term(self._of_mdoc(arguments), depth)
        else:
            self._writer.item("1. " if kind == "enum" else "- ", depth)
            self._text(self._of_mdoc(arguments)) if arguments else None

    def _write_table(self) -> None:
        rows, self._table = self._table or [], None
        formats = next((at for at, row in enumerate(rows) if row.rstrip().endswith(".")), 0)
        tab = re.search(r"tab ?\((.)\)", rows[0] if rows else "")
        joined = ""
        for row in rows[formats + 1 :]:
            joined = f"{joined} {row}" if joined else row
            if joined.rfind("T{") > joined.rfind("T}") and len(joined) < LONGEST_LINE:
                continue  # a cell that goes on in the next line
            cells = [
                re.sub(r"T[{}]|(?:^|(?<=[ {]))\.\w+ ", "", each).strip()
                for each in joined.split(tab[1] if tab else "\t")
            ]
            joined = ""
            if any(each.strip("_=-. ") for each in cells):
                self._writer.item("- ", self._depth)
                self._writer.line(" – ".join(self._markdown([("", each)]) for each in cells if each))
        self._writer.leave(self._depth)

    def _of_mdoc(self, arguments: Sequence[str]) -> list[Run]:
        return _mdoc_runs(arguments, self._name)

    def _runs(self, text: str, font: str = "", *, is_string: bool = False) -> list[Run]:
        """A text without escapes, in runs of one font."""
        runs: list[Run] = []
        at, outer = 0, font
        for found in _ESCAPE.finditer(text):
            runs.append((font, text[at : found.start()]))
            at = found.end()
            kind, value = (found.lastgroup or "").rstrip("123"), found[found.lastgroup or 0]
            if kind == "font":
                font = _FONTS.get(value, "" if value in ("R", "1", "CR") else outer)
            elif kind == "string" and not is_string:
                runs += self._runs(self._strings.get(value, ""), font, is_string=True)
            elif kind == "glyph":
                runs.append((font, _glyph(value)))
            elif kind == "char":
                runs.append((font, _CHARS.get(value, "")))
        return [*runs, (font, text[at:])]

    def _inline(self, runs: Iterable[Run]) -> list[Run]:
        """Runs without escapes; neighbours in one font are one run."""
        parts = (part for font, text in runs for part in self._runs(text, font) if part[1])
        return [(font, "".join(text for _, text in group)) for font, group in groupby(parts, itemgetter(0))]

    def _markdown(self, runs: Iterable[Run]) -> str:
        shown = []
        for font, text in self._inline(runs):
            words = text.strip()
            before, _, after = text.partition(words or " ")
            style = {"B": literal, "I": emphasis, "U": "<{}>".format}.get(font, escape)
            shown.append(f"{before}{style(words)}{after}" if words else text)
        return "".join(shown)

    def finished(self) -> Page:
        self._flush()
        return self._writer.finished()


def _glyph(name: str) -> str:
    if re.fullmatch(r"u[0-9A-F]{4,5}", name):
        return chr(int(name[1:], 16))
    if len(name) == 2 and name[0] in _ACCENTS and name[1].isalpha():
        return unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
    return _GLYPHS.get(name, "")


def _mdoc_runs(arguments: Sequence[str], page_name: str) -> list[Run]:
    """The arguments of a macro of mdoc, in which other macros stand."""
    end = len(arguments)
    while end and arguments[end - 1] in _PUNCTUATION:
        end -= 1
    words = ["", "", *arguments[:end], ""]
    runs: list[Run] = []
    font, close, dash, is_tight = "", "", "", True
    for before, last, word, following in zip(words, words[1:], words[2:], words[3:], strict=False):
        text, style = "", ""
        if word in _PUNCTUATION or word in ("(", "[", "|"):
            text = word
            is_tight |= word in _PUNCTUATION
        elif word in _MDOC_WORDS:
            text = _MDOC_WORDS[word]
        elif word in _MDOC_MARKS:
            opening, ending = _MDOC_MARKS[word][0].strip("."), _MDOC_MARKS[word][1:]
            close = ending + close if opening else close
            is_tight |= not opening
            text = opening or ending
        elif word in _MDOC_FONTS:
            font, dash = _MDOC_FONTS[word] or (font if word == "Ns" else ""), "-" * (word == "Fl")
            is_tight |= word in ("Ns", "Ap")
            text = "'" * (word == "Ap")
            if not following or following in _MDOC or following in _PUNCTUATION:
                text, style = {"Nm": page_name, "Fl": "-", "Ar": "file ..."}.get(word, text), font
        elif before == "Xr":
            text, is_tight = f"({word})", True
        else:
            text, style = dash + word, font
        if text:
            runs += [("", "" if is_tight else " "), (style, text)]
            is_tight = text in "([{<“‘'" or (word, following) == ("Fl", "Fl") or last == "Pf"
    return [*runs, ("", close + "".join(arguments[end:]))]
