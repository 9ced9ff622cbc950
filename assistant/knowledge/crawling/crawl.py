"""Fetches the documentation of a site, from its address, into a folder that `--docs FOLDER` reads.

The pages come from the site's sitemaps and its llms.txt. If these list only a few pages, as where they name
one page for each version, the links of the pages are followed too. Only pages below the address count, and
robots.txt decides which of them may be fetched.

The folder holds a file for each page, and `.crawl.json`, which says where each file comes from. So a later
fetch asks only for what has changed, and one that was killed continues. A page that has vanished (404, 410)
loses its file; one that cannot be fetched for another reason keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from assistant.knowledge.crawling.fetcher import (
    Clock,
    Fetcher,
    FetchFailed,
    Resolve,
    Response,
    Sleep,
    TooMuch,
    Unreachable,
    in_words,
    joined,
    resolve_by_system,
)
from assistant.knowledge.crawling.page_folder import CrawlFailed, PageFolder, exclusive, place_of
from assistant.knowledge.crawling.site_maps import (
    LARGEST_MAP,
    LARGEST_ROBOTS,
    LONGEST_URL,
    Robots,
    read_links,
    read_llms,
    read_robots,
    read_sitemap,
)
from assistant.knowledge.reading.folders import FOREIGN_FOLDERS, NOT_DOCUMENTATION

FEW_PAGES = 10  # if fewer are listed, links are followed
MOST_SITEMAPS = 50
MOST_SEEN = 100_000  # addresses that one fetch considers
MOST_FAILURES = 10  # in a row, after which the site is left alone
DEEPEST = 20  # folders within each other

_KINDS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/plain": ".txt",
}
_NO_PAGE = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|avif|ico|bmp|css|m?js|json|xml|rss|atom|map|wasm|woff2?|ttf|otf|eot|pdf|e?ps"
    r"|epub|zip|gz|tgz|bz2|xz|zst|7z|rar|tar|jar|whl|deb|rpm|dmg|exe|msi|iso|mp[34]|webm|og[gv]|wav|avi|mov"
    r"|docx?|xlsx?|pptx?|od[tsp]|csv|inv|py|ipynb|asc|sig|sha256|md5)$",
    re.IGNORECASE,
)
_TRACKING = re.compile(r"utm_\w+|gclid|fbclid|msclkid|dclid|yclid|mc_[ce]id|_ga|_gl|igshid|ref_src")
_ENCODING = re.compile(
    r"iso-8859-\d{1,2}|windows-12\d\d|koi8-[ru]|euc-(?:jp|kr)|shift_jis|gb2312|gbk|gb18030|big5|utf-16(?:[bl]e)?"
)
_PAGE_NAME = re.compile(r"\.[A-Za-z]\w{1,4}$")  # ".html", but no version such as "v1.2"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one fetch may take. `pause` is the time between two requests."""

    pages: int = 2_000
    page_bytes: int = 8 << 20
    all_bytes: int = 500 << 20
    seconds: float = 3_600.0
    page_seconds: float = 30.0
    pause: float = 0.5


@dataclass(slots=True)
class Crawled:
    """What a fetch did, by the addresses of pages."""

    fetched: list[str] = field(default_factory=list)  # new or changed
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # and why
    stopped: str = ""  # why the fetch ended before all pages, as a sentence


# Receives "fetched", "unchanged", "removed" or "skipped", an address, and why it was skipped.
Report = Callable[[str, str, str], None]


def ignore(event: str, address: str, reason: str) -> None:
    pass


def crawl(
    address: str,
    folder: Path,
    *,
    limits: Limits = Limits(),
    private_hosts: Collection[str] = (),
    report: Report = ignore,
    clock: Clock = time.monotonic,
    now: Clock = time.time,
    sleep: Sleep = asyncio.sleep,
    resolve: Resolve = resolve_by_system,
) -> Crawled:
    """Bring the pages in `folder` up to date with the site at `address`. Raises `CrawlFailed`.

    Hosts in `private_hosts` may have addresses of a private network."""
    start = _start(address)
    host = start.raw_host or ""
    fetcher = Fetcher(
        {host, host.removeprefix("www."), f"www.{host}"},
        ports=() if start.explicit_port is None else (start.explicit_port,),
        private_hosts={name.lower().rstrip(".") for name in private_hosts},
        pause=limits.pause,
        seconds=limits.page_seconds,
        clock=clock,
        sleep=sleep,
        resolve=resolve,
    )
    try:
        with exclusive(folder):
            store = PageFolder(folder, str(start), now)
            return asyncio.run(_Crawl(start, store, fetcher, limits, report, clock).run())
    except OSError as error:
        raise CrawlFailed(f"The pages cannot be written into {folder}: {error.strerror or error}.") from error


def _start(address: str) -> URL:
    try:
        url = URL(address.strip())
        host = (url.raw_host or "").rstrip(".")
        if url.scheme not in ("http", "https") or not host:
            raise ValueError
        if url.user is not None or url.password is not None:
            raise CrawlFailed("The address must hold no user name and no password.")
        return _canonical(url.with_host(host), url)
    except ValueError as error:
        raise CrawlFailed(f"{address!a} is not an address of http or https.") from error


def _canonical(url: URL, base: URL) -> URL:
    """One form for all addresses of a page. An address of http becomes one of https if the site has that."""
    if url.scheme == "http" and base.scheme == "https" and url.port == 80:
        url = url.with_scheme("https")
    if url.is_default_port() and url.explicit_port is not None:
        url = url.with_port(None)
    if url.raw_path == "/" and not url.raw_query_string:
        url = url.with_path("/")  # also where the address ends with the host
    if url.raw_query_string:
        pairs = [
            part for part in url.raw_query_string.split("&") if not _TRACKING.match(part.partition("=")[0])
        ]
        url = URL(f"{url.with_query(None)}{'?' if pairs else ''}{'&'.join(pairs)}", encoded=True)
    return url.with_fragment(None)


def _folder_of(url: URL) -> str:
    """The path below which the pages of a documentation stand, by the address of its first page."""
    above, _, name = url.raw_path.rpartition("/")
    return f"{above}/" if not name or _PAGE_NAME.search(name) else f"{above}/{name}/"


class _Crawl:
    """One fetch of a site."""

    def __init__(
        self, start: URL, store: PageFolder, fetcher: Fetcher, limits: Limits, report: Report, clock: Clock
    ) -> None:
        self._start = self._base = start
        self._top = _folder_of(start)  # the path below which the pages stand
        self._store = store
        self._fetcher = fetcher
        self._limits = limits
        self._report = report
        self._clock = clock
        self._end = clock() + limits.seconds
        self._robots: dict[URL, Robots] = {}  # by origin
        self._waiting: deque[str] = deque()
        self._seen: set[str] = set()
        self._digests: dict[str, str] = {}  # of the pages that were seen now, with their addresses
        self._follows = False  # whether links are followed
        self._failures = 0  # in a row
        self._crawled = Crawled()

    async def run(self) -> Crawled:
        async with self._fetcher:
            try:
                first = await self._first()
                listed = await self._listed()
                self._follows = len(listed) < FEW_PAGES
                self._take(str(self._start), first)
                for url in [*listed, *filter(self._is_page_still, self._store.pages)]:
                    self._add(url)
                while self._waiting and not self._should_stop():
                    await self._visit(self._waiting.popleft())
                for url in [url for url in self._store.pages if not self._is_page_still(url)]:
                    self._remove(url)  # as where the address now leads to another version
                self._store.is_finished = not self._crawled.stopped or self._is_full()
            finally:
                self._store.save()
        if not self._store.pages:
            reasons = [f"{url} ({reason})" for url, reason in self._crawled.skipped.items()]
            raise CrawlFailed(" ".join([f"{self._start} has no page that can be read.", *reasons[:3]]))
        return self._crawled

    def _should_stop(self) -> bool:
        limits, fetcher = self._limits, self._fetcher
        for is_reached, reason in (
            (self._is_full(), f"it has more than {limits.pages:,} pages"),
            (fetcher.requests >= 3 * limits.pages + 100, "too many of its addresses lead to no page"),
            (fetcher.received >= limits.all_bytes, f"it is larger than {in_words(limits.all_bytes)}"),
            (self._clock() >= self._end, f"it took longer than {limits.seconds:,.0f} seconds"),
            (self._failures >= MOST_FAILURES, "it does not answer any more"),
        ):
            if is_reached:
                self._crawled.stopped = f"The site was not fetched in full: {reason}."
        return bool(self._crawled.stopped)

    def _is_full(self) -> bool:
        return len(self._digests) >= self._limits.pages

    # What there is to fetch

    async def _first(self) -> Response:
        """Fetch the address itself and see where it leads. If it has vanished, the site is in disorder, so
        that its pages are kept."""
        try:
            response = await self._get(str(self._start), self._limits.page_bytes)
        except FetchFailed as error:
            raise CrawlFailed(f"{self._start} was not fetched: {error}.") from error
        if response.status not in (200, 304) and (response.status not in (404, 410) or self._store.pages):
            raise CrawlFailed(f"{self._start} was not fetched: the site answers {response.status}.")
        self._base = _canonical(response.url, response.url)
        folder = f"{self._base.raw_path.rpartition('/')[0]}/"
        if self._base.raw_path != self._start.raw_path and folder.startswith(self._top):
            self._top = folder  # as where "/" leads to "/en/latest/"
        return response

    async def _listed(self) -> list[str]:
        """The pages that the site's sitemaps and its llms.txt list."""
        root, top = self._base.origin(), self._base.with_path(self._top, encoded=True)
        named = (await self._robots_of(root)).sitemaps
        waiting = deque([*named, *(str(place / "sitemap.xml") for place in (top, root))])
        seen: set[str] = set()
        pages: dict[str, None] = {}
        while waiting and len(seen) < MOST_SITEMAPS:
            address = waiting.popleft()
            if address in seen:
                continue
            seen.add(address)
            body = await self._extra(address, LARGEST_MAP)
            try:
                found, further = read_sitemap(body) if body else ([], [])
            except FetchFailed as error:
                self._skip(address, str(error))
                continue
            waiting.extend(further)
            pages |= dict.fromkeys(filter(None, (self._page_at(each, self._base) for each in found)))
        for place in dict.fromkeys((top, root)):
            if body := await self._extra(str(place / "llms.txt"), LARGEST_ROBOTS):
                found = read_llms(body.decode("utf-8", "replace"))
                linked = filter(None, (self._page_at(each, place / "llms.txt") for each in found))
                # The page itself has the anchors; its Markdown stands in where there is no other.
                pages |= dict.fromkeys(each for each in linked if pages.keys().isdisjoint(_twins(each)))
                break
        return list(pages)

    async def _extra(self, address: str, largest: int) -> bytes:
        """A file that says what pages there are; nothing if there is none, or a page in its place."""
        try:
            url = _canonical(joined(self._base, address), self._base)
            response = await self._fetcher.get(url, largest=largest, may_fetch=self._may_fetch)
        except FetchFailed as error:
            self._skip(address, str(error))
            return b""
        is_page = response.content_type in ("text/html", "application/xhtml+xml")
        return b"" if response.status != 200 or is_page else response.body

    def _page_at(self, reference: str, place: URL) -> str | None:
        """The address to which `place` refers, in its one form; None if no page of the site has it."""
        try:
            url = _canonical(joined(place, reference), self._base)
        except (FetchFailed, ValueError):
            return None
        return str(url) if self._is_page(url) else None

    def _is_page(self, url: URL) -> bool:
        """Whether an address stands below that of the documentation and may be one of its pages."""
        if not self._is_below(url) or len(str(url)) > LONGEST_URL or _NO_PAGE.search(url.raw_path):
            return False
        folders = url.raw_path.split("/")[1:-1]
        if len(folders) > DEEPEST or any(each[:1] == "_" and each in FOREIGN_FOLDERS for each in folders):
            return False
        return not NOT_DOCUMENTATION.fullmatch(place_of(url, self._top, ".html").rpartition("/")[2])

    def _is_page_still(self, url: str) -> bool:
        return self._is_page(URL(url, encoded=True))

    def _is_below(self, url: URL) -> bool:
        is_here = url.user is None and url.password is None and url.absolute and url.raw_host
        return (
            bool(is_here) and url.origin() == self._base.origin() and f"{url.raw_path}/".startswith(self._top)
        )

    def _add(self, url: str) -> None:
        if url not in self._seen and len(self._seen) < MOST_SEEN:
            self._seen.add(url)
            self._waiting.append(url)

    # Fetching it

    async def _may_fetch(self, url: URL) -> str:
        robots = await self._robots_of(url.origin())
        return "" if robots.allows(url) else "the site's robots.txt forbids it"

    async def _robots_of(self, origin: URL) -> Robots:
        if origin not in self._robots:
            self._robots[origin] = Robots()
            reason = ""
            try:
                response = await self._fetcher.get(
                    origin / "robots.txt", largest=LARGEST_ROBOTS, may_fetch=_always
                )
                reason = f"the site answers {response.status}" if response.status >= 500 else ""
            except FetchFailed as error:
                reason = str(error)
            if reason:
                raise CrawlFailed(f"{origin / 'robots.txt'} cannot be read, so nothing is fetched: {reason}.")
            if response.status == 200:
                self._robots[origin] = read_robots(response.body.decode("utf-8", "replace"))
        robots = self._robots[origin]
        self._fetcher.pause = max(self._fetcher.pause, robots.delay)
        return robots

    async def _get(self, url: str, largest: int) -> Response:
        return await self._fetcher.get(
            URL(url, encoded=True),
            largest=largest,
            may_fetch=self._may_fetch,
            **self._store.conditions(url),
        )

    async def _visit(self, url: str) -> None:
        if page := self._store.done(url):  # by the fetch that was killed
            self._digests.setdefault(page.digest, url)
            self._follow(url, page.kind, self._store.body(url))
            return
        left = self._limits.all_bytes - self._fetcher.received
        try:
            response = await self._get(url, min(self._limits.page_bytes, left))
        except FetchFailed as error:
            if isinstance(error, TooMuch) and left < self._limits.page_bytes:
                self._waiting.append(url)  # it did not fit into what was left of all bytes
                return
            self._failures += isinstance(error, Unreachable)
            self._skip(url, str(error))
            return
        self._failures = self._failures + 1 if response.status >= 500 else 0
        self._take(url, response)

    def _take(self, url: str, response: Response) -> None:
        """Keep, update or remove a page by what the site answered."""
        final = str(_canonical(response.url, self._base))
        if response.status in (404, 410):
            if url in self._store.pages:
                self._remove(url)
            else:
                self._skip(url, f"the site answers {response.status}")
            return
        if response.status not in (200, 304):
            self._skip(url, f"the site answers {response.status}")
            return
        if final != url:
            if not self._is_page(response.url):
                self._skip(url, f"it leads to {final}, which is no page below the address")
                return
            if url in self._store.pages:
                self._remove(url)
            if final in self._seen:
                return  # it comes, or came, by its own address
        self._seen.add(final)
        if response.status == 304:
            self._keep_unchanged(final)
        else:
            self._keep(final, response)

    def _keep_unchanged(self, url: str) -> None:
        page = self._store.seen(url)
        self._digests[page.digest] = url
        self._tell(self._crawled.unchanged, "unchanged", url)
        self._follow(url, page.kind, self._store.body(url))

    def _keep(self, url: str, response: Response) -> None:
        if response.content_type not in _KINDS:
            self._skip(url, f"it is no page, but {response.content_type}")
            return
        kind = _KINDS[response.content_type]
        body = _in_utf8(response)
        asks = response.robots + (read_links(_text(body)).robots if kind == ".html" else "")
        first = self._digests.setdefault(hashlib.sha256(body).hexdigest(), url)
        if "noindex" in asks or first != url:
            if url in self._store.pages:
                self._remove(url)
            self._skip(
                url, "it asks not to be indexed" if "noindex" in asks else f"it is the same as {first}"
            )
        else:
            changed = self._store.put(url, kind, body, response, self._top)
            listed = self._crawled.fetched if changed else self._crawled.unchanged
            self._tell(listed, "fetched" if changed else "unchanged", url)
        if "nofollow" not in asks:
            self._follow(url, kind, body)

    def _follow(self, url: str, kind: str, body: bytes) -> None:
        if not self._follows or kind == ".txt":
            return
        place = URL(url, encoded=True)
        if kind == ".html":
            links = read_links(_text(body))
            with contextlib.suppress(FetchFailed):
                place = joined(place, links.base)
            addresses = links.addresses
        else:
            addresses = read_llms(_text(body))
        for address in addresses:
            if found := self._page_at(address, place):
                self._add(found)

    # What happened

    def _remove(self, url: str) -> None:
        self._store.remove(url)
        self._tell(self._crawled.removed, "removed", url)

    def _skip(self, url: str, reason: str) -> None:
        self._crawled.skipped[url] = reason
        self._report("skipped", url, reason)

    def _tell(self, listed: list[str], event: str, url: str) -> None:
        listed.append(url)
        self._report(event, url, "")


async def _always(url: URL) -> str:
    return ""


def _twins(url: str) -> set[str]:
    """The addresses that the page of a Markdown file may have."""
    stem = url.removesuffix(".md")
    if stem == url:
        return {url}
    folder = re.sub(r"/index(?:\.html)?$", "/", stem)
    return {url, stem, f"{stem}.html", f"{stem}/", folder, folder.rstrip("/")}


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _in_utf8(response: Response) -> bytes:
    """The page in UTF-8 if only the header states another encoding, which the folder does not keep."""
    if not _ENCODING.fullmatch(response.charset):
        return response.body
    return response.body.decode(response.charset, "replace").encode()
