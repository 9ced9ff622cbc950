"""Reads a folder of documentation in all formats of the table below, packed or not.

Finds the files, decodes them, and turns each section into a passage with its file and line, its address and
its licence. A folder may hold anything: pipes, links in circles, files of any size, bytes of any kind.
Reading it takes bounded time and memory, never raises, and reports what it leaves out in a sentence.
"""

from __future__ import annotations

import bisect
import contextlib
import gzip
import io
import itertools
import os
import re
import stat
import textwrap
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from assistant.knowledge.passage import Passage
from assistant.knowledge.reading.addresses import HTML, URL_SAFE, address_of, anchors_of
from assistant.knowledge.reading.asciidoc import looks_like_asciidoc, read_asciidoc
from assistant.knowledge.reading.changelog import looks_like_changelog, read_changelog
from assistant.knowledge.reading.html import read_html
from assistant.knowledge.reading.includes import Includes
from assistant.knowledge.reading.man import read_man
from assistant.knowledge.reading.markdown import read_markdown
from assistant.knowledge.reading.notebook import read_notebook
from assistant.knowledge.reading.openapi import read_openapi, states_openapi
from assistant.knowledge.reading.page import DIRECTIVE_LEVEL, Heading, Page, Section, Unreadable, word_set
from assistant.knowledge.reading.pdf import read_pdf
from assistant.knowledge.reading.rest import looks_like_rest, read_rest
from assistant.knowledge.reading.texinfo import read_texinfo

MOST_FILES = 50_000
MOST_ENTRIES = 1_000_000  # files and folders that one walk inspects
LARGEST_TEXT = 2 << 20  # bytes of a file that are read
# The same for formats of which most is not text. A PDF file cannot be read in part.
_LARGEST = {"html": 8 << 20, "notebook": 8 << 20, "openapi": 8 << 20, "pdf": 32 << 20}
MOST_PASSAGES = 20_000  # of one file
LONGEST_PASSAGE = 2_500  # characters, unless a block of code or a paragraph is longer
LARGEST_BLOCK = 6_000  # characters; a longer block of code or paragraph is cut

Warn = Callable[[str], None]  # receives a sentence about something that was left out

# A new format needs a line here, and one in `_FORMATS_OF_TEXT` if its files have no suffix of their own.
_FORMATS: Mapping[str, tuple[Callable[[str], Page], str]] = {
    "markdown": (read_markdown, ".md .markdown .mdown .mkd .mdx .qmd .rmd"),
    "rest": (read_rest, ".rst .rest"),
    "html": (read_html, " ".join(HTML)),
    "notebook": (read_notebook, ".ipynb"),
    "asciidoc": (read_asciidoc, ".adoc .asciidoc"),
    "texinfo": (read_texinfo, ".texi .texinfo .txi"),
    "openapi": (read_openapi, ".json .yaml .yml"),  # the few that state it
    "man": (read_man, ""),  # see `_MAN_PAGE`
    "changelog": (read_changelog, ""),
    "text": (lambda text: Page(text.split("\n")).finished(), ".txt .text"),
}
SUFFIXES = {suffix: name for name, (_, suffixes) in _FORMATS.items() for suffix in suffixes.split()}
SUFFIXES[".pdf"] = "pdf"
_PLAIN_NAME = re.compile(
    r"(?:change(?:s|log)|news|history|releases?|release[-_ ]?notes|readme|llms)", re.IGNORECASE
)
# A plain text, and a file whose name has no suffix, may hold another format: the first whose rule fits.
_FORMATS_OF_TEXT: Mapping[str, Callable[[str, str], object]] = {
    "asciidoc": lambda name, text: looks_like_asciidoc(text),
    "rest": lambda name, text: looks_like_rest(text),
    "changelog": lambda name, text: looks_like_changelog(text),
    "markdown": lambda name, text: _PLAIN_NAME.match(name) and re.search(r"(?m)^#{1,6} \w", text),
}

# The name of a man page: "ls.1", "man3/File::Find.3pm". Elsewhere a name such as "release-1.2" is a version.
_MAN_PAGE = re.compile(
    r"/man\d\w*/[^/]+\.[0-9n]\w*$|[^/\d]\.[1-8](?:[a-z]\w{0,5})?$(?<!\.7z)(?<!\.so\.\d)(?<!\.log\.\d)"
)

# fmt: off
FOREIGN_FOLDERS = frozenset((
    "node_modules", "bower_components", "__pycache__", "site-packages", "venv",
    "_build", "_static", "_sources", "_modules", "_images", "_downloads", "doctrees",
    "_templates", "_themes", "src-html", "class-use",
))
_OUTPUT_FOLDERS = frozenset(("build", "dist", "site", "target", "out", "public"))  # beside one of these:
_BUILD_FILES = frozenset((
    "pyproject.toml", "setup.py", "package.json", "mkdocs.yml", "makefile", "cargo.toml", "conf.py",
    "book.toml", "hugo.toml",
))
# fmt: on
NOT_DOCUMENTATION = re.compile(
    r"(?:licen[cs]e|copying|notice|authors|robots|cmakelists|top_level|requirements|constraints)\b[^.]*\.\w+"
    r"|(?:genindex(?:-\w+)?|bookindex|ix\d\d|search|py-modindex|404|searchindex|toc|print)(?:-all)?\.html?"
    # Pages of javadoc, doxygen and rustdoc that only list others, and source code as a page.
    r"|(?:all(?:classes|packages)(?:-\w+)?|(?:overview|package)-(?:tree|use|frame)|index-(?:all|\d+))\.html"
    r"|(?:help-doc|dir_[0-9a-f]{32}|\w+_8\w+_source|(?:class|struct|union)\w+-members|.+\.rs)\.html",
    re.IGNORECASE,
)
_INVISIBLE = re.compile("[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")
_BLANK = re.compile("[\x0b\x0c\x1c-\x1f\x85]")


# Kinds of documents. Files of those that no reader knows are counted, and reported if they are many.
_DOCUMENTS = word_set(
    ".doc .docx .odt .rtf .epub .tex .org .pod .textile .mediawiki .wiki .rdoc .creole .djvu .chm .ps .dita "
    ".info"
)


def ignore(sentence: str) -> None:
    pass


def files_of(root: Path, *, warn: Warn = ignore, unread: Counter[str] | None = None) -> Iterator[Path]:
    """The documentation files below a folder, sorted and each once, without hidden folders, build output and
    vendored packages. Follows a link only if it leads to somewhere below the folder. `unread` receives how
    many documents of each kind no reader knows."""
    top = os.path.realpath(root)
    if not os.path.isdir(top):
        warn(f"{printable(str(root))} is not a folder.")
        return
    status = os.stat(top)
    seen = {(status.st_dev, status.st_ino)}
    files = entries = 0
    waiting = [top]
    while waiting:
        place = waiting.pop()
        is_file = os.path.isfile(place)
        try:
            names = [] if is_file else sorted(os.listdir(place))
        except OSError as error:
            warn(f"The folder {printable(place)} cannot be read ({_reason(error)}).")
            continue
        files, entries = files + is_file, entries + len(names)
        for count, most, what in ((files, MOST_FILES, "files"), (entries, MOST_ENTRIES, "entries")):
            if count > most:
                warn(f"{printable(top)} has more than {most:,} {what}; the others are left out.")
                return
        if is_file:
            yield Path(place)
        has_build = not _BUILD_FILES.isdisjoint(map(str.lower, names))
        if unread is not None:
            suffixes = (os.path.splitext(name)[1].lower() for name in names)
            unread.update(suffix for suffix in suffixes if suffix in _DOCUMENTS)
        found = (_path_to_read(top, place, name, has_build, seen, warn) for name in names)
        waiting += reversed(list(filter(None, found)))


def _path_to_read(
    top: str, place: str, name: str, has_build: bool, seen: set[tuple[int, int]], warn: Warn
) -> str | None:
    """The path of a file or folder within the folder `place`; None if it is not to be read."""
    path = os.path.join(place, name)
    file_format = format_of(path)
    if name.startswith(".") or name.lower() in FOREIGN_FOLDERS or name.endswith((".egg-info", ".dist-info")):
        return None
    if has_build and name.lower() in _OUTPUT_FOLDERS:
        return None
    try:
        if os.path.islink(path) and not _is_below(top, os.path.realpath(path)):
            if file_format:
                warn(f"{printable(path)} is left out, since it is a link out of the folder.")
            return None
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if file_format:
            warn(f"{printable(path)} cannot be read ({_reason(error)}).")
        return None
    if stat.S_ISDIR(status.st_mode):
        if os.path.lexists(os.path.join(path, "pyvenv.cfg")):
            return None
    elif not file_format or NOT_DOCUMENTATION.fullmatch(name):
        return None
    elif not stat.S_ISREG(status.st_mode):
        warn(f"{printable(path)} is left out, since it is not a regular file.")
        return None
    if printable(name) != name:
        warn(f"{printable(path)} is left out, since its name has characters that cannot be printed.")
        return None
    if file_format == "openapi" and stat.S_ISREG(status.st_mode):
        with contextlib.suppress(OSError):
            if not states_openapi(_ends_of(path)):
                return None
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return None
    seen.add(identity)
    return path


def format_of(path: str) -> str:
    """The format that the name of a file shows; "" if it shows none that can be read."""
    path = path.lower().removesuffix(".gz")
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1]
    if _PLAIN_NAME.fullmatch(name):
        return "text"
    return SUFFIXES.get(suffix) or ("man" if _MAN_PAGE.search(path) else "")


def _is_below(top: str, path: str) -> bool:
    return path == top or path.startswith(os.path.join(top, ""))


def printable(text: str) -> str:
    """A path that can be printed on a line: invisible characters become escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def decode(data: bytes, *, declared: str = "") -> str:
    """Any bytes as text: by their byte order mark, as UTF-8, or in the `declared` encoding. Bytes that fit
    none of these are read as Latin-1. Lines end with a line feed alone; invisible characters, which can
    change how others look, are removed."""
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


_DECLARED = re.compile(
    rb"<meta[^<>]{0,200}?charset\s*=\s*[\"']?(iso-8859-(?:1[013-6]?|[2-9])|windows-125[0-8]|koi8-[ru]"
    rb"|euc-(?:jp|kr)|shift_jis|gb2312|gbk|gb18030|big5)\b",
    re.IGNORECASE,
)


def _is_binary(data: bytes) -> bool:
    head = data[:8192]
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return False
    return b"\0" in head or sum(byte < 9 or 13 < byte < 27 for byte in head) > len(head) // 20


def bytes_of(path: Path, largest: int) -> tuple[bytes, bool]:
    """The beginning of a file, and whether it has more. Never waits for a pipe or a device."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        data = file.read(largest + 1)
    if path.suffix.lower() == ".gz":
        data = _unpacked(data, largest + 1)
    return data[:largest], len(data) > largest


def _unpacked(data: bytes, most: int) -> bytes:
    """The beginning of what gzip packed, however much it is in full."""
    unpacked = bytearray()
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        try:
            while len(unpacked) < most and (piece := file.read1(most - len(unpacked))):
                unpacked += piece
        except (OSError, EOFError, zlib.error) as error:
            if not unpacked:
                raise OSError("it is not a gzip file") from error
    return bytes(unpacked)


def _ends_of(path: str) -> bytes:
    """The beginning and the end of a file."""
    data, is_cut = bytes_of(Path(path), 64 << 10)
    if is_cut and not path.endswith(".gz"):
        with open(path, "rb") as file:
            file.seek(-(64 << 10), os.SEEK_END)
            data += file.read(64 << 10)
    return data


def read_file(
    path: Path,
    root: Path,
    *,
    base_url: str = "",
    package: str = "",
    version: str = "",
    licence: str = "",
    warn: Warn = ignore,
) -> list[Passage]:
    """The passages of one file below `root`, in order. `base_url` is the address of the folder."""
    top = Path(os.path.realpath(root))
    place = os.path.relpath(path, root if _is_below(str(root), str(path)) else top).replace(os.sep, "/")
    label = printable(place)
    file_format = name_format = format_of(str(path)) or "text"
    largest = _LARGEST.get(file_format, LARGEST_TEXT)
    try:
        if not _is_below(str(top), os.path.realpath(path)):
            raise OSError("it is a link out of the folder")
        data, is_cut = bytes_of(path, largest)
    except (OSError, ValueError) as error:
        warn(f"{label} cannot be read ({_reason(error)}).")
        return []
    try:
        page, file_format = _page_of(data, file_format, path, top, is_cut=is_cut)
    except Unreadable as error:
        warn(f"{label} is left out, since {error}.")
        return []
    if is_cut:
        warn(f"{label} is larger than {largest >> 20} MiB; the rest is left out.")
    if page.left_out:
        warn(f"{label} is read without {page.left_out}.")
    shown_format = file_format
    if name_format == "text" and file_format in ("markdown", "asciidoc"):
        # An answer must not read it as a plain text.
        label = f"{label} ({'Markdown' if file_format == 'markdown' else 'AsciiDoc'})"
        shown_format = "text" if file_format == "markdown" else file_format
    address, slug = address_of(Path(place), top, shown_format, base_url)
    base = Passage(
        name=_clean(page.title) or " ".join(path.stem.replace("_", " ").split()) or label,
        kind="section",
        title="",
        text="",
        package=package or printable(top.name),
        version=version,
        licence=licence,
        location=label,
        corpus="docs",
        url=address,
    )
    joint = "" if file_format == "texinfo" else "#"
    anchors = {
        heading: f"{address}{joint}{quote(anchor, safe=URL_SAFE)}" if anchor else address
        for heading, anchor in (anchors_of(page.headings, slug) if address else {}).items()
    }
    passages = list(itertools.islice(_passages_of(page, base, anchors, warn), MOST_PASSAGES + 1))
    if len(passages) > MOST_PASSAGES:
        warn(f"{label} has more than {MOST_PASSAGES:,} sections; the others are left out.")
    return passages[:MOST_PASSAGES]


def _page_of(data: bytes, file_format: str, path: Path, top: Path, *, is_cut: bool) -> tuple[Page, str]:
    """A file as a page, and its real format. Raises `Unreadable` with the reason."""
    if file_format == "pdf":
        if is_cut:
            raise Unreadable("it is too large")
        return read_pdf(data), "pdf"
    if _is_binary(data):
        raise Unreadable("it is not text")
    if is_cut:
        data = data[: data.rfind(b"\n") + 1] or data
    declared = _DECLARED.search(data, 0, 2048) if file_format == "html" else None
    text = decode(data, declared=declared[1].decode() if declared else "")
    if file_format == "text":
        file_format = next((each for each, fits in _FORMATS_OF_TEXT.items() if fits(path.name, text)), "text")
    if file_format in ("markdown", "rest"):
        includes = Includes(Path(os.path.realpath(path)), top)
        read = read_markdown if file_format == "markdown" else read_rest
        return read(text, includes), file_format
    return _FORMATS[file_format][0](text), file_format


def _passages_of(
    page: Page, base: Passage, addresses: Mapping[Heading, str], warn: Warn
) -> Iterator[Passage]:
    """The passages of a page. `base` has what they share: the name, the place and the address of the page."""
    has_top = any(heading.level == 1 for heading in page.headings)
    apis = {each for each in page.headings if each.level >= DIRECTIVE_LEVEL}
    # A heading such as "extra()" often names the API that stands below it.
    done = {None, *page.documented, *({each.parent for each in apis} - apis)}
    for section in page.sections:
        heading = section.heading
        texts = []
        for start, end in _parts(page, section):
            text = "\n".join(_shown(page, start, end))
            if len(text) > LARGEST_BLOCK:
                place = f"{base.location}:{page.numbers[start]}"
                warn(f"The block at {place} is too long to quote; its end is left out.")
                text = text[: text.rfind("\n", 0, LARGEST_BLOCK) + 1] or text[:LARGEST_BLOCK]
            if heading and heading.kind != "section":
                text = textwrap.dedent(text)
            if start < end:
                texts.append((text.strip("\n").rstrip(), start))
        if not texts and heading and heading.signature and heading not in done:
            texts.append((heading.signature, section.start))
        done.add(heading)
        names = [name for name in map(_clean, heading.path) if name] if heading else []
        if page.title and not has_top and names and not base.name.startswith(names[0]):
            names = [base.name, *names]  # the page states its first heading only in its title
        names = names or [base.name]
        for text, at in texts:
            number = page.numbers[min(at, len(page.numbers) - 1)] if page.numbers else 1
            address = addresses.get(heading, base.url) if heading else base.url
            yield replace(
                base,
                name=names[-1],
                kind=heading.kind if heading else "section",
                title=" › ".join(names),
                text=text,
                location=f"{base.location}{page.number_mark}{number}",
                signature="\n".join(map(_clean, heading.signature.split("\n"))) if heading else "",
                url=f"{base.url}#page={number}" if base.url and page.number_mark != ":" else address,
            )


def _shown(page: Page, start: int, end: int) -> Iterator[str]:
    """The lines that say something, without the gaps that the others leave."""
    is_blank = True
    for at in range(start, end):
        was_blank, is_blank = is_blank, not page.lines[at].strip()
        if page.skipped[at] or (is_blank and was_blank and not page.joined[at]):
            is_blank = is_blank or was_blank
        else:
            yield page.lines[at]


def _clean(text: str) -> str:
    return _INVISIBLE.sub("", " ".join(text.split()))


def _parts(page: Page, section: Section) -> Iterator[tuple[int, int]]:
    """The lines of a section in parts short enough to quote. Splits between paragraphs, between lines only
    where a paragraph is too long, and never within a block of code or below what announces it."""
    start, end = _trimmed(page, section.start, section.end)
    sums = [0, *itertools.accumulate(len(line) + 1 for line in page.lines[start:end])]
    if sums[-1] <= LONGEST_PASSAGE:
        yield start, end
        return
    lines = [at for at in range(start + 1, end) if _may_begin(page, at)]
    paragraphs = [start, *(at for at in lines if not page.lines[at - 1].strip()), end]
    is_long = []
    for a, b in itertools.pairwise(paragraphs):
        # A paragraph stays with the code that it announces.
        longest = LONGEST_PASSAGE if page.joined.find(1, a, b) < 0 else LARGEST_BLOCK
        is_long.append(sums[b - start] - sums[a - start] > longest)
    inner = (at for at in lines if is_long[bisect.bisect(paragraphs, at) - 1])
    begun = start
    for at, following in itertools.pairwise(sorted({*paragraphs, *inner})):
        if at > begun and sums[following - start] - sums[begun - start] > LONGEST_PASSAGE:
            yield _trimmed(page, begun, at)
            begun = at
    yield _trimmed(page, begun, end)


def _may_begin(page: Page, at: int) -> bool:
    """Whether a part may begin at a line: not within code, nor below a paragraph that ends with a colon."""
    before = page.lines[at - 2 : at] if at > 1 else []
    is_announced = bool(before) and not before[1].strip() and before[0].rstrip().endswith(":")
    return not page.joined[at] and page.lines[at].strip() != "" and not is_announced


def _trimmed(page: Page, start: int, end: int) -> tuple[int, int]:
    """The same lines without empty and skipped ones at both ends."""

    def is_empty(at: int) -> bool:
        return bool(page.skipped[at]) or not page.lines[at].strip()

    while start < end and is_empty(start):
        start += 1
    while start < end and is_empty(end - 1):
        end -= 1
    return start, end
