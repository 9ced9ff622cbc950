"""Reads HTML: the main content of a page as a person sees it, with code indented by four spaces."""

from __future__ import annotations

import functools
import html
import re
from html.parser import HTMLParser

from assistant.knowledge.reading.page import (
    API_HEADING,
    DIRECTIVE_LEVEL,
    DIRECTIVE_SIGNATURE,
    KIND_OF_DIRECTIVE,
    LONGEST_HEADING,
    Page,
    api_of,
    word_set,
)

LONGEST_TAG = 100_000  # characters; splitting a longer one into attributes takes a hundred times its memory
UNCLOSED = 10_000  # characters; a longer rest after an unclosed tag is left out, since reading it is slow

_HIDDEN_TAGS = word_set(
    "script style noscript template svg math nav footer form button select iframe canvas object audio video "
    "head title dialog"
)
_HIDDEN_CLASSES = word_set(
    "headerlink hash-link doc-anchor anchor anchorjs-link heading-anchor linenos lineno linenodiv copybtn "
    "sr-only visually-hidden screen-reader-text sphinxsidebar table-of-contents tableOfContents rightside "
    "toctree-wrapper viewcode-link hideme edit-link edit-this-page mark-prev-next prev-next-area "
    "md-source-file srclink navpath"
)
# Words that a class of navigation has: "navheader", "md-sidebar", "subNavList", "page_toc". A layout
# "with-sidebar" has it beside its text.
_NAVIGATION = word_set(
    "nav navbar navigation navheader navfooter navlinks navrow breadcrumb breadcrumbs pagination pager "
    "prevnext sidebar toc menu mainmenu topbar toolbar footer related relbar skip skipnav topnav "
    "subnav bottomnav"
)
_LAYOUT = word_set("with without has no")
_HIDDEN_IDS = word_set("toc toc_sub sidebar nav navbar navigation menu footer breadcrumbs")
_WORD = re.compile(r"[A-Z]?[a-z]+")
_NAVIGATION_LINE = re.compile(
    r"(?:(?:next|prev(?:ious)?|up|top|home|contents|index|back|modules|table of contents)\b\W*){2,}$"
    r"|\W*(?:next|prev(?:ious)?)(?: page| topic| chapter| section)?\W*$"
    r"|(?:next|prev(?:ious)?|up): .*\b(?:up|next|prev(?:ious)?): "
    r"|\W*(?:edit (?:this page|on \w+)|(?:view|show) (?:page )?source|skip to (?:main )?content"
    r"|back to top|on this page|table of contents)\W*$",
    re.IGNORECASE,
)
_HIDDEN_ROLES = word_set("navigation search banner contentinfo complementary")
_MAY_BE_HIDDEN = word_set("div section aside a span ul ol table dl td details summary pre header address")
_CODE = word_set("code tt kbd samp")
_BLOCKS = word_set(
    "address article aside blockquote body dd details div dl dt fieldset figcaption figure header hr li main "
    "ol p section summary table tbody thead tfoot tr ul caption br"
)
_TIGHT = word_set("br li dd dt tr tbody thead tfoot caption summary")  # no empty line above them
_MAIN = re.compile(r"<main\b|role\s*=\s*[\"']?main\b", re.IGNORECASE)
_TITLE = re.compile(rf"<title\b[^<>]{{0,100}}>([^<]{{1,{LONGEST_HEADING}}})", re.IGNORECASE)
_ARTICLE = re.compile(r"<article\b", re.IGNORECASE)
_PILCROW = re.compile(r"\s*[\xb6\xa7#\U0001f517\uf0c1]\s*$")
# The title of a box beside the text. As a heading it would take the text that follows the box.
_BOX_TITLE = re.compile(
    r"(?:note|tip|hint|important|attention|caution|warning|danger)\s*[:!]?$", re.IGNORECASE
)
_HEADINGS = word_set("h1 h2 h3 h4 h5 h6")
_ALWAYS_BLOCKS = _HEADINGS | word_set("dl dt pre")  # also within code, which then was not closed


@functools.lru_cache(maxsize=4096)
def _is_navigation(classes: str) -> bool:
    """Whether these classes are those of navigation."""
    names = classes.split()
    if not _HIDDEN_CLASSES.isdisjoint(names):
        return True
    words = [{word.lower() for word in _WORD.findall(name)} for name in names]
    return any(_LAYOUT.isdisjoint(each) and not _NAVIGATION.isdisjoint(each) for each in words)


def read_html(text: str) -> Page:
    """The page's main content, or all of it if nothing is marked as the main content."""
    wanted = "article" if len(_ARTICLE.findall(text)) == 1 else "main" if _MAIN.search(text) else ""
    page = _HtmlReader(wanted).read(text)
    if not any(page.lines):  # its author uses the marks for something else
        page = _HtmlReader("", hides_classes=False).read(text)
    if title := _TITLE.search(text):
        page.title = " ".join(html.unescape(title[1]).split())
    return page


class _HtmlReader(HTMLParser):
    """Reads tags as they come and builds no tree, so unclosed and deeply nested tags cost nothing extra."""

    def __init__(self, wanted: str, *, hides_classes: bool = True) -> None:
        super().__init__(convert_charrefs=True)
        self._hides_classes = hides_classes
        self.page = Page()
        self._wanted = wanted
        self._main: tuple[str, int] = ("", 0)  # the tag of the main content, and how many of it are open
        self._hidden: tuple[str, int] = ("", 0)  # the same for an element that is skipped
        self._parts: list[str] = []
        self._number = 0  # the line in the file where these parts begin
        self._gap = False  # whether an empty line comes first
        self._pre = 0
        self._heading = 0  # the level of the open heading
        self._ids: list[str] = []  # the ids since the last text
        self._anchor = ""
        # For each open <dl>, the kind of passages in it: APIs, "section" if its terms have anchors, or "".
        self._lists: list[str] = []
        self._api_lists = 0  # how many of these have passages
        self._is_signature = False
        self._term = ""  # the open "dt" or first "td" of a row, which may begin a passage
        self._is_row_new = False  # whether the row has no cell yet
        self._row_level = 0  # the level of the passage that a row is, or 0
        self._code = 0  # how many elements of code within a line are open
        self._is_code: bool | None = None  # whether the row begins with code; None before its first word
        self._shares = False  # whether the next signature has the same text as the one just above

    def read(self, text: str) -> Page:
        try:
            self.feed(text)
            if len(self.rawdata) < UNCLOSED:
                self.close()
            else:  # the parser would read the rest again and again
                self.page.left_out = f"what follows a tag in line {self.getpos()[0]} that is not closed"
        except AssertionError:  # the parser cannot read a declaration; keep what it has read so far
            self.page.left_out = f"what follows a broken declaration in line {self.getpos()[0]}"
        self._flush()
        return self.page.finished()

    # HTMLParser calls these

    def parse_starttag(self, i: int) -> int:
        if self.rawdata.find(">", i, i + LONGEST_TAG) < 0:
            return self.rawdata.find(">", i) + 1 or -1
        return super().parse_starttag(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden[1]:
            if tag == self._hidden[0]:
                self._hidden = (tag, self._hidden[1] + 1)
            return
        values = dict(attrs)
        if self._wanted and not self._is_in_main(tag, values):
            return
        if self._is_hidden(tag, values):
            self._hidden = (tag, 1)
            return
        if found := values.get("id") or (values.get("name") if tag == "a" else None):
            self._ids.append(found)
        if tag == "br" and self._pre:
            self._parts.append("\n")
        elif tag in ("td", "th"):
            if self._term == "td":  # the first cell ends
                self._flush()
                self._term = ""
            self._parts.append(" ")
        elif tag != "br" or not self._heading:
            self._end_block(tag)
        if tag in _HEADINGS:
            self._heading, self._anchor = int(tag[1]), values.get("id") or ""
        elif tag == "dl":
            classes = (values.get("class") or "").split()
            kind = next((KIND_OF_DIRECTIVE[name] for name in classes if name in KIND_OF_DIRECTIVE), "")
            self._lists.append(kind)
            self._api_lists += kind != ""
        elif tag == "dt" and self._lists:
            self._anchor = values.get("id") or ""
            if self._lists[-1] in ("", "section"):
                self._term, self._ids = tag, []
            else:
                self._is_signature = True
        elif tag == "tr":
            self._end_row()
            self._is_row_new, self._anchor = True, values.get("id") or ""
        elif tag in ("td", "th") and self._is_row_new:
            self._is_row_new = False
            if tag == "td":
                self._term, self._code, self._is_code = tag, 0, None
                self._ids = [found] if found else []
        elif tag in _CODE:
            self._code += 1
        elif tag == "pre":
            self._pre += 1
        if tag in ("dl", "dd"):
            self._shares, self._term = False, ""

    def handle_endtag(self, tag: str) -> None:
        if self._hidden[1]:
            if tag == self._hidden[0]:
                self._hidden = (tag, self._hidden[1] - 1)
            return
        if self._main[1] and tag == self._main[0]:
            self._main = (tag, self._main[1] - 1)
            if not self._main[1]:
                self._flush(gap=True)
                return
        if self._wanted and not self._main[1]:
            return
        self._end_block(tag)
        if tag == "pre":
            self._pre = max(0, self._pre - 1)
        elif tag in _CODE:
            self._code = max(0, self._code - 1)
        elif tag == "table":
            self._end_row()
        elif tag == "dt":
            self._term = ""
        elif tag == "dl" and self._lists and self._lists.pop():
            self._api_lists -= 1
            self._shares = False
            level = DIRECTIVE_LEVEL + self._api_lists
            if not self.page.is_undocumented(level=level):  # else its text follows the list
                self.page.close_headings(level)

    def handle_data(self, data: str) -> None:
        if self._hidden[1] or (self._wanted and not self._main[1]):
            return
        if not self._parts:
            if data.isspace() and not self._pre:
                return
            self._number = self.getpos()[0]
        if self._is_code is None and not data.isspace():
            self._is_code = self._code > 0
        self._parts.append(data)

    # Where the parser is

    def _is_in_main(self, tag: str, values: dict[str, str | None]) -> bool:
        """Whether a tag stands within the main content, which it may itself begin."""
        name, depth = self._main
        is_main = self._wanted in (tag, (values.get("role") or "").lower())
        if depth and tag == name:
            self._main = (name, depth + 1)
        elif not depth and is_main:
            self._main = (tag, 1)
        return depth > 0

    def _is_hidden(self, tag: str, values: dict[str, str | None]) -> bool:
        if tag in _HIDDEN_TAGS:
            return True
        if tag not in _MAY_BE_HIDDEN:
            return False
        classes = values.get("class") or ""
        is_section = "sect" in classes or tag == "section"
        return (
            (tag in ("header", "aside") and not self._wanted)
            or "hidden" in values
            or values.get("aria-hidden") == "true"
            or (values.get("role") or "").lower() in _HIDDEN_ROLES
            or (tag == "a" and ("accesskey" in values or values.get("rel") in ("next", "prev", "up")))
            or (values.get("summary") or "").lower().startswith("navigation")
            or (self._hides_classes and _is_navigation(classes))
            or (self._hides_classes and values.get("id") in _HIDDEN_IDS and not is_section)
        )

    # From tags to lines

    def _end_block(self, tag: str) -> None:
        if tag in _ALWAYS_BLOCKS or (tag in _BLOCKS and not self._pre):
            self._flush(gap=tag not in _TIGHT)

    def _flush(self, *, gap: bool = False) -> None:
        """End a line of text, a block of code, or the open heading."""
        parts, self._parts = self._parts, []
        text = "".join(parts)
        if self._term and not text.isspace() and text and self._open_term(text):
            return
        if self._heading or self._is_signature:
            self._end_heading(text)
        elif self._pre:
            self._add_code(text.rstrip())
        elif (line := " ".join(text.split())) and not _NAVIGATION_LINE.match(line[:LONGEST_HEADING]):
            self._fill_gap(self._number)
            self.page.add([line], self._number)
            self._ids = []
        self._gap = self._gap or gap

    def _fill_gap(self, number: int) -> None:
        if self._gap and self.page.lines and self.page.lines[-1]:
            self.page.add([""], number)
        self._gap = False

    def _add_code(self, code: str) -> None:
        lines = code.split("\n")
        first = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
        if first < len(lines):
            self._gap = True
            self._fill_gap(self._number + first)
            self.page.add_code(lines[first:], self._number + first)

    def _end_row(self) -> None:
        self._term = ""
        if self._row_level:
            self.page.close_headings(self._row_level)
            self._row_level = 0

    def _open_term(self, text: str) -> bool:
        """Open a passage for a term of a list, or for a row that a name in code begins, if it has an anchor,
        so that the anchor leads to what it says. Returns whether the text is done with."""
        name = _PILCROW.sub("", " ".join(text.split()))[:LONGEST_HEADING]
        anchor = self._anchor or (self._ids[-1] if self._ids else "")
        term, self._term = self._term, ""
        if term == "td" and anchor and self._is_code:
            self._row_level = DIRECTIVE_LEVEL + self._api_lists
            self._gap = False
            self.page.open_heading(name, self._row_level, anchor=anchor)
        elif term == "dt" and self._lists and (anchor or self._lists[-1]):
            if not self._lists[-1]:
                self._lists[-1] = "section"
                self._api_lists += 1
            level = DIRECTIVE_LEVEL + self._api_lists - 1
            self._gap, self._ids = False, []
            self.page.open_heading(name, level, anchor=anchor or self.page.anchor, shares=self._shares)
            self._shares = True
            return True
        return False

    def _end_heading(self, text: str) -> None:
        name = _PILCROW.sub("", " ".join(text.split()))
        anchor = self._anchor or (self._ids[-1] if self._ids else "")
        self._ids = []
        if self._is_signature:
            self._is_signature = False
            if name:
                self._open_api(name, anchor)
        else:
            level, self._heading = self._heading, 0
            if _BOX_TITLE.match(name):
                self._fill_gap(self._number)
                self.page.add([name], self._number)
            elif name:
                self._gap = False
                kind, signature = "section", ""
                if (api := API_HEADING.match(name, 0, LONGEST_HEADING)) and api["arguments"]:
                    name, kind, signature = api_of(api)
                self.page.open_heading(name, level, kind=kind, signature=signature, anchor=anchor)

    def _open_api(self, text: str, anchor: str) -> None:
        """Open the signature of a function or class. Sphinx makes the anchor from the full name."""
        text = text[:LONGEST_HEADING]
        found = DIRECTIVE_SIGNATURE.match(text)
        name, signature = (found["name"], text[found.start("name") :]) if found else (text, text)
        last = name.rpartition(".")[2]
        if anchor.startswith("c.") and anchor[2:] in text:  # its type stands before its name
            name, signature = anchor[2:], text
        if anchor != name and (anchor == last or anchor.endswith(f".{last}")) and anchor[:2] != "c.":
            signature = f"{anchor}{signature[len(name) :]}"
            name = anchor
        self._gap = False
        level = DIRECTIVE_LEVEL + self._api_lists - 1
        self.page.open_heading(
            name,
            level,
            kind=self._lists[-1],
            signature=signature,
            anchor=anchor or self.page.anchor,
            shares=self._shares,
        )
        self._shares = True
