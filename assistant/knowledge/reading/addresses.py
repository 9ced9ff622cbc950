"""Where a file of documentation can be read on the web, and the anchors of its headings.

Both depend on the site generator, which a file beside the page or above it shows: MkDocs, Hugo and Astro turn
`guide/install.md` into `guide/install/`, Docusaurus into `guide/install`. `conf.py` (Sphinx), `book.toml`
(mdBook), `_quarto.yml` and `_config.yml` (Jekyll) turn it into `guide/install.html`, which is also the rule
without a generator. HTML files, and all files on a code host (an address with `/blob/` or the like), keep
their names. An index page has the address of its folder, except on a code host.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from assistant.knowledge.reading.page import Heading, docutils_id

HTML = frozenset((".html", ".htm", ".xhtml"))

URL_SAFE = "-._~!$&'()*+,;=:@/?"
_CODE_HOST = re.compile(
    r"https?://(?:[^/]+/){3,}(?:-/)?(?:blob|tree|src|raw)/|https?://raw\.githubusercontent"
)
_GENERATORS = {
    "mkdocs.yml": "mkdocs",
    "mkdocs.yaml": "mkdocs",
    "zensical.toml": "mkdocs",
    "docusaurus.config.js": "docusaurus",
    "docusaurus.config.ts": "docusaurus",
    "hugo.toml": "hugo",
    "hugo.yaml": "hugo",
    "astro.config.mjs": "astro",
    "conf.py": "sphinx",
    "book.toml": "page",
    "_quarto.yml": "page",
    "_config.yml": "page",
}

_SOURCES = {"mkdocs": "docs", "page": "src", "hugo": "content", "astro": "src/content/docs"}

# Turns a heading into its anchor, and into what separates the anchor from a number when the heading repeats.
Slug = Callable[[str], tuple[str, str]]


def address_of(place: Path, top: Path, file_format: str, base_url: str) -> tuple[str, Slug | None]:
    """The address of the file at `place` below `top`, and how its headings become anchors."""
    if not base_url:
        return "", None
    base = base_url.rstrip("/")
    place = place.with_suffix("") if place.suffix.lower() == ".gz" else place
    if file_format == "texinfo":  # each node is a file in the folder of the manual
        return f"{base}/{quote(place.parent.as_posix(), safe=URL_SAFE)}/".replace("/./", "/"), None
    keeps_name = file_format not in ("markdown", "notebook", "rest", "asciidoc")
    if keeps_name:
        site, slug = "", None
    elif _CODE_HOST.match(f"{base}/"):
        slug = None if file_format == "asciidoc" else _github
        return f"{base}/{quote(place.as_posix(), safe=URL_SAFE)}", slug
    else:
        site, place = _site_of(place, top)
        if found := re.fullmatch(r"(?:.*/)?modules/(?:ROOT|([^/]+))/pages/(.+)", place.as_posix()):  # Antora
            place = Path(found[1] or "", found[2])
        slug = {"mkdocs": _mkdocs, "sphinx": _sphinx}.get(site, _sphinx if file_format == "rest" else _github)
        if file_format == "asciidoc":  # its reader gives every heading an anchor
            slug = None
        if file_format == "rest":
            site = site or "sphinx"
    if place.suffix.lower() in HTML or keeps_name:
        page = place.as_posix()
        if place.name.lower() in ("index.html", "index.htm"):
            page = page[: -len(place.name)]
    elif place.stem.lower() in ("index", "_index") or (place.stem.lower() == "readme" and site != "sphinx"):
        page = place.as_posix()[: -len(place.name)]
    else:
        page = place.with_suffix("").as_posix() + {
            "mkdocs": "/",
            "hugo": "/",
            "astro": "/",
            "docusaurus": "",
        }.get(site, ".html")
    return f"{base}/{quote(page, safe=URL_SAFE)}", slug


def _site_of(place: Path, top: Path) -> tuple[str, Path]:
    """The generator that makes a site from a file, and the file's place in that site."""
    for folder in (*(top / place).parents[: len(place.parts)], top.parent):
        for name, site in _GENERATORS.items():
            if not (folder / name).is_file():
                continue
            if folder == top.parent:  # the folder is the documentation of a project
                return site, place
            inner = (top / place).relative_to(folder)
            sources = _SOURCES.get(site)
            is_source = sources and len(inner.parts) > 1 and inner.is_relative_to(sources)
            return site, inner.relative_to(sources) if sources and is_source else inner
    return "", place


def _github(text: str) -> tuple[str, str]:
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-"), "-"


def _mkdocs(text: str) -> tuple[str, str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()), "_"


def _sphinx(text: str) -> tuple[str, str]:
    return docutils_id(text), ""  # a repeat gets a number that only Sphinx can count


def anchors_of(headings: Sequence[Heading], slug: Slug | None) -> dict[Heading, str]:
    """The anchor of each heading: the one in the text, or else the one that the generator makes."""
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
        if count:
            anchor = f"{anchor}{repeat}{count}" if repeat and anchor else ""
        anchors[heading] = anchor
    return anchors
