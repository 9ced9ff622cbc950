"""Reads what a site says about its pages: robots.txt, sitemaps, llms.txt, and the links of a page.

All of it comes from strangers. Reading it takes a time that grows with its length, and raises nothing but
`FetchFailed`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote
from xml.parsers import expat

from yarl import URL

from assistant.knowledge.crawling.fetcher import AGENT, FetchFailed, unpacked

LARGEST_ROBOTS = 500 << 10  # bytes, as RFC 9309 asks
LARGEST_MAP = 16 << 20  # bytes of a sitemap, packed and unpacked
MOST_RULES = 5_000
MOST_LISTED = 50_000  # addresses of a sitemap, or links of a page
LONGEST_URL = 1_000  # characters
LONGEST_DELAY = 10.0  # seconds between two requests that a site may ask for


@dataclass(slots=True)
class Robots:
    """The rules of robots.txt for us, by RFC 9309: the longest rule that fits decides."""

    rules: list[tuple[str, bool]] = field(default_factory=list)  # pattern, and whether it allows
    delay: float = 0.0
    sitemaps: list[str] = field(default_factory=list)

    def allows(self, url: URL) -> bool:
        path = url.raw_path_qs
        fitting = [(len(pattern), allows) for pattern, allows in self.rules if _fits(pattern, path)]
        return max(fitting, default=(0, True))[1]  # of two rules of one length, the one that allows


def read_robots(text: str) -> Robots:
    groups: dict[str, Robots] = {}
    current: list[Robots] = []
    sitemaps: list[str] = []
    names_follow = False  # whether the line before named an agent too
    for line in text.splitlines():
        key, _, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if key == "sitemap":
            sitemaps.append(value[:LONGEST_URL])
        elif key == "user-agent":
            current = current if names_follow else []
            current.append(groups.setdefault(value.lower().partition("/")[0], Robots()))
            names_follow = True
        elif key:
            names_follow = False
        for group in current:
            if key in ("allow", "disallow") and value and len(group.rules) < MOST_RULES:
                group.rules.append((_pattern(value[:LONGEST_URL]), key == "allow"))
            elif key == "crawl-delay" and re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value):
                group.delay = min(float(value), LONGEST_DELAY)
    found = groups.get(AGENT.lower()) or groups.get("*") or Robots()
    found.sitemaps = sitemaps
    return found


def _pattern(path: str) -> str:
    """A pattern with the same characters quoted as in an address."""
    path = re.sub(r"%[2-7][0-9A-Fa-f]", _needed, path)
    return quote(path, safe="%/*$?&=+,;:@!'()~-._[]|")


def _needed(quoted: re.Match[str]) -> str:
    char = unquote(quoted[0])
    return char if char.isalnum() or char in "-._~" else quoted[0].upper()


def _fits(pattern: str, path: str) -> bool:
    """Whether a pattern with `*` and a final `$` fits the beginning of a path."""
    to_the_end = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at, last = len(first), others.pop() if others and to_the_end else None
    for piece in others:
        if (found := path.find(piece, at)) < 0:
            return False
        at = found + len(piece)
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= at
    return not to_the_end or at == len(path)


def read_sitemap(data: bytes) -> tuple[list[str], list[str]]:
    """The pages and the further sitemaps that a sitemap lists. It is XML, or a text with an address a line,
    and may be packed. Raises `FetchFailed`."""
    if data.startswith(b"\x1f\x8b"):
        data = unpacked(data, LARGEST_MAP)
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text.startswith(b"<"):
        lines = text.decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.startswith(("http://", "https://"))][:MOST_LISTED], []
    return _SitemapReader().read(text)


class _SitemapReader:
    """Reads a sitemap with expat. A document type, without which no entity can be declared, is refused."""

    def __init__(self) -> None:
        self._listed: dict[str, list[str]] = {"url": [], "sitemap": []}
        self._parents: list[str] = []  # the open elements, without their namespaces
        self._parts: list[str] = []
        self._length = 0

    def read(self, text: bytes) -> tuple[list[str], list[str]]:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            if not any(self._listed.values()):
                raise FetchFailed("it is not a sitemap") from error
        return self._listed["url"], self._listed["sitemap"]

    def _refuse(self, *_: object) -> None:
        raise FetchFailed("it declares a type of document, which a sitemap has no use for")

    def _start(self, name: str, _: dict[str, str]) -> None:
        self._parents.append(name.rpartition(" ")[2])
        self._parts, self._length = [], 0

    def _add(self, text: str) -> None:
        self._length += len(text)
        if self._parents[-1] == "loc" and self._length <= LONGEST_URL:
            self._parts.append(text)

    def _end(self, _: str) -> None:
        name = self._parents.pop()
        listed = self._listed.get(self._parents[-1]) if self._parents else None
        if name == "loc" and listed is not None and len(listed) < MOST_LISTED and self._length <= LONGEST_URL:
            listed.append("".join(self._parts).strip())


_MARKDOWN_LINK = re.compile(rf"\]\(\s{{0,9}}<?([^\s<>()]{{1,{LONGEST_URL}}})")


def read_llms(text: str) -> list[str]:
    """The links of an llms.txt, which is Markdown."""
    return _MARKDOWN_LINK.findall(text)[:MOST_LISTED]


_TAG = re.compile(r"<(a|area|base|meta)\s([^<>]{1,4000})>", re.IGNORECASE)
# A quotation mark that is not closed ends with the tag, so that no text is read twice.
_ATTRIBUTE = re.compile(r"(?<![\w:-])([\w:-]{1,30})\s{0,9}=\s{0,9}(?:\"([^\"]*)\"?|'([^']*)'?|([^\s\"']+))")
_REFRESH = re.compile(r"\d{1,6}\s{0,9}[;,]\s{0,9}url\s{0,9}=\s{0,9}['\"]?([^'\"]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Links:
    """What a page of HTML refers to, and whether it asks to be indexed."""

    addresses: list[str]
    base: str
    robots: str  # what its meta element asks for, such as "noindex"


def read_links(text: str) -> Links:
    addresses: list[str] = []
    base = robots = ""
    for name, attributes in _tags(text):
        if name == "base":
            base = base or attributes.get("href", "")
        elif name == "meta":
            content = attributes.get("content", "")
            if attributes.get("name", "").lower() in ("robots", AGENT.lower()):
                robots += f" {content.lower()}"
            if attributes.get("http-equiv", "").lower() == "refresh" and (found := _REFRESH.match(content)):
                addresses.append(found[1])
        elif "nofollow" not in attributes.get("rel", "").lower().split() and "href" in attributes:
            addresses.append(attributes["href"])
        if len(addresses) >= MOST_LISTED:
            break
    return Links([each.strip() for each in addresses if len(each) <= LONGEST_URL], base, robots)


def _tags(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for found in _TAG.finditer(text):
        attributes = _ATTRIBUTE.findall(found[2])
        yield (
            found[1].lower(),
            {
                name.lower(): html.unescape(double or single or bare)
                for name, double, single, bare in attributes
            },
        )
