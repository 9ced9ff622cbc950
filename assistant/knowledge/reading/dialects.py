"""Turns the dialects of Markdown into CommonMark, so that search and quotation see words instead of marks.

    !!! note "Title"   === "Tab"   :::tip[Title]   /// tip | Title   ```{note}   > [!NOTE]
    <Pitfall>   <TabItem label="npm">   {{< tab "npm" >}}   {% hint style="info" %}

each become a line in bold, and the text that is indented below some of them moves to their margin. What only
a site generator needs is dropped: tags, attributes, imports, comments, icons, templates. `in_commonmark` goes
through lines and knows only fences; `without_marks` cleans one line that is not code.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from assistant.knowledge.reading.includes import Line
from assistant.knowledge.reading.page import word_set
from assistant.knowledge.rest_in_words import (
    ADMONITIONS,
    CODE_DIRECTIVES,
    SKIPPED_DIRECTIVES,
    in_words,
    label_of,
)

LONGEST_LINE = 2000  # characters; marks in a longer line are left as they are

_CODE = CODE_DIRECTIVES | word_set("code-cell code-example pip-cli ipython3 python bash shell console")
_ATTRIBUTE = r"""\s+[\w:@.$-]+(?:\s?=\s?(?:"[^"]*"|'[^']*'|\{(?:[^{}]|\{[^{}]*\})*\}|[^\s"'<>{}]+))?"""
_NAME = (
    r"(?P<name>(?:a|abbr|article|aside|b|big|blockquote|br|button|center|cite|code|dd|del|details|dfn|div|dl|dt|em"
    r"|figcaption|figure|font|footer|form|h[1-6]|header|hr|i|iframe|img|input|ins|kbd|label|li|main|mark|nav|ol|p"
    r"|picture|pre|q|s|samp|section|small|source|span|strong|sub|summary|sup|svg|path|table|tbody|td|tfoot|th"
    r"|thead|tr|tt|u|ul|var|video|wbr|dialog|template|slot)\b|[A-Z][\w.]*)"
)
_TAG = re.compile(rf"<(?P<end>/?){_NAME}(?P<rest>(?:{_ATTRIBUTE})*)\s*(?P<empty>/?)>")
_TEMPLATE = (
    r"(?:\{%[-~]?|\{\{[<%])\s*(?P<end>/|end)?(?P<name>\w[\w/-]*)(?P<rest>(?:[^%>]|[%>](?!\}))*?)[-~]?"
    r"(?:%\}|[>%]\}\})"
)
_TEMPLATE_FENCE = "`````"  # stands for `{% highlight %}`
_ONLY_TAG = re.compile(rf"\s*{_TAG.pattern}\s*$")
_ONLY_TEMPLATE = re.compile(rf"\s*{_TEMPLATE}\s*$")
_BEGINS = re.compile(rf"\s*(?:<{_NAME}(?:[^<>]|=>)*|\{{\{{?[<%][^}}]*)$")
_HEADING = re.compile(r"\s*<h(?P<level>[1-6])(?P<rest>[^<>]*)>(?P<text>.*)</h(?P=level)>\s*$")
_TITLE = re.compile(r"""\b(?:title|label|summary|header|heading)\s?=\s?\{?(["'])(?P<title>.*?)\1""")
_TYPE = re.compile(r"""\b(?:type|kind|style|color|variant)\s?=\s?(["']?)(?P<type>\w+)\1""")

_FENCE = re.compile(r"(?P<indent>[\s>]*(?:[-*+]\s+|\d+[.)]\s+)?)(?P<marks>`{3,}|~{3,}|:{3,})(?P<info>[^`]*)$")
_DIRECTIVE = re.compile(r"\s*\{(?P<name>\w[\w:.-]*)\}\s*(?P<rest>.*)$")
_LANGUAGE = re.compile(r"\s*\{?[\s.]*(?P<name>[\w+#-]*)")
_FILE = re.compile(r"""\b(?:title|filename)=["']([^"'`]+)["']|\s([\w@./-]+\.\w{1,5})(?=\s|$)""")
_CONTAINER = re.compile(r"\s*\{?[\s.]*(?P<name>[\w-]+)\}?\s*(?:\[(?P<title>.*)\]|(?P<rest>.*))$")
_OBJECT = re.compile(r"\s*\w+(?:\.\w+)+\s*$")
_QUOTED = r"""(?P<title>"[^"]*"|'[^']*')"""
# Marks that stand alone in their line, of MkDocs, of pymdown and of GitHub.
_MARKS = (
    re.compile(rf"(?P<margin>\s*)(?:!!!|\?\?\?\+?)\s+(?P<name>[\w-]+)[\w \t-]*{_QUOTED}?$"),
    re.compile(rf"(?P<margin>\s*)===[!+]?\s+{_QUOTED}$"),
    re.compile(r"\s*/{3,}(?:\s+(?P<name>[\w-]+)\s*(?:\|\s*(?P<title>.*))?)?$"),
    re.compile(r"(?P<quote>[\s>]*>)\s*\[!(?P<name>\w+)\][+-]?\s*(?P<title>.*)$"),
)
_ESM = re.compile(
    r"import (?:[^'\"]* from )?['\"][^'\"]+['\"];?\s*$|import (?:\{|\* as |\w+, \{)[^'\"]*$"
    r"|export (?:const|let|var|default|async|function|class|type|interface|\{|\*)"
)
_ONE = r"""(?:[.#:][\w:.#-]+|[\w-]+=(?:"[^"]*"|'[^']*'|[^\s{}"']+)|data-[\w-]+|-)"""
_ATTRIBUTES = rf"\{{:?\s*{_ONE}(?:\s+{_ONE})*\s*\}}|\{{:\s*toc\s*\}}"
_ONLY_ATTRIBUTES = re.compile(rf"\s*(?:{_ATTRIBUTES}|\{{[\w.]+(?:\(\))?\}}|\{{\{{[ \w.]+\}}\}})\s*$")
_DEFINITION = re.compile(
    r" {0,3}\[(?!\^)(?P<label>[^\]]+)\]:\s*(?:<[^>]*>|\S+)\s*(?:\"[^\"]*\"|'[^']*'|\([^)]*\))?\s*$"
)
_DROPPED = re.compile(
    r"%(?:\s|$)|\+\+\+|\*\[[^\]]+\]:|(?:[*+-]|\d\.) TOC\s*$|\[\[?_?TOC_?\]\]?\s*$|(?:#\s*)?--8<--"
)
_SPANS = (("<!--", "-->"), ("{/*", "*/}"), ("<script", "</script>"), ("<style", "</style>"))
_ANNOTATION = re.compile(r"(?<!\s)\s*(?:#|//|--|<!--)\s*\(\d+\)!\s*(?:-->|\*/)?$")
_OPTION = re.compile(r"\s*:[\w-]+:(?:\s|$)|\s*---\s*$|\s{4,}[\w-]+:\s")


def in_commonmark(lines: Iterable[Line]) -> tuple[list[Line], frozenset[str]]:
    """The same lines in CommonMark, and the labels of links that they define."""
    dialect = _Dialect(list(lines))
    return list(dialect.read()), frozenset(dialect.labels)


class _Dialect:
    def __init__(self, lines: list[Line]) -> None:
        self.labels: set[str] = set()
        self._lines = lines
        self._at = 0
        self._fence = ""  # what closes the open fence
        self._closers: list[str] = []  # the fences of the open directives of MyST
        self._margins: list[int] = []  # the indents of the marks whose text is indented below them
        self._last: dict[str, int] = {}  # the last line that has each closing mark
        for at, (line, _) in enumerate(lines):
            for _, closing in _SPANS:
                if closing in line:
                    self._last[closing] = at

    def read(self) -> Iterator[Line]:
        while self._at < len(self._lines):
            line, number = self._lines[self._at]
            self._at += 1
            line = self._moved(line)
            shown = (line,) if len(line) > LONGEST_LINE else self._shown(line)
            yield from ((each, number) for each in (self._in_fence(line) if self._fence else shown))

    def _in_fence(self, line: str) -> Iterator[str]:
        text = line.strip()[:LONGEST_LINE]
        template = _ONLY_TEMPLATE.match(text) if text.startswith("{") else None
        is_closed = self._fence == _TEMPLATE_FENCE and template and template["end"]
        if is_closed or (not text.strip(self._fence[0]) and len(text) >= len(self._fence)):
            line, self._fence = self._fence if is_closed else line.replace(":", "`"), ""
        if not template or template["name"] != "raw":
            yield _ANNOTATION.sub("", line)

    def _moved(self, line: str) -> str:
        """The line at the margin of the mark that it belongs to."""
        for count, margin in enumerate(self._margins):
            indent = len(line) - len(line.lstrip())
            if not line.strip():
                break
            if indent <= margin:
                if not self._fence:
                    del self._margins[count:]
                break
            line = line[:margin] + line[margin + min(4, indent - margin) :]
        return line

    def _without_comment(self, line: str) -> str:
        """The line without a comment or script that begins in it, which may end some lines below."""
        for opening, closing in _SPANS:
            start = line.rfind(opening)
            if start < 0 or line.count("`", 0, start) % 2:
                continue
            end = line.find(closing, start)
            if end < 0 and self._last.get(closing, -1) >= self._at:
                while (end := self._lines[self._at][0].find(closing)) < 0:
                    self._at += 1
                line = line[:start] + self._lines[self._at][0][end + len(closing) :]
                self._at += 1
            elif end >= 0 and opening[:2] == "<s":
                line = line[:start] + line[end + len(closing) :]
        return line

    def _shown(self, line: str) -> Iterator[str]:
        """What stands for a line outside of code."""
        if "<" in line or "{" in line:
            line = self._without_comment(line)
        text = line.strip()
        closer = self._closers[-1] if self._closers else ""
        if closer and text and not text.strip(closer[0]) and len(text) >= len(closer):
            self._closers.pop()
        elif found := _FENCE.match(line):
            yield from self._fenced(found)
        elif text[:3] in ("!!!", "???", "===", "///") or (text.startswith(">") and "[!" in text):
            if found := next(filter(None, (mark.match(line.rstrip()) for mark in _MARKS)), None):
                mark = found.groupdict()
                if (margin := mark.get("margin")) is not None:
                    self._margins.append(len(margin))
                indent = f"{mark['quote']} " if "quote" in mark else margin or ""
                yield from self._label(mark.get("name"), mark["title"], indent)
            else:
                yield line
        elif text.startswith(("<", "{")):
            yield from self._tagged(line)
        elif _ESM.match(line):
            while self._at < len(self._lines) and self._lines[self._at][0].strip():
                self._at += 1
        elif found := _DEFINITION.match(line):
            self.labels.add(found["label"].lower())
        elif not _DROPPED.match(line):
            yield line

    def _label(self, name: str | None, title: str | None, indent: str = "") -> Iterator[str]:
        """A line in bold, from the title, which may be empty, or else from the name."""
        shown = (title or "").strip().strip("\"'")
        if not title:
            shown = ADMONITIONS.get((name or "").lower().replace("callout-", ""), "")
        if not indent.strip():
            yield ""
        if shown:
            yield f"{indent}{shown if shown.startswith('**') else f'**{shown}**'}"
            yield indent.rstrip(" ")

    def _fenced(self, found: re.Match[str]) -> Iterator[str]:
        """A fence: a block of code, or a directive or a container with text."""
        indent, marks, info = found["indent"], found["marks"], found["info"]
        if directive := _DIRECTIVE.match(info):
            name = directive["name"]
            if name in _CODE:
                self._fence = marks
                language = directive["rest"] if name.startswith(("code", "source")) else name
                yield f"{indent}{marks.replace(':', '`')}{language.partition(' ')[0]}"
            elif name in SKIPPED_DIRECTIVES or name == "eval-rst":
                inner = [line for line, _ in self._lines[self._at :]]
                inner = inner[: next((at for at, line in enumerate(inner) if line.strip() == marks), None)]
                self._at += len(inner) + 1
                for line in in_words("\n".join(inner)).split("\n") if name == "eval-rst" else ():
                    yield f" {line}" if line.startswith("   ") else line  # Markdown's code has four
            else:
                self._closers.append(marks)
                words = label_of(name.rpartition(":")[2], directive["rest"], has_text=False)
                yield from self._label(name, words.rstrip(".:"))
            self._skip(_OPTION)
        elif marks[0] != ":":
            language = _LANGUAGE.match(info.partition(",")[0])
            self._fence = marks
            if (file := _FILE.search(info)) and not indent.strip():
                yield from (f"{indent}`{file[1] or file[2]}`:", "")
            yield f"{indent}{marks}{language['name'] if language else ''}"
        elif _OBJECT.match(info):  # what a generator documents, with its options below
            self._skip(re.compile(" {4}"))
            yield ""
        elif container := _CONTAINER.match(info):
            title = container["title"] or container["rest"]
            if attributes := _TITLE.search(title):
                title = attributes["title"]
            yield from self._label(container["name"], re.sub(r"\{.*\}|^=.*", "", title), indent)
        else:
            yield ""

    def _skip(self, pattern: re.Pattern[str]) -> None:
        while self._at < len(self._lines) and pattern.match(self._lines[self._at][0]):
            self._at += 1

    def _tagged(self, line: str) -> Iterator[str]:
        """A line that begins with a tag, a template or attributes."""
        if heading := _HEADING.match(line):
            anchor = re.search(r"""\bid=["']?([\w:.-]+)""", heading["rest"])
            yield f"{'#' * int(heading['level'])} {heading['text']}{f' {{#{anchor[1]}}}' if anchor else ''}"
            return
        is_code = not line[:4].strip()
        if (found := _ONLY_TEMPLATE.match(line)) and found["name"] == "highlight" and not found["end"]:
            self._fence = _TEMPLATE_FENCE
            yield self._fence + "".join(found["rest"].split()[:1])
        elif (found := found or _ONLY_TAG.match(line)) and not (
            found["rest"].startswith("/*") or (is_code and found["name"][0].islower())
        ):
            yield from [""] if found["end"] else self._titled(found["name"], found["rest"])
        elif not is_code and (begins := _BEGINS.match(line)):
            following = [each for each, _ in self._lines[self._at : self._at + 40]]
            last = ">" if line.lstrip()[0] == "<" else "}"
            ends = (at for at, each in enumerate(following, 1) if each.rstrip().endswith(last))
            if (end := next(ends, None)) and all(each.strip() for each in following[:end]):
                self._at += end
                rest = " ".join((line, *following[:end]))[:LONGEST_LINE]
                yield from self._titled(begins["name"] or "", rest)
            else:
                yield line
        elif attributes := _ONLY_ATTRIBUTES.match(line):
            name = re.search(r"\.([\w-]+)", attributes[0])
            yield from self._label(name[1] if name else "", None)
        else:
            yield line

    def _titled(self, name: str, attributes: str) -> Iterator[str]:
        """The label of a tag or a template, whose attributes may have a title and a type."""
        kind, title = _TYPE.search(attributes), _TITLE.search(attributes)
        if "tab" in name:
            title = title or re.match(r"\s*([\"'])(?P<title>.+?)\1", attributes)
        yield from self._label(kind["type"] if kind else name, title["title"] if title else None)


_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.{1,400}?)(?<!`)\1(?!`)", re.DOTALL)
_ROLE = re.compile(r"\{(?P<name>[\w:+-]{1,40})\}(?P<text>`[^`\n]{1,300}`)")
_HELD = re.compile(r"\x01(\d+)\x01")
_HAS_MARKS = re.compile(r"[<{&\[!]")
_COMMENT = re.compile(r"<!--(?:(?!-->).){0,500}-->|\{/\*(?:(?!\*/\}).){0,500}\*/\}")
_IN_TEMPLATE = re.compile(
    r"\{%[^%\n]{0,300}%\}|\{\{[<%](?!/\*)[^}\n]{0,300}[>%]\}\}"
    r"|\{\{\s?(?:site|page|include|layout|config|extra)\.[^}\n]{0,200}\}\}"
)
_TEXT = r"(?P<text>(?:[^\[\]\\]|\\.|\[[^\[\]]{0,200}\]){0,400})"
_TARGET = r"[^()\n]{0,500}(?:\([^()\n]{0,100}\)[^()\n]{0,200})?"
_IMAGE = re.compile(rf"!\[{_TEXT}\](?:\({_TARGET}\)|\[[^\[\]]{{0,200}}\])")
_LINK = re.compile(
    rf"(?<![\]\\])\[{_TEXT}\](?:\((?P<target>{_TARGET})\)|(?P<label>\[[^\[\]]{{0,200}}\])|(?![\w(:]))"
)
_AFTER = re.compile(rf"[ \t]?(?:{_ATTRIBUTES})")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[A-Za-z]\w{1,30});")


def without_marks(text: str, labels: frozenset[str] = frozenset()) -> str:
    """A paragraph of Markdown without the marks that are neither words nor CommonMark. Links that lead to
    other files, or to one of these `labels`, become their text."""
    if not _HAS_MARKS.search(text):
        return text
    lines = text.split("\n")
    if len(text) > LONGEST_LINE:
        return "\n".join(without_marks(line, labels) for line in lines) if len(lines) > 1 else text
    held: list[str] = []

    def hold(found: re.Match[str]) -> str:
        held.append(found[0])
        return f"\x01{len(held) - 1}\x01"

    def link(found: re.Match[str]) -> str:
        shown, target, label = found["text"], found["target"], found["label"]
        if target is None:
            return shown if label or shown.lower() in labels else found[0]
        is_on_web = target.lstrip(" <").startswith(("http://", "https://"))
        return found[0] if is_on_web and shown.strip() else shown

    shown = _CODE_SPAN.sub(hold, _ROLE.sub(_role, text.replace("\x01", "")))
    shown = _AFTER.sub("", _IN_TEMPLATE.sub(_template, _COMMENT.sub("", shown)))
    shown = _LINK.sub(link, _IMAGE.sub(r"\g<text>", shown))
    shown = _ENTITY.sub(_entity, _TAG.sub(_tag, shown))
    shown = _HELD.sub(lambda found: held[int(found[1])], shown)
    if shown.count("\n") != text.count("\n"):  # each line must keep its number
        return "\n".join(without_marks(line, labels) for line in lines)
    return shown.rstrip(" ")


def _role(found: re.Match[str]) -> str:
    return in_words(f":{found['name']}:{found['text']}")


def _template(found: re.Match[str]) -> str:
    text = re.search(r"""\btext=(["'])(.*?)\1""", found[0])
    return text[2] if text else ""


def _tag(found: re.Match[str]) -> str:
    name = found["name"]
    if name[0].isupper():
        is_generic = not (found["end"] or found["empty"] or found["rest"])
        return found[0] if is_generic and found.start() and found.string[found.start() - 1].isalnum() else ""
    if name in ("code", "kbd", "tt", "samp"):
        return "`"
    return " " if name in ("br", "td", "th", "li", "dt", "dd", "p", "tr") else ""


def _entity(found: re.Match[str]) -> str:
    char = html.unescape(found[0])
    return f"\\{char}" if char == "<" else char.replace("\xa0", " ").replace("\n", " ")
