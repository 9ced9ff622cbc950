"""The folder of the pages that were fetched from a site: a file for each page, and `.crawl.json`, which says
where each file comes from and what tells whether the page has changed.

Each file is written in one step, so a fetch that is killed leaves whole files. Until a fetch ends, its list
is `.crawl.part.json`, so that whoever watches `.crawl.json` does not read the folder again and again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from yarl import URL

from assistant.knowledge.crawling.fetcher import Clock, Response
from assistant.knowledge.reading.addresses import CRAWL_FILE
from assistant.knowledge.reading.folders import FOREIGN_FOLDERS, SUFFIXES

PART_FILE = ".crawl.part.json"
SAVE_EVERY = 20  # pages
RESUME_SECONDS = 24 * 3600.0  # how long after its start a fetch that was killed is continued
LONGEST_NAME = 120  # bytes of the name of a file or folder

_SUFFIXES = {".html": (".html", ".htm", ".xhtml"), ".md": (".md", ".markdown"), ".txt": (".txt",)}
_UNSAFE = frozenset('/\\:*?"<>|~%')  # in the name of a file


class CrawlFailed(Exception):
    """Nothing was fetched. The message is a sentence for people."""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Only one fetch at a time works on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # on Windows, two fetches only repeat each other's work
        yield
        return
    with (folder / ".crawl.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CrawlFailed(f"Another fetch into {folder} is running.") from error
        yield


@dataclass(slots=True)
class Page:
    """A page in the folder: its file below the folder, and what tells whether it has changed."""

    file: str
    kind: str  # ".html", ".md" or ".txt"
    digest: str
    etag: str = ""
    modified: str = ""
    run: float = 0.0  # the fetch that last saw it


class PageFolder:
    """The folder of pages, with its `.crawl.json`."""

    def __init__(self, folder: Path, address: str, now: Clock) -> None:
        self._folder = folder
        self._address = address
        self.pages: dict[str, Page] = {}
        self.run = now()
        self.is_finished = False
        self._unsaved = 0
        known = next((name for name in (PART_FILE, CRAWL_FILE) if (folder / name).exists()), "")
        if not known and any(not name.startswith(".") for name in os.listdir(folder)):
            raise CrawlFailed(f"{folder} holds other files. Choose an empty folder.")
        # If the list is damaged, the pages are fetched again into the same files.
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            self._load(json.loads((folder / (known or CRAWL_FILE)).read_bytes()), self.run)
        self._owners = {page.file.casefold(): url for url, page in self.pages.items()}
        self._save(PART_FILE)  # from now on, the folder is known to be one of pages

    def _load(self, data: Any, now: float) -> None:
        address, started, finished = data["address"], float(data["run"]), bool(data["is_finished"])
        pages = {str(URL(url, encoded=True)): Page(**page) for url, page in data["pages"].items()}
        pages = {url: page for url, page in pages.items() if self._is_inside(page.file)}
        if pages and address != self._address:
            raise CrawlFailed(f"{self._folder} holds the pages of {address}. Choose another folder.")
        if not finished and 0 <= now - started < RESUME_SECONDS:
            self.run = started
        self.pages = pages

    def _is_inside(self, file: str) -> bool:
        top = os.path.realpath(self._folder)
        return os.path.realpath(os.path.join(top, file)).startswith(os.path.join(top, ""))

    def done(self, url: str) -> Page | None:
        """The page, if the fetch that continues here has seen it before it was killed."""
        page = self.pages.get(url)
        return page if page is not None and page.run == self.run else None

    def conditions(self, url: str) -> dict[str, str]:
        """What makes a request conditional; nothing if the file is not there."""
        page = self.pages.get(url)
        if page is None or not (self._folder / page.file).is_file():
            return {}
        return {"etag": page.etag, "modified": page.modified}

    def body(self, url: str) -> bytes:
        try:
            return (self._folder / self.pages[url].file).read_bytes()
        except OSError:
            return b""

    def seen(self, url: str) -> Page:
        self.pages[url].run = self.run
        self._saved_later()
        return self.pages[url]

    def put(self, url: str, kind: str, body: bytes, response: Response, top: str) -> bool:
        """Keep a page of the site whose pages stand below the path `top`. Returns whether it is new or has
        changed."""
        page = self.pages.get(url)
        file = place_of(URL(url, encoded=True), top, kind)
        if self._owners.get(file.casefold(), url) != url:
            stem, _, suffix = file.rpartition(".")
            file = f"{stem}~{_short_digest(url)}.{suffix}"
        digest = hashlib.sha256(body).hexdigest()
        if page is not None and page.file != file:
            self.remove(url)
            page = None
        changed = page is None or page.digest != digest or not (self._folder / file).is_file()
        if changed:
            self._write(self._folder / file, body)
        self.pages[url] = Page(file, kind, digest, response.etag, response.modified, self.run)
        self._owners[file.casefold()] = url
        self._saved_later()
        return changed

    def remove(self, url: str) -> None:
        page = self.pages.pop(url)
        self._owners.pop(page.file.casefold(), None)
        path = self._folder / page.file
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the first folder that holds something else
            for parent in path.relative_to(self._folder).parents[:-1]:
                (self._folder / parent).rmdir()
        self._saved_later()

    def _saved_later(self) -> None:
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self._save(PART_FILE)

    def save(self) -> None:
        """Save the list at the end of a fetch."""
        self._save(CRAWL_FILE)
        (self._folder / PART_FILE).unlink(missing_ok=True)

    def _save(self, name: str) -> None:
        self._unsaved = 0
        pages = {url: asdict(page) for url, page in self.pages.items()}
        data = {"address": self._address, "run": self.run, "is_finished": self.is_finished, "pages": pages}
        self._write(self._folder / name, json.dumps(data, indent=1).encode())

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file in one step, so that no reader sees a part of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self._folder / ".crawl.new"
        new.write_bytes(data)
        new.replace(path)


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def place_of(url: URL, top: str, kind: str) -> str:
    """The file of a page below the folder, by its address. Two addresses may get the same one."""
    path = url.raw_path
    inner = path.removeprefix(top) if path.startswith(top) else ""
    *folders, name = map(_file_name, inner.split("/"))
    name = name or "index"
    if url.raw_query_string:
        name = f"{name}~{_short_digest(url.raw_query_string)}"
    if not name.lower().endswith(_SUFFIXES[kind]):
        name += kind
    return "/".join([*map(_folder_name, folders), name])


def _file_name(quoted: str) -> str:
    text = unquote(quoted)
    shown = "".join(
        char if char.isprintable() and char not in _UNSAFE else f"%{ord(char):02X}" for char in text
    )
    if shown.startswith("."):
        shown = f"%2E{shown[1:]}"
    if len(shown.encode()) > LONGEST_NAME:
        shown = f"{shown[: LONGEST_NAME // 4]}~{_short_digest(quoted)}"
    return shown


def _folder_name(name: str) -> str:
    """A name under which the readers look into the folder, and that no file has."""
    is_like_a_file = os.path.splitext(name)[1].lower() in SUFFIXES
    is_foreign = name.lower() in FOREIGN_FOLDERS or name.endswith((".egg-info", ".dist-info"))
    return f"{name}-" if not name or is_like_a_file or is_foreign else name
