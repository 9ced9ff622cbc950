"""What a text in Markdown, reStructuredText, HTML or a notebook is made of: headings, prose, code.

Knows where sections begin and end, what their headings and anchors are, which of them describe a function or
a class, and between which lines a text must not be parted. Lines stay word for word: of HTML those that a
person sees, of a notebook those of its cells, code in both indented by four spaces. Refuses to know files,
and executes nothing: no directive, no include, no script.

Every reader takes any text in a time that grows with its length, and never raises, except for a notebook
that is none.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

from markdown_it import MarkdownIt

LONGEST_HEADING = 300  # characters; what is longer is none that a person would read
MOST_SIGNATURES = 8  # of one thing
CODE_INDENT = "    "  # Markdown shows it as code, and with white space folded it is not there
LONGEST_TAG = 100_000  # characters; to part the attributes of a longer one takes a hundred times its memory
UNCLOSED = 10_000  # characters at the end of HTML that are looked at again if a tag is not closed there


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class NotANotebook(ValueError):
    """The text is no notebook; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Heading:
    """A heading, or the signature of what is described below it."""

    name: str
    level: int
    above: Heading | None
    kind: str = "section"
    signature: str = ""
    anchor: str = ""  # only one that stands in the text itself

    @property
    def path(self) -> list[str]:
        """The names above and this one, outermost first; of very many the innermost."""
        names: list[str] = []
        heading: Heading | None = self
        while heading is not None and len(names) < 8:
            names.append(heading.name)
            heading = heading.above
        return names[::-1]


@dataclass(frozen=True, slots=True)
class Run:
    """The lines from `start` to before `end`, which all stand under one heading."""

    heading: Heading | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Page:
    """A text, cut at its headings."""

    lines: Sequence[str]
    numbers: Sequence[int]  # of each line, in the file
    solid: bytearray  # 1 for a line that belongs to the one before it
    dull: bytearray  # 1 for a line that says nothing to a person: labels, comments, lists of files
    headings: Sequence[Heading]
    runs: Sequence[Run]
    title: str = ""  # what the page calls itself outside of its text
    left_out: str = ""  # for people: what could not be read


class _Builder:
    """A page while it is read, line by line, with the headings that are open."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numbers: list[int] = []
        self.solid = bytearray()
        self.dull = bytearray()
        self.headings: list[Heading] = []
        self.title = ""
        self.left_out = ""
        self._open: list[Heading] = []
        self._runs: list[Run] = []
        self._start = 0

    def add(self, line: str, number: int, *, solid: bool = False) -> None:
        self.lines.append(line)
        self.numbers.append(number)
        self.solid.append(solid)
        self.dull.append(0)

    def add_all(self, lines: Sequence[str], first_number: int) -> None:
        self.lines.extend(lines)
        self.numbers.extend(range(first_number, first_number + len(lines)))
        self.solid.extend(bytes(len(lines)))
        self.dull.extend(bytes(len(lines)))

    def keep_together(self, start: int, end: int) -> None:
        if end > start + 1:
            self.solid[start + 1 : end] = b"\1" * (end - start - 1)

    def leave_out(self, start: int, end: int) -> None:
        if end > start:
            self.dull[start:end] = b"\1" * (end - start)

    def open(
        self,
        name: str,
        level: int,
        *,
        at: int | None = None,
        body: int | None = None,
        kind: str = "section",
        signature: str = "",
        anchor: str = "",
    ) -> None:
        """A heading whose own lines are from `at` to before `body`: by default none, at the end."""
        self.close(level, at=at)
        above = self._open[-1] if self._open else None
        name = " ".join(name.split())[:LONGEST_HEADING]
        heading = Heading(name or (above.name if above else ""), level, above, kind, signature, anchor)
        self.headings.append(heading)
        self._open.append(heading)
        self._start = len(self.lines) if body is None else body

    def close(self, level: int, *, at: int | None = None) -> None:
        """End what is as deep as `level` or deeper; what follows belongs to the heading above it."""
        end = len(self.lines) if at is None else at
        heading = self._open[-1] if self._open else None
        # What has a signature is told of even if nothing more is said about it.
        if end > self._start or (heading is not None and heading.signature):
            self._runs.append(Run(heading, min(self._start, end), end))
        self._start = max(self._start, end)
        while self._open and self._open[-1].level >= level:
            self._open.pop()

    def page(self) -> Page:
        self.close(0)
        lines = (self.lines, self.numbers, self.solid, self.dull)
        return Page(*lines, self.headings, self._runs, self.title, self.left_out)


# ------------------------------------------------------------------------------------------------- plain text


def plain(text: str) -> Page:
    """A text without headings."""
    page = _Builder()
    page.add_all(text.split("\n"), 1)
    return page.page()


# --------------------------------------------------------------------------------------------------- Markdown

_FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*")
_TITLE = re.compile(r"""title\s*[:=]\s*(["']?)(.+?)\1\s*$""")
_ATTRIBUTE = r"(?:[#.][\w:.#-]+|[\w-]+=[^\s{}]+|-)"
_ATTRIBUTES = re.compile(rf"\s*\{{[ :]*{_ATTRIBUTE}(?:\s+{_ATTRIBUTE})*\s*\}}\s*$")
_ANCHOR_OF_ATTRIBUTES = re.compile(r"#([\w:.-]+)")
_ANCHOR_OF_HTML = re.compile(r"""<\w+[^<>]{0,100}?\s(?:id|name)\s*=\s*["']?([\w:.-]+)""")
_MYST_LABEL = re.compile(r"\(([\w:. -]+)\)=\s*$")
_DULL_MARKDOWN = re.compile(
    r"\([\w:. -]+\)=\s*$|\[TOC\]\s*$|\[\[_?TOC_?\]\]\s*$|<!--(?:(?!-->).)*-->\s*$|<a [^<>]*>\s*</a>\s*$"
    r"|(?:import|export) .*(?:from ['\"].*|['\"]);?\s*$",
    re.IGNORECASE,
)
_INLINE = re.compile(r"[\\`*_\[<&!]")
_API = re.compile(
    r"(?:(?P<word>class|exception|def|async def|function|func|fn|method|property)\s+)?"
    r"(?P<name>[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*)*)(?P<arguments>\(.*\))?\s*(?:(?:->|→|:)\s*.+)?$"
)


@functools.cache
def _blocks() -> MarkdownIt:
    """Finds blocks and leaves alone what stands in a line: that is not asked for, and costs the most."""
    parser = MarkdownIt("commonmark", {"maxNesting": 40})
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


@functools.cache
def _spans() -> MarkdownIt:
    return MarkdownIt("commonmark", {"maxNesting": 10})


def markdown(text: str) -> Page:
    """Markdown as CommonMark defines it, with the front matter and the attributes that generators know."""
    page = _Builder()
    lines = text.split("\n")
    first = _end_of_front_matter(lines)
    page.title = next((found[2] for line in lines[:first] if (found := _TITLE.match(line))), "")
    _read_markdown(page, lines[first:], first + 1)
    return page.page()


def _end_of_front_matter(lines: Sequence[str]) -> int:
    """The line after it; 0 where there is none."""
    if lines and (mark := _FRONT_MATTER.fullmatch(lines[0])):
        for at, line in enumerate(lines[1:200], 1):
            if line.rstrip() in (mark[1], "..."):
                return at + 1
    return 0


def _read_markdown(page: _Builder, lines: Sequence[str], first_number: int) -> None:
    before = len(page.lines)
    page.add_all(lines, first_number)
    for at, line in enumerate(lines, before):
        if line[:1] in ("(", "[", "<", "i", "e") and _DULL_MARKDOWN.match(line[:LONGEST_HEADING]):
            page.leave_out(at, at + 1)
    tokens = _blocks().parse("\n".join(lines))
    for at, token in enumerate(tokens):
        if token.map is None:
            continue
        start, end = before + token.map[0], min(before + token.map[1], len(page.lines))
        if token.type in ("fence", "code_block", "html_block"):
            page.keep_together(start, end)
        elif token.type == "heading_open" and token.level == 0:
            label = _MYST_LABEL.match(page.lines[start - 1]) if start > before else None
            anchor = docutils_id(label[1]) if label else ""
            _open_markdown(page, tokens[at + 1].content, int(token.tag[1]), start, end, anchor)


def _open_markdown(page: _Builder, text: str, level: int, at: int, body: int, anchor: str) -> None:
    text = text[:LONGEST_HEADING]
    if attributes := _ATTRIBUTES.search(text):
        if found := _ANCHOR_OF_ATTRIBUTES.search(attributes[0]):
            anchor = found[1]
        text = text[: attributes.start()]
    elif "<" in text and (found := _ANCHOR_OF_HTML.search(text)):
        anchor = found[1]
    name = _visible(text)
    kind, signature = "section", ""
    # Prose says "class" too: what is described is marked as code, or has arguments.
    if (api := _API.match(name)) and (
        api["arguments"] or (api["word"] and ("`" in text or "." in api["name"]))
    ):
        kind = _kind_of(api["word"] or "", api["name"])
        name, signature = api["name"], name[api.start("name") :]
    page.open(name, level, at=at, body=body, kind=kind, signature=signature, anchor=anchor)


def _kind_of(word: str, name: str) -> str:
    last = re.split(r"\.|::", name)[-1]
    if word in ("class", "exception") or (not word and last[:1].isupper() and last != last.upper()):
        return "class"
    return word if word in ("method", "property") else "function"


def _visible(text: str) -> str:
    """What a reader sees of the Markdown in a heading."""
    if not _INLINE.search(text):
        return text.strip()
    (inline,) = _spans().parseInline(text)
    seen = []
    for token in inline.children or ():
        if token.type in ("text", "code_inline", "image"):
            seen.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            seen.append(" ")
    return "".join(seen).strip()


# ------------------------------------------------------------------------------------------- reStructuredText

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*$")
_DIRECTIVE = re.compile(r"\.\.\s+(?:(?P<domain>[\w-]+):)?(?P<name>[\w+.-]+)::(?:\s+(?P<rest>.*))?$")
_LABEL = re.compile(r"\.\.\s+_`?(?P<label>[^`]*?)`?:(?:\s|$)")
_OPTION = re.compile(r":[\w -]+:")
_ROLE = re.compile(r"(?::[\w+.:-]{1,40})?:?`([^`<]*)(?:<([^`<>]*)>)?`_{0,2}")
_SIGNATURE = re.compile(
    r"(?:(?:class|async|static|classmethod|abstract|final|exception)\s+)*"
    r"(?P<name>[^\W\d][\w.]*)\s*(?P<rest>.*)$"
)

KIND_OF_DIRECTIVE = {
    "function": "function",
    "decorator": "function",
    "class": "class",
    "exception": "class",
    "method": "method",
    "classmethod": "method",
    "staticmethod": "method",
    "decoratormethod": "method",
    "coroutinefunction": "function",
    "coroutinemethod": "method",
    "property": "property",
    "attribute": "data",
    "data": "data",
}
_KIND_IN_C = dict.fromkeys(("macro", "var", "type", "struct", "member", "enum"), "data")
_DOMAINS = (None, "py", "c", "cpp", "js", "rb", "php")
_CODE = _words(
    "code-block code sourcecode doctest testcode testoutput parsed-literal math prompt productionlist "
    "ipython jupyter-execute graphviz mermaid"
)
_DULL = _words(
    "index contents toctree highlight module currentmodule sectionauthor moduleauthor "
    "codeauthor meta raw include literalinclude default-domain testsetup testcleanup image sectnum "
    "role default-role title autosummary automodule"
)
_DEEP = 100  # the level of what a directive describes: deeper than any heading


def looks_like_rest(text: str) -> bool:
    """Whether a plain text is laid out as reStructuredText: a directive, or two underlined headings."""
    lines = text.split("\n", 2000)[:2000]
    if any(line.startswith(".. ") and _DIRECTIVE.match(line[:LONGEST_HEADING]) for line in lines):
        return True
    return sum(_heading_at(lines, at) is not None for at in range(len(lines))) >= 2


def rest(text: str) -> Page:
    """reStructuredText, read line by line: a tree of its nodes has lost which words stood where."""
    page = _Builder()
    page.add_all(text.split("\n"), 1)
    _Rest(page).read()
    return page.page()


@dataclass(frozen=True, slots=True)
class _Described:
    """A directive that describes something, while the lines below it are indented."""

    indent: int
    name: str
    is_class: bool


class _Rest:
    def __init__(self, page: _Builder) -> None:
        self._page = page
        self._lines = page.lines
        self._styles: list[tuple[str, bool]] = []  # of headings, the highest first
        self._described: list[_Described] = []
        self._module = ""
        self._label = ""

    def read(self) -> None:
        at = 0
        while at < len(self._lines):
            line = self._lines[at]
            if line.strip():
                indent = _indent(line)
                while self._described and indent <= self._described[-1].indent:
                    self._described.pop()
                    self._page.close(_DEEP + len(self._described), at=at)
                at = self._read_line(at, line, indent)
            else:
                at += 1

    def _read_line(self, at: int, line: str, indent: int) -> int:
        """Read what begins at a line; gives the line after it."""
        if indent <= 1 and (found := _heading_at(self._lines, at)):
            return self._read_heading(at, *found)
        text = line.lstrip()
        if text.startswith("..") and (text == ".." or text[2:3].isspace()):
            return self._read_explicit(at, text, indent)
        self._label = ""
        if at == 0 and _OPTION.match(text):
            self._page.leave_out(0, 1)
        if text.startswith((">>> ", "$ ")):
            end = at + 1
            while end < len(self._lines) and self._lines[end].strip():
                end += 1
            self._page.keep_together(at, end)
            return end
        if text.rstrip().endswith("::"):
            return self._read_code(at, indent)
        return at + 1

    def _read_heading(self, at: int, body: int, style: tuple[str, bool], text: str) -> int:
        if style not in self._styles:
            self._styles.append(style)
        name = _without_roles(text)
        anchor, self._label = self._label, ""
        self._page.open(name, self._styles.index(style) + 1, at=at, body=body, anchor=anchor)
        return body

    def _read_explicit(self, at: int, text: str, indent: int) -> int:
        text = text[: 10 * LONGEST_HEADING]
        if label := _LABEL.match(text):
            self._label = docutils_id(label["label"])
            self._page.leave_out(at, at + 1)
            return at + 1
        directive = _DIRECTIVE.match(text)
        if directive is None:  # a comment, a footnote, a substitution
            if not text[2:].lstrip().startswith("["):
                self._page.leave_out(at, end := self._end_of_block(at, indent))
                return end
            return at + 1
        domain, name, rest = directive["domain"], directive["name"], (directive["rest"] or "").strip()
        if name in ("module", "currentmodule") and domain in (None, "py"):
            self._module = "" if rest == "None" else rest
        kind = KIND_OF_DIRECTIVE.get(name) or (_KIND_IN_C.get(name) if domain == "c" else None)
        if kind and rest and domain in _DOMAINS:
            return self._read_described(at, indent, domain or "py", kind, rest)
        if name in _CODE:
            return self._read_code(at, indent)
        if name in _DULL:
            self._page.leave_out(at, end := self._end_of_block(at, indent))
            return end
        self._label = ""
        return at + 1

    def _read_described(self, at: int, indent: int, domain: str, kind: str, rest: str) -> int:
        body = at + 1
        while rest.endswith("\\") and body < len(self._lines) and len(rest) < LONGEST_HEADING:
            rest = f"{rest[:-1].rstrip()} {self._lines[body].strip()}"
            body += 1
        signature = " ".join(rest.split())[:LONGEST_HEADING]
        name = found["name"] if (found := _SIGNATURE.match(signature)) else signature
        full, anchor = name, ""
        if domain in ("py", "js"):
            full = self._full_name(name) if domain == "py" else name
            anchor = full
        elif domain == "c":
            anchor = f"c.{name}"
        if found and domain == "py":
            arguments = found["rest"]
            signature = f"{full}{'' if arguments.startswith(('(', '[')) else ' '}{arguments}".strip()
        signatures = [signature]
        while (
            body < len(self._lines)
            and (line := self._lines[body].strip())
            and _indent(self._lines[body]) > indent
        ):
            if not _OPTION.match(line):
                if len(signatures) == MOST_SIGNATURES or "(" not in line[:LONGEST_HEADING]:
                    break
                signatures.append(line[:LONGEST_HEADING])
            body += 1
        self._page.open(
            full,
            _DEEP + len(self._described),
            at=at,
            body=body,
            kind=kind,
            signature="\n".join(signatures),
            anchor=anchor,
        )
        self._described.append(_Described(indent, full, kind == "class"))
        self._label = ""
        return body

    def _full_name(self, name: str) -> str:
        """`open` below the class `ZipFile` of the module `zipfile` is `zipfile.ZipFile.open`."""
        above = next((one.name for one in reversed(self._described) if one.is_class), self._module)
        last = above.rpartition(".")[2]
        if not above or name.startswith(f"{above}."):
            return name[:LONGEST_HEADING]
        if self._described and name.startswith(f"{last}."):
            name = name[len(last) + 1 :]
        return f"{above}.{name}"[:LONGEST_HEADING]

    def _read_code(self, at: int, indent: int) -> int:
        """A block of code below a line that announces it; gives the line after the block."""
        end = self._end_of_block(at, indent)
        last = end
        while last > at + 1 and not self._lines[last - 1].strip():
            last -= 1
        self._page.keep_together(at, last)
        self._label = ""
        return max(end, at + 1)

    def _end_of_block(self, at: int, indent: int) -> int:
        """The first line after `at` that is indented no deeper than it."""
        end = at + 1
        while end < len(self._lines):
            line = self._lines[end]
            if line.strip() and _indent(line) <= indent:
                break
            end += 1
        return end


def _indent(line: str) -> int:
    blanks = line[: len(line) - len(line.lstrip())]
    return len(blanks.expandtabs(8))


def _heading_at(lines: Sequence[str], at: int) -> tuple[int, tuple[str, bool], str] | None:
    """The line after a heading that begins at a line, its style and its text."""
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


def _without_roles(text: str) -> str:
    def seen(found: re.Match[str]) -> str:
        words: str = found[1].strip() or found[2] or ""
        return words.rpartition(".")[2] if words.startswith("~") else words.removeprefix("!")

    text = _ROLE.sub(seen, text[:LONGEST_HEADING].replace("``", "`"))
    return text.replace("**", "").replace("*", "")


def docutils_id(text: str) -> str:
    """The anchor that docutils and Sphinx make of a heading or a label."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"^[-0-9]+|-+$", "", re.sub(r"[^a-z0-9]+", "-", plain))


# ------------------------------------------------------------------------------------------------------- HTML

_UNSEEN_TAGS = _words(
    "script style noscript template svg math nav footer form button select iframe canvas object audio video "
    "head title dialog"
)
_UNSEEN_CLASSES = _words(
    "headerlink hash-link doc-anchor anchor anchorjs-link heading-anchor sidebar sphinxsidebar breadcrumbs "
    "breadcrumb linenos lineno linenodiv footer menu navbar md-sidebar md-source-file prev-next-area "
    "pagination-nav copybtn sr-only visually-hidden screen-reader-text toc table-of-contents tableOfContents "
    "toctree-wrapper viewcode-link rightside hideme edit-link mark-prev-next"
)
_UNSEEN_ROLES = _words("navigation search banner contentinfo complementary")
_MAY_BE_UNSEEN = _words("div section aside a span ul ol table dl td details summary pre header")
_BLOCKS = _words(
    "address article aside blockquote body dd details div dl dt fieldset figcaption figure header hr li main "
    "ol p pre section summary table tbody thead tfoot tr ul caption"
)
_TIGHT = _words("li dd dt tr tbody thead tfoot caption summary")  # no empty line above them
_MAIN = re.compile(r"<main\b|role\s*=\s*[\"']?main\b", re.IGNORECASE)
_ARTICLE = re.compile(r"<article\b", re.IGNORECASE)
_PILCROW = re.compile(r"\s*[\xb6\xa7#\U0001f517\uf0c1]\s*$")
_HEADINGS = _words("h1 h2 h3 h4 h5 h6")


def html(text: str) -> Page:
    """What a person sees of the main content of an HTML page; of all of it where none is marked as that."""
    wanted = ""
    if len(_ARTICLE.findall(text)) == 1:
        wanted = "article"
    elif _MAIN.search(text):
        wanted = "main"
    reader = _Html(wanted)
    reader.read(text)
    page = reader.page.page()
    if wanted and not any(page.lines):
        reader = _Html("")
        reader.read(text)
        page = reader.page.page()
    return page


class _Html(HTMLParser):
    """Reads tags as they come, without a tree: what is never closed, or nested without end, costs no more."""

    def __init__(self, wanted: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = _Builder()
        self._wanted = wanted
        self._within: tuple[str, int] = ("", 0)  # the element with the main content, and how often it is open
        self._unseen: tuple[str, int] = ("", 0)  # likewise one that is passed over
        self._parts: list[str] = []
        self._number = 0  # of the line in the file where these parts begin
        self._gap = False  # whether an empty line comes first
        self._pre = 0
        self._heading = 0  # the level of the one that is open
        self._ids: list[str] = []  # seen since the last text
        self._anchor = ""
        self._lists: list[str] = []  # the kind of what each open list of definitions describes, if any
        self._described = 0  # how many of these are not ""
        self._is_signature = False
        self._is_title = False

    def read(self, text: str) -> None:
        try:
            self.feed(text)
            if len(self.rawdata) < UNCLOSED:
                self.close()
            else:  # reading on from a tag that never ends, again and again, is slow
                self.page.left_out = f"what follows a tag in line {self.getpos()[0]} that is not closed"
        except AssertionError:  # a declaration that the parser gives up on; what was read so far stands
            self.page.left_out = f"what follows a broken declaration in line {self.getpos()[0]}"
        self._flush()

    # What the parser calls.

    def parse_starttag(self, i: int) -> int:
        if self.rawdata.find(">", i, i + LONGEST_TAG) < 0:
            return self.rawdata.find(">", i) + 1 or -1
        return super().parse_starttag(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._is_title = True
        if self._unseen[1]:
            if tag == self._unseen[0]:
                self._unseen = (tag, self._unseen[1] + 1)
            return
        values = dict(attrs)
        if self._wanted and not self._enter(tag, values):
            return
        if self._is_unseen(tag, values):
            self._unseen = (tag, 1)
            return
        if found := values.get("id") or (values.get("name") if tag == "a" else None):
            self._ids.append(found)
        if tag in _HEADINGS:
            self._flush(gap=True)
            self._heading = int(tag[1])
            self._anchor = values.get("id") or ""
        elif tag == "dl":
            self._flush(gap=True)
            words = (values.get("class") or "").split()
            kind = next((KIND_OF_DIRECTIVE[word] for word in words if word in KIND_OF_DIRECTIVE), "")
            self._lists.append(kind)
            self._described += kind != ""
        elif tag == "dt" and self._lists and self._lists[-1]:
            self._flush(gap=True)
            self._is_signature = True
            self._anchor = values.get("id") or ""
        elif tag == "pre":
            self._flush(gap=True)
            self._pre += 1
        elif tag == "br":
            if self._pre:
                self._parts.append("\n")
            elif not self._heading:
                self._flush()
        elif tag in ("td", "th"):
            self._parts.append(" ")
        elif tag in _BLOCKS and not self._pre:
            self._flush(gap=tag not in _TIGHT)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._is_title = False
        if self._unseen[1]:
            if tag == self._unseen[0]:
                self._unseen = (tag, self._unseen[1] - 1)
            return
        if self._within[1] and tag == self._within[0]:
            self._within = (tag, self._within[1] - 1)
            if not self._within[1]:
                self._flush(gap=True)
                return
        if self._wanted and not self._within[1]:
            return
        if tag == "dl" and self._lists:
            self._flush(gap=True)
            if self._lists.pop():
                self._described -= 1
                self.page.close(_DEEP + self._described)
        elif tag in _HEADINGS or tag == "dt":
            self._flush(gap=tag != "dt")
        elif tag == "pre":
            self._flush(gap=True)
            self._pre = max(0, self._pre - 1)
        elif tag in _BLOCKS and not self._pre:
            self._flush(gap=tag not in _TIGHT)

    def handle_data(self, data: str) -> None:
        if self._is_title and not self.page.title:
            self.page.title = " ".join(data.split())[:LONGEST_HEADING]
        if self._unseen[1] or (self._wanted and not self._within[1]):
            return
        if not self._parts:
            if data.isspace() and not self._pre:
                return
            self._number = self.getpos()[0]
        self._parts.append(data)

    # Where it is.

    def _enter(self, tag: str, values: dict[str, str | None]) -> bool:
        """Whether a tag stands within the main content."""
        name, depth = self._within
        if depth:
            if tag == name:
                self._within = (name, depth + 1)
            return True
        role = (values.get("role") or "").lower()
        if tag == self._wanted or (self._wanted == "main" and role == "main"):
            self._within = (tag, 1)
        return False

    def _is_unseen(self, tag: str, values: dict[str, str | None]) -> bool:
        if tag in _UNSEEN_TAGS:
            return True
        if tag not in _MAY_BE_UNSEEN:
            return False
        if tag in ("header", "aside") and not self._wanted:
            return True
        if "hidden" in values or values.get("aria-hidden") == "true":
            return True
        if (values.get("role") or "").lower() in _UNSEEN_ROLES:
            return True
        return not _UNSEEN_CLASSES.isdisjoint((values.get("class") or "").split())

    # What has been read.

    def _flush(self, *, gap: bool = False) -> None:
        """End a line of text, or the heading that is open."""
        parts, self._parts = self._parts, []
        if self._heading or self._is_signature:
            self._end_heading("".join(parts))
        elif self._pre:
            self._add_code("".join(parts).rstrip())
        elif line := " ".join("".join(parts).split()):
            self._fill_gap(self._number)
            self.page.add(line, self._number)
            self._ids = []
        self._gap = self._gap or gap

    def _fill_gap(self, number: int) -> None:
        if self._gap and self.page.lines and self.page.lines[-1]:
            self.page.add("", number)
        self._gap = False

    def _add_code(self, code: str) -> None:
        lines = code.split("\n")
        first = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
        for at, line in enumerate(lines[first:], first):
            if at == first:
                self._gap = True
                self._fill_gap(self._number + at)
            self.page.add(f"{CODE_INDENT}{line}".rstrip(), self._number + at, solid=at > first)

    def _end_heading(self, text: str) -> None:
        name = _PILCROW.sub("", " ".join(text.split()))
        anchor = self._anchor or (self._ids[-1] if self._ids else "")
        self._ids = []
        if self._is_signature:
            self._is_signature = False
            if name:
                self._open_described(name, anchor)
        else:
            level, self._heading = self._heading, 0
            if name:
                self._gap = False
                kind, signature = "section", ""
                if (api := _API.match(name[:LONGEST_HEADING])) and api["arguments"]:
                    kind = _kind_of(api["word"] or "", api["name"])
                    name, signature = api["name"], name[api.start("name") :]
                self.page.open(name, level, kind=kind, signature=signature, anchor=anchor)

    def _open_described(self, text: str, anchor: str) -> None:
        """The signature of a function or a class; Sphinx makes its anchor of its full name."""
        text = text[:LONGEST_HEADING]
        found = _SIGNATURE.match(text)
        name, signature = (found["name"], text[found.start("name") :]) if found else (text, text)
        last = name.rpartition(".")[2]
        if anchor != name and (anchor == last or anchor.endswith(f".{last}")) and anchor[:2] != "c.":
            signature = f"{anchor}{signature[len(name) :]}"
            name = anchor
        self._gap = False
        level = _DEEP + self._described - 1
        self.page.open(name, level, kind=self._lists[-1], signature=signature, anchor=anchor)


# -------------------------------------------------------------------------------------------------- notebooks


def notebook(text: str) -> Page:
    """The cells of a Jupyter notebook, prose and code. What they gave is left out: it is large, and the
    prose tells what there is to see in it."""
    try:
        book = json.loads(text)
    except ValueError as error:
        raise NotANotebook("it is not JSON") from error
    except RecursionError as error:
        raise NotANotebook("it is nested too deep") from error
    page = _Builder()
    place = _Place(text)
    broken = 0
    for cell in _cells(book):
        source = _source_of(cell)
        if cell is None or source is None:
            broken += 1
            continue
        if not source.strip():
            continue
        lines = source.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
        number = place.of(lines)
        if page.lines:
            page.add("", number)
        kind, start = cell.get("cell_type"), len(page.lines)
        if kind == "code":
            page.add_all([f"{CODE_INDENT}{line}".rstrip() for line in lines], number)
            page.keep_together(start, len(page.lines))
        elif kind == "heading" and isinstance(level := cell.get("level"), int):  # of notebooks before 2015
            page.add_all(lines, number)
            page.open(_visible(lines[0][:LONGEST_HEADING]), max(1, min(6, level)), at=start)
        else:
            _read_markdown(page, lines, number)
    if broken:
        page.left_out = "one cell that is none" if broken == 1 else f"{broken} cells that are none"
    return page.page()


def _source_of(cell: dict[str, object] | None) -> str | None:
    """What is written in a cell; None where it is no cell."""
    source = cell.get("source", cell.get("input", "")) if cell else None
    if isinstance(source, list) and all(isinstance(part, str) for part in source):
        return "".join(source)
    return source if isinstance(source, str) else None


def _cells(book: object) -> list[dict[str, object] | None]:
    if isinstance(book, dict):
        sheets = book.get("worksheets")
        if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict):
            book = sheets[0]
        cells = book.get("cells")
        if isinstance(cells, list):
            return [cell if isinstance(cell, dict) else None for cell in cells]
    raise NotANotebook("it has no cells")


class _Place:
    """Where cells stand in the text of a notebook, which lists their lines one below the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._number = 1

    def of(self, lines: Sequence[str]) -> int:
        """The line where a cell begins; that of the cell before it if it cannot be told."""
        first = next(line for line in lines if line.strip())
        for ascii_only in (False, True):
            found = self._text.find(json.dumps(first, ensure_ascii=ascii_only)[:-1], self._at)
            if found >= 0:
                self._number += self._text.count("\n", self._at, found)
                self._at = found
                break
        return self._number
