"""A folder of documentation, file by file: Markdown, reStructuredText, HTML, notebooks, plain text.

Knows which files of a folder are documentation, how any bytes become text, how a section becomes a passage
with its place, its address and its licence, and where reading ends: whatever a folder holds (pipes, loops of
links, files of any size, bytes of any kind), it is read in bounded time and memory, and what is left out is
told in a sentence. Never raises for what a file holds, nor for a file that has gone. Refuses to know formats
(`markup.py`), and writes nothing.

Where a page can be read depends on what makes the site of it, and that is told by a file of the generator
beside the page or above it: `mkdocs.yml` makes `guide/install/` of `guide/install.md`, Docusaurus
`guide/install`; `conf.py` (Sphinx), `book.toml` (mdBook), `_quarto.yml` and `_config.yml` (Jekyll) make
`guide/install.html`, which is also the rule where there is none. On a host of code (an address with `/blob/`
or the like) a file keeps its name, and so does HTML; an index is its folder everywhere else.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from assistant.knowledge import markup
from assistant.knowledge.markup import Heading, Page, Run
from assistant.knowledge.passage import Passage

MOST_FILES = 50_000
MOST_ENTRIES = 1_000_000  # of all folders together that are looked at
LARGEST_TEXT = 2 << 20  # bytes of a file that are read
LARGEST_MARKUP = 8 << 20  # likewise of HTML and notebooks, where the words are a small part
MOST_PASSAGES = 20_000  # of one file
LONGEST_PASSAGE = 2_500  # characters, where a text can be parted
LARGEST_BLOCK = 6_000  # characters of a block of code or a paragraph, which is not parted

Problem = Callable[[str], None]

MARKDOWN = frozenset((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"))
REST = frozenset((".rst", ".rest"))
TEXT = frozenset((".txt", ".text"))
HTML = frozenset((".html", ".htm", ".xhtml"))
NOTEBOOK = frozenset((".ipynb",))
SUFFIXES = MARKDOWN | REST | TEXT | HTML | NOTEBOOK

# fmt: off
_OTHERS_FOLDERS = frozenset((
    "node_modules", "bower_components", "__pycache__", "site-packages", "venv",
    "_build", "_static", "_sources", "_modules", "_images", "_downloads", "doctrees",
))
_BUILT_FOLDERS = frozenset(("build", "dist", "site", "target", "out", "public"))  # beside one of these files:
_BUILDERS = frozenset((
    "pyproject.toml", "setup.py", "package.json", "mkdocs.yml", "makefile", "cargo.toml", "conf.py",
    "book.toml", "hugo.toml",
))
# fmt: on
_NO_DOCUMENTATION = re.compile(
    r"(?:licen[cs]e|copying|notice|authors|robots|cmakelists|top_level|requirements|constraints)\b[^.]*\.\w+"
    r"|(?:genindex|search|py-modindex|404|searchindex|toc|print)(?:-all)?\.html?",
    re.IGNORECASE,
)
_INVISIBLE = re.compile("[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")
_BLANK = re.compile("[\x0b\x0c\x1c-\x1f\x85]")


def ignore(sentence: str) -> None:
    pass


# ------------------------------------------------------------------------------------------------------ files


def files_of(root: Path, *, problem: Problem = ignore) -> Iterator[Path]:
    """The files of documentation below a folder, sorted; `problem` is told what is left out and why.

    Hidden, generated and borrowed folders are passed over. A link is followed to where it leads if that is
    below the folder as well, and nothing is given twice.
    """
    top = os.path.realpath(root)
    if not os.path.isdir(top):
        problem(f"{shown(str(root))} is no folder.")
        return
    status = os.stat(top)
    seen = {(status.st_dev, status.st_ino)}
    given = looked_at = 0
    waiting = [top]
    while waiting:
        place = waiting.pop()
        if os.path.isfile(place):
            given += 1
            if given > MOST_FILES:
                problem(f"{shown(top)} has more than {MOST_FILES:,} files; the others are left out.")
                return
            yield Path(place)
            continue
        try:
            names = sorted(os.listdir(place))
        except OSError as error:
            problem(f"The folder {shown(place)} cannot be read ({_reason(error)}).")
            continue
        looked_at += len(names)
        if looked_at > MOST_ENTRIES:
            problem(f"{shown(top)} has more than {MOST_ENTRIES:,} entries; the others are left out.")
            return
        is_built = not _BUILDERS.isdisjoint(name.lower() for name in names)
        found = [
            path
            for name in names
            if (path := _wanted(top, place, name, is_built=is_built, seen=seen, problem=problem))
        ]
        waiting.extend(reversed(found))


def _wanted(
    top: str, place: str, name: str, *, is_built: bool, seen: set[tuple[int, int]], problem: Problem
) -> str | None:
    """The path of an entry of a folder if it is to be read, or looked into."""
    suffix = os.path.splitext(name)[1].lower()
    path = os.path.join(place, name)
    if name.startswith(".") or name.lower() in _OTHERS_FOLDERS or name.endswith((".egg-info", ".dist-info")):
        return None
    if is_built and name.lower() in _BUILT_FOLDERS:
        return None
    try:
        if os.path.islink(path) and not _is_below(top, os.path.realpath(path)):
            if suffix in SUFFIXES:
                problem(f"{shown(path)} is a link out of the folder, and is left out.")
            return None
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if suffix in SUFFIXES:
            problem(f"{shown(path)} cannot be read ({_reason(error)}).")
        return None
    if stat.S_ISDIR(status.st_mode):
        if os.path.lexists(os.path.join(path, "pyvenv.cfg")):
            return None
    elif suffix not in SUFFIXES or _NO_DOCUMENTATION.fullmatch(name):
        return None
    elif not stat.S_ISREG(status.st_mode):
        problem(f"{shown(path)} is no regular file, and is left out.")
        return None
    if shown(name) != name:
        problem(f"{shown(path)} is left out, since its name cannot be shown as it is.")
        return None
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return None
    seen.add(identity)
    return path


def _is_below(top: str, path: str) -> bool:
    return path == top or path.startswith(os.path.join(top, ""))


def shown(text: str) -> str:
    """A path as it can stand in a line: what cannot be seen is written as an escape."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


# ------------------------------------------------------------------------------------------------------- text


def decode(data: bytes, *, declared: str = "") -> str:
    """Bytes as text, whatever they are: UTF-8 where they are, what a mark at their beginning says, what the
    page itself declares, and Latin-1 for the bytes that are nothing else. Lines end in a line feed alone;
    characters that nobody sees and that change how others are shown are left out."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        text = data.decode("utf-32", "replace")
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            codec, errors = (declared, "replace") if declared else ("utf-8", "surrogateescape")
            text = data.decode(codec, errors)
            text = re.sub("[\udc80-\udcff]", lambda found: chr(ord(found[0]) - 0xDC00), text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() and text.isprintable() else _BLANK.sub(" ", _INVISIBLE.sub("", text))


_DECLARED = re.compile(rb"<meta[^<>]{0,200}?charset\s*=\s*[\"']?([\w.-]{1,20})", re.IGNORECASE)
_CHARSETS = re.compile(
    r"iso-8859-\d\d?|windows-125\d|koi8-[ru]|euc-(?:jp|kr)|shift_jis|gb2312|gbk|gb18030|big5"
)


def _declared(data: bytes) -> str:
    found = _DECLARED.search(data, 0, 2048)
    name = found[1].decode("ascii", "replace").lower() if found else ""
    return name if _CHARSETS.fullmatch(name) else ""


def _is_binary(data: bytes) -> bool:
    head = data[:8192]
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return False
    return b"\0" in head or sum(byte < 9 or 13 < byte < 27 for byte in head) > len(head) // 20


def _bytes_of(path: Path, largest: int) -> tuple[bytes, bool]:
    """What a file holds, and whether there is more; a pipe or a device is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        data = file.read(largest + 1)
    return data[:largest], len(data) > largest


# --------------------------------------------------------------------------------------------------- passages


def read_file(
    path: Path,
    root: Path,
    *,
    base_url: str = "",
    package: str = "",
    version: str = "",
    problem: Problem = ignore,
) -> list[Passage]:
    """The passages of one file below `root`, in their order; `base_url` is where the folder can be read.

    `problem` is told in sentences why a file, or a part of it, is left out.
    """
    top = Path(os.path.realpath(root))
    place = os.path.relpath(path, root if _is_below(str(root), str(path)) else top).replace(os.sep, "/")
    told = shown(place)
    suffix = path.suffix.lower()
    largest = LARGEST_MARKUP if suffix in HTML | NOTEBOOK else LARGEST_TEXT
    try:
        if not _is_below(str(top), os.path.realpath(path)):
            raise OSError("it is a link out of the folder")
        data, is_cut = _bytes_of(path, largest)
    except (OSError, ValueError) as error:
        problem(f"{told} cannot be read ({_reason(error)}).")
        return []
    if _is_binary(data):
        problem(f"{told} is left out, since it is no text.")
        return []
    if is_cut:
        problem(f"{told} is larger than {largest >> 20} MiB; what comes after is left out.")
        data = data[: data.rfind(b"\n") + 1] or data
    try:
        page, form = _page_of(decode(data, declared=_declared(data) if suffix in HTML else ""), suffix)
    except markup.NotANotebook as error:
        problem(f"{told} is left out, since it is no notebook: {error}.")
        return []
    if page.left_out:
        problem(f"{told} is read without {page.left_out}.")
    address, slug = _address(Path(place), top, form, base_url)
    make = _Passages(
        page=page,
        stem=" ".join(path.stem.replace("_", " ").split()) or told,
        place=told,
        package=package or shown(top.name),
        version=version,
        licence=licence_of(top),
        address=address,
        slug=slug,
    )
    return make.all(problem)


def _page_of(text: str, suffix: str) -> tuple[Page, str]:
    if suffix in MARKDOWN:
        return markup.markdown(text), "markdown"
    if suffix in HTML:
        return markup.html(text), "html"
    if suffix in NOTEBOOK:
        return markup.notebook(text), "notebook"
    if suffix in REST or markup.looks_like_rest(text):
        return markup.rest(text), "rest"
    return markup.plain(text), "text"


class _Passages:
    """The passages of a page."""

    def __init__(
        self,
        *,
        page: Page,
        stem: str,
        place: str,
        package: str,
        version: str,
        licence: str,
        address: str,
        slug: Slug | None,
    ) -> None:
        self._page = page
        self._name = _clean(page.title) or stem
        self._place = place
        self._package = package
        self._version = version
        self._licence = licence
        self._address = address
        self._told: set[Heading] = set()
        self._has_top = any(heading.level == 1 for heading in page.headings)
        self._anchors = _anchors(page.headings, slug) if address else {}

    def all(self, problem: Problem) -> list[Passage]:
        passages: list[Passage] = []
        for run in self._page.runs:
            for passage in self._of(run, problem):
                if len(passages) == MOST_PASSAGES:
                    problem(
                        f"{self._place} has more than {MOST_PASSAGES:,} sections; the others are left out."
                    )
                    return passages
                passages.append(passage)
        return passages

    def _of(self, run: Run, problem: Problem) -> Iterator[Passage]:
        parts = list(_parts(self._page, run))
        heading = run.heading
        if not parts and heading is not None and heading.signature and heading not in self._told:
            yield self._passage(heading, "", run.start)
        if heading is not None:
            self._told.add(heading)
        for start, end in parts:
            text = "\n".join(self._page.lines[start:end])
            if len(text) > LARGEST_BLOCK:
                number = self._page.numbers[start]
                problem(f"{self._place}:{number} is a block too long to quote; its end is left out.")
                text = text[: text.rfind("\n", 0, LARGEST_BLOCK) + 1] or text[:LARGEST_BLOCK]
            if heading is not None and heading.kind != "section":
                text = textwrap.dedent(text)
            yield self._passage(heading, text.strip("\n").rstrip(), start)

    def _passage(self, heading: Heading | None, text: str, line: int) -> Passage:
        numbers = self._page.numbers
        number = numbers[min(line, len(numbers) - 1)] if numbers else 1
        anchor = self._anchors.get(heading, "") if heading else ""
        names = [name for name in map(_clean, heading.path) if name] if heading else []
        if self._page.title and not self._has_top and names and not self._name.startswith(names[0]):
            names = [self._name, *names]  # a page whose first heading is only in its head
        return Passage(
            name=(names or [self._name])[-1],
            kind=heading.kind if heading else "section",
            title=" › ".join(names or [self._name]),
            text=text,
            package=self._package,
            version=self._version,
            licence=self._licence,
            location=f"{self._place}:{number}",
            corpus="docs",
            signature="\n".join(map(_clean, heading.signature.split("\n"))) if heading else "",
            url=f"{self._address}#{quote(anchor, safe=_SAFE)}" if anchor else self._address,
        )


def _clean(text: str) -> str:
    return _INVISIBLE.sub("", " ".join(text.split()))


def _parts(page: Page, run: Run) -> Iterator[tuple[int, int]]:
    """The lines of a run in parts of a length that can be quoted: parted between paragraphs, between lines
    where a paragraph is too long, and nowhere in a block of code."""
    start, end = _trimmed(page, run.start, run.end)
    sizes = [len(line) + 1 for line in page.lines[start:end]]
    if sum(sizes) <= LONGEST_PASSAGE:
        if end > start:
            yield start, end
        return
    begun, length, joint, since = start, 0, 0, 0  # `joint`: the best place to part, `since`: what follows it
    for at in range(start, end):
        size = sizes[at - start]
        if at > begun and not page.solid[at]:
            # A block that cannot be parted counts whole where it begins.
            following = at + 1
            whole = size
            while following < end and page.solid[following] and whole <= LONGEST_PASSAGE:
                whole += sizes[following - start]
                following += 1
            if _is_joint(page, at):
                joint, since = at, 0
            if length + whole > LONGEST_PASSAGE and page.lines[at].strip():
                cut = joint or at
                length, since = (since, 0) if joint else (0, 0)
                part = _trimmed(page, begun, cut)
                if part[1] > part[0]:
                    yield part
                begun, joint = cut, 0
        length += size
        since += size
    part = _trimmed(page, begun, end)
    if part[1] > part[0]:
        yield part


def _is_joint(page: Page, at: int) -> bool:
    """Whether a paragraph begins at a line that the one before does not lead to."""
    if page.lines[at - 1].strip() or not page.lines[at].strip():
        return False
    before = page.lines[at - 2].rstrip() if at > 1 else ""
    return not before.endswith(":")


def _trimmed(page: Page, start: int, end: int) -> tuple[int, int]:
    """Without the lines at both ends that are empty or say nothing."""

    def is_nothing(at: int) -> bool:
        return bool(page.dull[at]) or not page.lines[at].strip()

    while start < end and is_nothing(start):
        start += 1
    while start < end and is_nothing(end - 1):
        end -= 1
    return start, end


# -------------------------------------------------------------------------------------------------- addresses

_SAFE = "-._~!$&'()*+,;=:@/?"
_HOST_OF_CODE = re.compile(
    r"https?://(?:[^/]+/){3,}(?:-/)?(?:blob|tree|src|raw)/|https?://raw\.githubusercontent"
)
_GENERATORS = {
    "mkdocs.yml": "mkdocs",
    "mkdocs.yaml": "mkdocs",
    "zensical.toml": "mkdocs",
    "docusaurus.config.js": "docusaurus",
    "docusaurus.config.ts": "docusaurus",
    "conf.py": "sphinx",
    "book.toml": "page",
    "_quarto.yml": "page",
    "_config.yml": "page",
}

Slug = Callable[[str], tuple[str, str]]  # of a heading: its anchor, and what a repeat has before its number


def _address(place: Path, top: Path, form: str, base_url: str) -> tuple[str, Slug | None]:
    """Where a file below `top` can be read, and how its headings are made into anchors."""
    if not base_url:
        return "", None
    base = base_url.rstrip("/")
    if form in ("html", "text"):
        site, slug = "", None
    elif _HOST_OF_CODE.match(f"{base}/"):
        return f"{base}/{quote(place.as_posix(), safe=_SAFE)}", _github
    else:
        site, place = _site_of(place, top)
        slug = {"mkdocs": _mkdocs, "sphinx": _sphinx}.get(site, _sphinx if form == "rest" else _github)
        if form == "rest":
            site = site or "sphinx"
    if place.suffix.lower() in HTML or form == "text":
        page = place.as_posix()
        if place.name.lower() in ("index.html", "index.htm"):
            page = page[: -len(place.name)]
    elif place.stem.lower() == "index" or (place.stem.lower() == "readme" and site != "sphinx"):
        page = place.as_posix()[: -len(place.name)]
    else:
        page = place.with_suffix("").as_posix() + {"mkdocs": "/", "docusaurus": ""}.get(site, ".html")
    return f"{base}/{quote(page, safe=_SAFE)}", slug


def _site_of(place: Path, top: Path) -> tuple[str, Path]:
    """Which generator makes a site of a file, and the file's place in that site."""
    for folder in (*(top / place).parents[: len(place.parts)], top.parent):
        for name, site in _GENERATORS.items():
            if not (folder / name).is_file():
                continue
            if folder == top.parent:  # the folder is the documentation of a project
                return site, place
            inner = (top / place).relative_to(folder)
            sources = {"mkdocs": "docs", "page": "src"}.get(site)
            if sources and inner.parts[0] == sources and len(inner.parts) > 1:
                inner = Path(*inner.parts[1:])
            return site, inner
    return "", place


def _github(text: str) -> tuple[str, str]:
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-"), "-"


def _mkdocs(text: str) -> tuple[str, str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()), "_"


def _sphinx(text: str) -> tuple[str, str]:
    return markup.docutils_id(text), ""  # a repeat gets a number that only Sphinx can count


def _anchors(headings: Sequence[Heading], slug: Slug | None) -> dict[Heading, str]:
    """The anchor of each heading: the one in the text, or the one that the generator makes."""
    anchors: dict[Heading, str] = {}
    times: dict[str, int] = {}
    for heading in headings:
        if heading.anchor or slug is None:
            anchors[heading] = heading.anchor
            continue
        written = heading.signature if heading.kind != "section" else heading.name
        anchor, repeat = slug(written)
        count = times.get(anchor, 0)
        times[anchor] = count + 1
        if not count:
            anchors[heading] = anchor
        else:
            anchors[heading] = f"{anchor}{repeat}{count}" if repeat and anchor else ""
    return anchors


# ---------------------------------------------------------------------------------------------------- licence

_LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying|unlicense)(?:\.(?:md|txt|rst))?", re.IGNORECASE)
_SPDX = re.compile(
    r"SPDX-License-Identifier:\s*([A-Za-z0-9][\w.+-]{1,40}(?: (?:OR|AND|WITH) [\w.+-]{2,40})*)"
)
_LICENCES = (
    ("MIT", r"Permission is hereby granted, free of charge, .{0,400}?to deal in the Software"),
    ("Apache-2.0", r"Apache License,? Version 2\.0, January 2004"),
    ("MPL-2.0", r"Mozilla Public License,? Version 2\.0"),
    (
        "ISC",
        r"Permission to use, copy, modify, and/or distribute .{0,200}? provided that the above copyright",
    ),
    ("Unlicense", r"This is free and unencumbered software released into the public domain"),
    ("CC0-1.0", r"CC0 1\.0 Universal"),
    ("CC-BY-4.0", r"Creative Commons Attribution 4\.0 International"),
    ("CC-BY-SA-4.0", r"Creative Commons Attribution-ShareAlike 4\.0 International"),
    ("BSL-1.0", r"Boost Software License - Version 1\.0"),
)
_BSD = "Redistribution and use in source and binary forms"


def licence_of(root: Path) -> str:
    """The SPDX name of a folder's licence, by a file of it that says so plainly; "" otherwise."""
    try:
        names = sorted(name for name in os.listdir(root) if _LICENCE_FILE.fullmatch(name))
        stamps = tuple((name, os.stat(os.path.join(root, name)).st_mtime_ns) for name in names[:4])
    except (OSError, ValueError):
        return ""
    return _licence_in(root, stamps)


@functools.lru_cache(maxsize=16)
def _licence_in(root: Path, files: tuple[tuple[str, int], ...]) -> str:
    """What these files say; when they were changed is a part of the question."""
    said = set()
    for name, _ in files:
        try:
            data, _ = _bytes_of(root / name, 64 << 10)
        except (OSError, ValueError):
            continue
        text = " ".join(decode(data).split())
        if found := _SPDX.search(text):
            said.add(found[1])
            continue
        said.update(licence for licence, words in _LICENCES if re.search(words, text, re.IGNORECASE))
        if _BSD in text and "All advertising materials" not in text:
            said.add("BSD-3-Clause" if "Neither the name" in text else "BSD-2-Clause")
    return said.pop() if len(said) == 1 else ""
