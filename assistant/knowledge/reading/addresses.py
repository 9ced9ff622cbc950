"""Where a file of documentation can be read on the web, and the anchors of its headings.

Both depend on the site generator, which a file beside the page or above it shows: MkDocs, Hugo and Astro turn
`guide/install.md` into `guide/install/`, Docusaurus into `guide/install`. Sphinx, mdBook, Quarto and Jekyll
turn it into `guide/install.html`, which is also the rule without a generator. HTML files, and all files on a
code host (an address with `/blob/` or the like), keep their names. An index page has the address of its
folder, except on a code host. A folder that was fetched from the web lists the address of each file.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from assistant.knowledge.reading.page import Heading, docutils_id

HTML = frozenset((".html", ".htm", ".xhtml"))

CRAWL_FILE = ".crawl.json"  # written when a fetch of the pages has ended

URL_SAFE = "-._~!$&'()*+,;=:@/?"
_CODE_HOST = re.compile(
    r"https?://(?:[^/]+/){3,}(?:-/)?(?:blob|tree|src|raw)/|https?://raw\.githubusercontent"
)
_ANTORA = re.compile(r"(?:.*/)?modules/(?:ROOT|([^/]+))/pages/(.+)")

# Turns a heading into its anchor, and into what separates the anchor from a number when the heading repeats.
Slug = Callable[[str], tuple[str, str]]


def _github(text: str) -> tuple[str, str]:
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-"), "-"


def _mkdocs(text: str) -> tuple[str, str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()), "_"


def _sphinx(text: str) -> tuple[str, str]:
    return docutils_id(text), ""  # a repeat gets a number that only Sphinx can count


# For each file that shows a generator: the folder of its pages, how their addresses end, and their anchors.
_GENERATORS: dict[str, tuple[str, str, Slug]] = {
    **dict.fromkeys(("mkdocs.yml", "mkdocs.yaml", "zensical.toml"), ("docs", "/", _mkdocs)),
    **dict.fromkeys(("docusaurus.config.js", "docusaurus.config.ts"), ("", "", _github)),
    **dict.fromkeys(("hugo.toml", "hugo.yaml"), ("content", "/", _github)),
    "astro.config.mjs": ("src/content/docs", "/", _github),
    "conf.py": ("", ".html", _sphinx),
    "book.toml": ("src", ".html", _github),
    **dict.fromkeys(("_quarto.yml", "_config.yml"), ("", ".html", _github)),
}


def address_of(place: Path, top: Path, file_format: str, base_url: str) -> tuple[str, Slug | None]:
    """The address of the file at `place` below `top`, and how its headings become anchors."""
    if fetched := _fetched(top).get(place.as_posix()):
        return fetched, None  # a page of HTML states its anchors, and a raw text has none
    if not base_url:
        return "", None
    base = base_url.rstrip("/")
    place = place.with_suffix("") if place.suffix.lower() == ".gz" else place
    page = place.as_posix()
    slug: Slug | None = None
    indexes: tuple[str, ...] = ("index.html", "index.htm")
    if file_format == "texinfo":  # each node is a file in the folder of the manual
        indexes = (place.name.lower(),)
    elif file_format in ("markdown", "notebook", "rest", "asciidoc"):
        is_on_host = _CODE_HOST.match(f"{base}/")
        slug, indexes = _github, ()
        if not is_on_host:
            place, ending, slug = _on_site(place, top, _sphinx if file_format == "rest" else _github)
            names = ("index", "_index") if slug is _sphinx else ("index", "_index", "readme")
            indexes = tuple(f"{name}{place.suffix.lower()}" for name in names)
            page = place.with_suffix("").as_posix() + ending
        if file_format == "asciidoc":  # its reader gives every heading an anchor
            slug = None
    if place.name.lower() in indexes:
        page = place.as_posix()[: -len(place.name)]
    return f"{base}/{quote(page, safe=URL_SAFE)}", slug


def _fetched(top: Path) -> Mapping[str, str]:
    """The address of each file of a folder that was fetched; none of another folder."""
    try:
        state = (top / CRAWL_FILE).stat()
    except OSError:
        return {}
    return _listed(top / CRAWL_FILE, state.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _listed(file: Path, changed: int) -> Mapping[str, str]:
    try:
        pages = json.loads(file.read_bytes())["pages"]
        found = {str(page["file"]): str(url) for url, page in pages.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {place: url for place, url in found.items() if url.startswith(("https://", "http://"))}


def _on_site(place: Path, top: Path, slug: Slug) -> tuple[Path, str, Slug]:
    """The place of a file in the site that a generator makes, the ending of its address, and its anchors,
    which are by `slug` if nothing shows the generator."""
    if antora := _ANTORA.fullmatch(place.as_posix()):
        return Path(antora[1] or "", antora[2]), ".html", slug
    for folder in (*(top / place).parents[: len(place.parts)], top.parent):
        for name, (sources, its_ending, its_slug) in _GENERATORS.items():
            if (folder / name).is_file():
                inner = (top / place).relative_to(folder)
                if folder == top.parent:  # the folder is the documentation of a project
                    inner = place
                elif sources and inner.is_relative_to(sources) and len(inner.parts) > 1:
                    inner = inner.relative_to(sources)
                return inner, its_ending, its_slug
    return place, ".html", slug


def anchors_of(headings: Sequence[Heading], slug: Slug | None) -> dict[Heading, str]:
    """The anchor of each heading: the one in the text, or else the one that the generator makes."""
    anchors: dict[Heading, str] = {}
    times: dict[str, int] = {}
    for heading in headings:
        anchors[heading] = heading.anchor
        if not heading.anchor and slug is not None:
            anchor, repeat = slug(heading.signature if heading.kind != "section" else heading.name)
            count = times[anchor] = times.get(anchor, -1) + 1
            if count:
                anchor = f"{anchor}{repeat}{count}" if repeat and anchor else ""
            anchors[heading] = anchor
    return anchors
