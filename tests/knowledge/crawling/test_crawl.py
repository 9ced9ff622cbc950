"""Fetching a site from a real server on this machine, with a clock, pauses and names of our own."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from assistant.knowledge.__main__ import main
from assistant.knowledge.crawling import fetcher
from assistant.knowledge.crawling.crawl import Crawled, Limits, crawl
from assistant.knowledge.crawling.fetcher import Response
from assistant.knowledge.crawling.page_folder import PART_FILE, SAVE_EVERY, CrawlFailed, PageFolder
from assistant.knowledge.reading.folders import NOT_DOCUMENTATION, files_of, read_file

HOST = "docs.test"
Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


class Web:
    """A site. `pages` holds what each path answers: a text of HTML, an answer, or what makes one from the
    headers of the request."""

    def __init__(self) -> None:
        self.pages: dict[str, str | Answer | Callable[[Any], Answer]] = {}
        self.requests: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append(self.path)
                answer = web.pages.get(self.path, (404, {}, b""))
                if callable(answer):
                    answer = answer(self.headers)
                if isinstance(answer, str):
                    answer = (200, {"Content-Type": "text/html; charset=utf-8"}, answer.encode())
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for piece in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(piece)
                except OSError:  # the reader has had enough
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.port = self.server.server_address[1]
        self.address = f"http://{HOST}:{self.port}"

    def text(self, content_type: str, text: str | bytes, **headers: str) -> Answer:
        body = text.encode() if isinstance(text, str) else text
        return 200, {"Content-Type": content_type, **headers}, body

    def list_in_sitemap(self, *paths: str) -> None:
        """List these pages, and as many others that robots.txt forbids as make links irrelevant."""
        others = [f"/never/{number}" for number in range(10)]
        self.pages["/robots.txt"] = self.text("text/plain", "User-agent: *\nDisallow: /never/")
        locations = "".join(f"<url><loc>{self.address}{path}</loc></url>" for path in [*paths, *others])
        self.pages["/sitemap.xml"] = self.text("application/xml", f"<urlset>{locations}</urlset>")


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def web(server: Web) -> Web:
    server.pages, server.requests = {}, []
    return server


class Time:
    """A clock that goes on by `step` whenever somebody looks, and by each pause."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 1000.0
        self.step = step
        self.pauses: list[float] = []

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


async def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def fetch(address: str, folder: Path, *, clock: Time | None = None, **how: Any) -> Crawled:
    clock = clock or Time()
    how = {"private_hosts": [HOST], "resolve": here, "limits": Limits(pause=0.5, seconds=1e6), **how}
    return crawl(address, folder, clock=clock, sleep=clock.sleep, **how)


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def paths(web: Web, addresses: Sequence[str]) -> list[str]:
    return [address.removeprefix(web.address) for address in addresses]


def reasons(web: Web, crawled: Crawled) -> dict[str, str]:
    found = {path.removeprefix(web.address): reason for path, reason in crawled.skipped.items()}
    return {path: reason for path, reason in found.items() if not path.startswith("/never/")}


# What is fetched


def test_a_passage_leads_to_the_address_and_the_anchor_of_its_page(web: Web, tmp_path: Path) -> None:
    section = '<h1 id="top">{0}</h1><p>About {0}.</p><h2 id="more">More</h2><p>More of {0}.</p>'
    listed = {
        "/docs/guide/": "guide",
        "/docs/guide": "bare guide",  # another page, as far as anybody can tell
        "/docs/guide.html": "file",
        "/docs/v1.2": "version",
        "/docs/page.php?id=3": "query",
        "/docs/page.php?id=4": "other query",
        "/docs/a%20b/%C3%A4.html": "letters",
        "/docs/venv/install.html": "a folder that is left out elsewhere",
        "/docs/CON:/x*.html": "a name that no file may have",
        "/docs/guide.html/inner": "below a file",
        "/docs/.hidden/x": "hidden",
    }
    web.pages = {path: section.format(name) for path, name in listed.items()}
    web.pages["/docs/"] = section.format("start")
    web.list_in_sitemap("/docs/", *listed, "/blog/1")
    fetch(f"{web.address}/docs/?utm_source=x#part", tmp_path / "pages")
    found = {}
    for file in files_of(tmp_path / "pages"):
        for passage in read_file(file, tmp_path / "pages", base_url="https://other.example"):
            found[passage.url.removeprefix(web.address)] = passage.text
    expected = {}
    for path, name in {"/docs/": "start", **listed}.items():
        expected[f"{path}#top"] = f"About {name}."
        expected[f"{path}#more"] = f"More of {name}."
    assert found == expected


segments = st.one_of(
    st.sampled_from(
        ["", ".", "index.html", "venv", "node_modules", "a.md", "x.egg-info", "toc", "%2F", "%00", "~"]
    ),
    st.text(min_size=1, max_size=200).map(lambda text: URL.build(path=f"/{text}").raw_path.strip("/")),
)


@settings(deadline=None, max_examples=30)
@example([(["LICENSE"], ".html"), (["toc"], ".html"), (["toc"], ".md")])
@given(
    st.lists(st.tuples(st.lists(segments, max_size=4), st.sampled_from([".html", ".md", ".txt"])), max_size=8)
)
def test_each_address_has_one_file_that_leads_back(
    tmp_path_factory: pytest.TempPathFactory, pages: list[tuple[list[str], str]]
) -> None:
    folder = tmp_path_factory.mktemp("pages")
    store = PageFolder(folder, "http://x/", lambda: 1.0)
    put = {}
    for parts, kind in pages:
        url = str(URL("http://x/docs/" + "/".join(parts), encoded=True))
        if url not in put:
            put[url] = kind
            store.put(url, kind, url.encode(), Response(URL(url), 200, "", "", "", "", "", b""), "/docs/")
    store.save()
    again = PageFolder(folder, "http://x/", lambda: 2.0)
    assert {url: again.body(url) for url in again.pages} == {url: url.encode() for url in put}
    files = [folder / page.file for page in again.pages.values()]
    assert len({str(file).casefold() for file in files}) == len(files)
    for url, page in again.pages.items():
        assert {each.url for each in read_file(folder / page.file, folder)} <= {url}
    left_out = {file for file in files if file not in set(files_of(folder))}
    assert all(NOT_DOCUMENTATION.fullmatch(file.name) for file in left_out)
    for url in list(again.pages):
        again.remove(url)
    assert [name for name in os.listdir(folder) if not name.startswith(".")] == []


def test_without_a_list_the_links_below_the_address_are_followed(web: Web, tmp_path: Path) -> None:
    web.pages = {
        "/": '<a href="/en/latest/">',  # leads, as on Read the Docs, to one version
        "/en/latest/": '<p>Start</p><a href="a.html#x"><a href=b/?utm_source=y&amp;q=1>'
        '<a href="/en/v1/old.html">'
        '<a href="https://elsewhere.example/"><a href="mailto:a@b"><a href="//["><a href="logo.png">'
        '<a rel="nofollow" href="c.html"><a href="_sources/a.rst.txt"><a href="genindex.html">',
        "/en/latest/a.html": '<base href="/en/latest/deep/"><p>A</p><a href="d.html">',
        "/en/latest/b/?q=1": "<p>B</p>",
        "/en/latest/deep/d.html": '<p>D</p><meta name="robots" content="nofollow"><a href="e.html">',
    }
    web.pages["/"] = (302, {"Location": "/en/latest/"}, b"")
    crawled = fetch(web.address, tmp_path)
    assert paths(web, crawled.fetched) == [
        "/en/latest/",
        "/en/latest/a.html",
        "/en/latest/b/?q=1",
        "/en/latest/deep/d.html",
    ]
    assert crawled.skipped == {}
    assert "index.html" in files(tmp_path)


def test_llms_txt_adds_the_markdown_pages_that_no_page_of_html_has(web: Web, tmp_path: Path) -> None:
    web.list_in_sitemap("/guide")
    web.pages |= {
        "/": "<p>Start</p>",
        "/guide": "<p>Guide</p>",
        "/api.md": web.text("text/markdown", "# API\n\nText of the API.\n"),
        "/llms.txt": web.text(
            "text/plain", "# Docs\n- [Guide](/guide.md): x\n- [API](<api.md>)\n- [No](javascript:1)\n"
        ),
    }
    fetch(web.address, tmp_path)
    assert sorted(files(tmp_path)) == ["api.md", "guide.html", "index.html"]
    (passage,) = read_file(tmp_path / "api.md", tmp_path, base_url=web.address)
    assert (passage.name, passage.text, passage.url) == ("API", "Text of the API.", f"{web.address}/api.md")


def test_sitemaps_lead_to_others_and_may_be_packed(web: Web, tmp_path: Path) -> None:
    inner = f"<urlset><url><loc> {web.address}/a </loc></url></urlset>".encode()
    web.pages = {
        "/": "<p>Start</p>",
        "/a": "<p>A</p>",
        "/b": "<p>B</p>",
        "/robots.txt": web.text(
            "text/plain", f"Sitemap: {web.address}/maps.xml\nSitemap: http://evil.example/s.xml"
        ),
        "/maps.xml": web.text(
            "text/xml",
            '<?xml version="1.0"?><s:sitemapindex xmlns:s="http://www.sitemaps.org/schemas/sitemap/0.9">'
            f"<s:sitemap><s:loc>{web.address}/a.xml.gz</s:loc></s:sitemap>"
            f"<s:sitemap><s:loc>{web.address}/maps.xml</s:loc></s:sitemap>"  # itself
            f"<s:sitemap><s:loc>{web.address}/b.txt</s:loc></s:sitemap></s:sitemapindex>",
        ),
        "/a.xml.gz": web.text("application/gzip", gzip.compress(inner)),
        "/b.txt": web.text("text/plain", f"{web.address}/b\nnot an address\n"),
    }
    crawled = fetch(web.address, tmp_path)
    assert paths(web, crawled.fetched) == ["/", "/a", "/b"]
    assert reasons(web, crawled) == {"http://evil.example/s.xml": "it leads out of the site, to evil.example"}


def test_encodings_that_only_the_header_states_are_kept(web: Web, tmp_path: Path) -> None:
    web.pages["/"] = web.text("text/html; charset=windows-1251", "<p>Привет</p>".encode("cp1251"))
    fetch(web.address, tmp_path)
    assert files(tmp_path) == {"index.html": "<p>Привет</p>"}


# What is skipped


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


BOMB = gzip.compress(b"x" * (4 << 20))
SKIPPED: dict[str, tuple[Answer, str]] = {
    "out of the site": (
        (301, {"Location": "https://evil.example/"}, b""),
        "leads out of the site, to evil.example",
    ),
    "metadata": (
        (302, {"Location": "http://169.254.169.254/latest"}, b""),
        "leads out of the site, to 169.254",
    ),
    "a private port": ((302, {"Location": f"http://{HOST}:22/"}, b""), "leads to port 22"),
    "a password": ((302, {"Location": f"http://a:b@{HOST}/"}, b""), "holds a user name or a password"),
    "a file": ((302, {"Location": "file:///etc/passwd"}, b""), "not an address of http or https"),
    "no address": ((302, {"Location": "http://[::"}, b""), "what is no address"),
    "nothing": ((302, {}, b""), "too many redirects"),
    "above": ((302, {"Location": "/other"}, b""), "is no page below the address"),
    "what is forbidden": ((302, {"Location": "/docs/secret"}, b""), "robots.txt forbids it"),
    "huge": ((200, {"Content-Type": "text/html"}, b"x" * (1 << 20) + b"x"), "larger than 1 MiB"),
    "endless": ((200, {"Content-Type": "text/html"}, endless()), "larger than 1 MiB"),
    "a bomb": ((200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, BOMB), "larger than 1 MiB"),
    "cut": (
        (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, BOMB[:99]),
        "packed, and incomplete",
    ),
    "broken": (
        (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, b"abc" * 9),
        "packed, and broken",
    ),
    "brotli": ((200, {"Content-Type": "text/html", "Content-Encoding": "br"}, b"abc"), "not asked for"),
    "an image": ((200, {"Content-Type": "image/png"}, b"\x89PNG"), "no page, but image/png"),
    "no type": ((200, {}, b"<p>x</p>"), "no page, but application/octet-stream"),
    "an error": ((500, {}, b""), "answers 500"),
    "a login": ((401, {}, b""), "answers 401"),
    "noindex": (
        (200, {"Content-Type": "text/html", "X-Robots-Tag": "noindex"}, b"<p>x</p>"),
        "not to be indexed",
    ),
    "the same": ((200, {"Content-Type": "text/html"}, b"<p>Start</p>"), "is the same as"),
    "many headers": ((200, {f"X-{number}": "x" for number in range(500)}, b""), "answer is broken"),
    "a long header": ((200, {"X": "x" * 100_000}, b""), "answer is broken"),
}


@pytest.mark.parametrize(("answer", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_what_is_no_page_of_the_site_is_skipped(
    web: Web, tmp_path: Path, answer: Answer, reason: str
) -> None:
    web.pages = {
        "/docs/": "<p>Start</p>",
        "/docs/it": answer,
        "/docs/next": "<p>Next</p>",
        "/other": "<p>Other</p>",
    }
    web.list_in_sitemap("/docs/it", "/docs/next")
    web.pages["/robots.txt"] = web.text(
        "text/plain", "User-agent: *\nDisallow: /never/\nDisallow: /docs/secret"
    )
    crawled = fetch(f"{web.address}/docs/", tmp_path, limits=Limits(page_bytes=1 << 20))
    assert paths(web, crawled.fetched) == ["/docs/", "/docs/next"]
    assert list(reasons(web, crawled)) == ["/docs/it"]
    assert reason in reasons(web, crawled)["/docs/it"]
    assert sorted(files(tmp_path)) == ["index.html", "next.html"]


def test_a_page_that_drips_is_given_up(web: Web, tmp_path: Path) -> None:
    web.pages["/"] = (200, {"Content-Type": "text/html"}, (b"x" for _ in itertools.count()))
    with pytest.raises(CrawlFailed, match="too slowly"):
        fetch(web.address, tmp_path, clock=Time(step=1.0), limits=Limits(page_seconds=30.0))


XML_BOMBS = {
    "laughs": '<!DOCTYPE x [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><urlset><url><loc>&b;</loc></url></urlset>',
    "a file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><urlset><url><loc>&a;</loc></url></urlset>',
    "a document type": '<!DOCTYPE x SYSTEM "http://evil.example/x.dtd"><urlset/>',
    "no XML": "<urlset",
    "a packed bomb": gzip.compress(b" " * (17 << 20)),
}


@pytest.mark.parametrize("text", XML_BOMBS.values(), ids=XML_BOMBS)
def test_a_hostile_sitemap_is_refused_and_the_links_are_followed(
    web: Web, tmp_path: Path, text: str | bytes
) -> None:
    web.pages = {
        "/": '<p>Start</p><a href="a">',
        "/a": "<p>A</p>",
        "/sitemap.xml": web.text("text/xml", text),
    }
    crawled = fetch(web.address, tmp_path)
    assert paths(web, crawled.fetched) == ["/", "/a"]
    assert list(reasons(web, crawled)) == ["/sitemap.xml"]


def test_what_robots_txt_forbids_is_not_asked_for(web: Web, tmp_path: Path) -> None:
    robots = (
        "User-agent: *\nDisallow: /\n\nUser-agent: TechAssistant\nDisallow: /private\nAllow: /private/but\n"
    )
    web.pages = {
        "/robots.txt": web.text("text/plain", robots),
        "/": '<p>Start</p><a href="private/a"><a href="private/but/b">',
        "/private/but/b": "<p>B</p>",
    }
    crawled = fetch(web.address, tmp_path)
    assert paths(web, crawled.fetched) == ["/", "/private/but/b"]
    assert reasons(web, crawled) == {"/private/a": "the site's robots.txt forbids it"}
    assert "/private/a" not in web.requests
    web.pages["/robots.txt"] = (503, {}, b"")
    with pytest.raises(CrawlFailed, match="cannot be read, so nothing is fetched"):
        fetch(web.address, tmp_path)


# Names and addresses


@pytest.mark.parametrize(
    ("address", "answers"),
    [
        ("http://docs.test/", ["10.0.0.1"]),
        ("http://docs.test/", ["93.184.215.14", "::1"]),  # one of several is enough
        ("http://docs.test/", ["not an address"]),
        ("http://127.0.0.1/", []),
        ("http://[::ffff:10.0.0.1]/", []),
        ("http://[fe80::1%25eth0]/", []),
        ("http://2130706433/", ["127.0.0.1"]),
        ("http://0x7f.1/", ["127.0.0.1"]),
        ("http://１２７.0.0.1/", []),
        ("http://localhost./", ["127.0.0.1"]),
        ("http://user:secret@docs.test/", []),
        ("ftp://docs.test/", []),
        ("http:///docs", []),
        ("docs.test", []),
        ("http://[", []),
    ],
)
def test_a_private_address_is_refused(tmp_path: Path, address: str, answers: list[str]) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return answers

    with pytest.raises(CrawlFailed) as error:
        fetch(address, tmp_path, resolve=resolve, private_hosts=["intranet.test"])
    assert "secret" not in str(error.value)


def test_a_name_that_changes_its_address_leads_nowhere_else(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 stands for the public web here, and localhost's other addresses for a private network."""
    monkeypatch.setattr(fetcher, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.9:9")
    answers = itertools.chain([["127.0.0.1"]] * 3, itertools.repeat(["127.0.0.2"]))
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    web.pages = {"/": '<p>Start</p><a href="a">', "/a": "<p>A</p>"}
    crawled = fetch(web.address, tmp_path, resolve=resolve, private_hosts=[])
    assert web.requests == ["/robots.txt", "/", "/sitemap.xml"]  # a lookup for each, and no other connection
    assert set(asked) == {HOST}
    assert (
        reasons(web, crawled)["/a"] == f"{HOST} leads to 127.0.0.2, which is not an address of the public web"
    )


# The next fetch


def test_a_refresh_fetches_what_has_changed_and_removes_what_has_vanished(web: Web, tmp_path: Path) -> None:
    def with_etag(headers: Any) -> Answer:
        if headers["If-None-Match"] == '"1"':
            return 304, {}, b""
        return 200, {"Content-Type": "text/html", "ETag": '"1"'}, b"<p>Tagged</p>"

    def dated(headers: Any) -> Answer:
        if headers["If-Modified-Since"] == "Mon, 01 Jan 2024 00:00:00 GMT":
            return 304, {}, b""
        return (
            200,
            {"Content-Type": "text/html", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
            b"<p>Dated</p>",
        )

    names = ("tagged", "dated", "same", "changed", "gone", "broken", "moved", "hidden", "unlisted")
    web.pages = {"/": "<p>Start</p>"} | {f"/d/{name}": f"<p>{name}</p>" for name in names}
    web.pages |= {"/d/tagged": with_etag, "/d/dated": dated}
    web.list_in_sitemap(*(f"/d/{name}" for name in names))
    fetch(web.address, tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    web.list_in_sitemap(*(f"/d/{name}" for name in names[:-1]))
    web.pages |= {
        "/d/changed": "<p>new</p>",
        "/d/gone": (410, {}, b""),
        "/d/broken": (500, {}, b""),
        "/d/moved": (301, {"Location": "/d/here"}, b""),
        "/d/here": "<p>moved</p>",
        "/d/hidden": '<meta name="robots" content="noindex">',
    }
    crawled = fetch(web.address, tmp_path)
    assert paths(web, crawled.fetched) == ["/d/changed", "/d/here"]
    assert paths(web, crawled.unchanged) == ["/", "/d/tagged", "/d/dated", "/d/same", "/d/unlisted"]
    assert paths(web, crawled.removed) == ["/d/gone", "/d/moved", "/d/hidden"]
    assert reasons(web, crawled) == {
        "/d/broken": "the site answers 500",
        "/d/hidden": "it asks not to be indexed",
    }
    after = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    assert {name for name in before if after.get(name) != before[name]} == {
        "d/changed.html",
        "d/gone.html",
        "d/moved.html",
        "d/hidden.html",
    }
    web.pages["/"] = (404, {}, b"")  # a site in disorder takes nothing away
    with pytest.raises(CrawlFailed, match="answers 404"):
        fetch(web.address, tmp_path)
    assert files(tmp_path).keys() == after.keys()


def test_a_fetch_that_was_killed_continues(web: Web, tmp_path: Path) -> None:
    count = SAVE_EVERY + 10
    web.pages = {f"/{number}": f'<p>{number}</p><a href="/{number + 1}">' for number in range(count)}
    web.pages["/"] = '<p>Start</p><a href="/0">'
    killed = f"""
import os, sys
from pathlib import Path
from assistant.knowledge.crawling.crawl import Limits, crawl
async def here(host, port): return ["127.0.0.1"]
def report(event, address, reason):
    if address.endswith("/{SAVE_EVERY + 4}"): os._exit(9)
crawl({web.address!r}, Path({str(tmp_path)!r}), limits=Limits(pause=0), private_hosts=[{HOST!r}],
      report=report, resolve=here)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    web.requests.clear()
    fetch(web.address, tmp_path, now=lambda: json.loads((tmp_path / PART_FILE).read_bytes())["run"] + 60)
    times = Counter(web.requests)
    saved = SAVE_EVERY - 1  # and the address itself
    assert [times[f"/{number}"] for number in range(count)] == [0] * saved + [1] * (count - saved)
    assert len(files(tmp_path)) == count + 1
    web.requests.clear()
    fetch(web.address, tmp_path)  # this one was finished, so all pages are asked for again
    assert len([path for path in web.requests if path[1:].isdecimal()]) == count + 1  # the last leads to none


def test_only_a_folder_of_pages_is_written_to(web: Web, tmp_path: Path) -> None:
    web.pages["/"] = "<p>Start</p>"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("Mine")
    with pytest.raises(CrawlFailed, match="holds other files"):
        fetch(web.address, tmp_path / "mine")
    fetch(web.address, tmp_path / "pages")
    with pytest.raises(CrawlFailed, match="holds the pages of"):
        fetch(f"{web.address}/other/", tmp_path / "pages")
    # A list that names a file outside the folder removes nothing there.
    listed = tmp_path / "pages" / ".crawl.json"
    data = json.loads(listed.read_text())
    data["pages"][f"{web.address}/x"] = {"file": "../mine/thesis.txt", "kind": ".txt", "digest": ""}
    for text in (json.dumps(data), "{", "[]", '{"pages": {"http://[": 1}}'):
        listed.write_text(text)
        assert fetch(web.address, tmp_path / "pages").removed == []
        assert files(tmp_path) == {"mine/thesis.txt": "Mine", "pages/index.html": "<p>Start</p>"}


# Bounds


def test_requests_keep_the_pause_that_the_site_asks_for(web: Web, tmp_path: Path) -> None:
    answers = iter([(503, {"Retry-After": "7"}, b""), (429, {"Retry-After": "99999"}, b""), "<p>Late</p>"])
    web.pages = {
        "/robots.txt": web.text("text/plain", "User-agent: *\nCrawl-delay: 3600"),
        "/": '<p>Start</p><a href="late">',
    }

    def late(headers: Any) -> Answer:
        answer = next(answers)
        return web.text("text/html", answer) if isinstance(answer, str) else answer

    web.pages["/late"] = late
    clock = Time()
    crawled = fetch(web.address, tmp_path, clock=clock)
    assert paths(web, crawled.fetched) == ["/", "/late"]
    assert 7.0 in clock.pauses
    assert 60.0 in clock.pauses  # of 99999
    assert clock.pauses.count(10.0) == len(web.requests) - 3  # of 3600; the waits are pauses too
    assert [path for path in web.requests if path == "/late"] == ["/late"] * 3


@pytest.mark.parametrize(
    ("limits", "step", "reason", "most"),
    [
        (Limits(pages=5), 0.0, "more than 5 pages", 5),
        (Limits(all_bytes=2_000), 0.0, "larger than 2,000 bytes", 5),
        (Limits(seconds=30.0, page_seconds=1e6), 1.0, "longer than 30 seconds", 10),
    ],
)
def test_an_endless_site_ends(
    web: Web, tmp_path: Path, limits: Limits, step: float, reason: str, most: int
) -> None:
    class Endless(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            number = path.strip("/").count("/") + 1
            return (404, {}, b"") if "." in path else f'<p>{number * 100:>400}</p><a href="{path}x/">'

    web.pages = Endless()
    crawled = fetch(web.address, tmp_path, clock=Time(step), limits=limits)
    assert reason in crawled.stopped
    assert 1 <= len(files(tmp_path)) <= most


def test_a_site_that_answers_no_more_is_left_alone(web: Web, tmp_path: Path) -> None:
    web.pages["/"] = "<p>Start</p>" + "".join(f'<a href="/{number}">' for number in range(50))
    web.pages |= {f"/{number}": (500, {}, b"") for number in range(50)}
    crawled = fetch(web.address, tmp_path)
    assert crawled.stopped == "The site was not fetched in full: it does not answer any more."
    assert len([path for path in web.requests if path[1:].isdecimal()]) == 10


def test_the_command_says_what_it_did(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.pages["/"] = '<p>Start</p><a href="/no">'
    address, folder = f"http://localhost:{web.port}/", str(tmp_path / "pages")
    assert main(["fetch", address, folder]) == 1
    assert "is not an address of the public web" in capsys.readouterr().err
    assert main(["fetch", address, folder, "--allow-private-host", "localhost", "--pause", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"fetched  {address}",
        f"skipped  {address}no: the site answers 404",
        "1 fetched, 0 unchanged, 0 removed, 1 skipped.",
        f"Read the pages with: --docs {folder}={address}",
    ]
