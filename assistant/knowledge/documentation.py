"""The documentation for the application: brought up to date when it starts, and searched in threads.

A separate process, `python -m assistant.knowledge build`, reads the documentation, so that reading neither
slows replies nor, if it crashes, harms the application. The search is imported late, at the first question.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import json
import logging
import os
import platform
import sqlite3
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from assistant.knowledge.passage import Passage, SearchResult

if TYPE_CHECKING:  # imported late, in the thread that searches
    from assistant.knowledge.index import Index
    from assistant.knowledge.search.search import RecentSearches

T = TypeVar("T")

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
SEARCH_THREADS = 2  # each has its own connection to the index
FIRST_TIME_SECONDS = 60.0  # how long a question waits for the first reading of the standard library
LONGEST_LINE = 1 << 16  # bytes of a line that the reading process prints

# The reason names files, so only the log has it.
SEE_LOG = "The documentation on this machine cannot be read. The application's log says why."


class DocumentationUnreadable(Exception):
    """The documentation cannot be searched; the text says why."""


class DocumentationState(enum.StrEnum):
    OFF = "off"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DocumentationStatus:
    """The progress of reading: `done` of `total` units are read, and the index has this many `passages`.
    `detail` says, for people, what could not be read, even if the rest is ready."""

    state: DocumentationState
    passages: int = 0
    done: int = 0
    total: int = 0
    detail: str | None = None


@contextlib.asynccontextmanager
async def knowledge_process(command: str, *arguments: str, **streams: Any) -> AsyncIterator[Process]:
    """Run a command of `python -m assistant.knowledge` in a process that ends with the block, and also when
    this process ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "assistant.knowledge", command, "--exit-with-stdin", *arguments),
        stdin=asyncio.subprocess.PIPE,  # unused; when this process ends, it closes and the other ends
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which ends the other
        **streams,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # what is written stays consistent, and the next run continues
            await process.wait()


@dataclass(frozen=True, slots=True)
class _Opened:
    """The index as one thread has opened it."""

    index: Index
    searches: RecentSearches


class Documentation:
    """The index in the file `path`, which `python -m assistant.knowledge build` makes with `arguments`.
    Without a path the state is `off`, and a search finds nothing.

    Those that share `reading` are read one after the other. `version` names what is read.
    """

    def __init__(
        self,
        path: Path | None,
        arguments: Sequence[str] = (),
        *,
        threads: int = SEARCH_THREADS,
        reading: asyncio.Semaphore | None = None,
        version: str | None = f"Python {platform.python_version()}",
    ) -> None:
        self._path = path
        self._arguments = list(arguments)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="documentation")
        self._thread_local = threading.local()
        self._changed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._may_read = reading or contextlib.nullcontext()
        self._looking = 0  # look-ups that run or wait
        self.is_searchable = False  # whether a search need not wait
        self.status = DocumentationStatus(
            DocumentationState.OFF if path is None else DocumentationState.BUILDING
        )
        self.version = version

    @property
    def can_answer(self) -> bool:
        """Whether a search will have a result, though it may have to wait for it."""
        return self.status.state in (DocumentationState.BUILDING, DocumentationState.READY)

    async def start(self) -> None:
        """Begin to read what has changed, without waiting for the end."""
        if self._path is not None:
            self._reading = asyncio.create_task(self._read())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is read and nobody searches."""
        return not self._looking and (self._reading is None or self._reading.done())

    async def wait_until_read(self) -> None:
        """Return when the reading process has ended."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def retire(self) -> None:
        """Stop reading, and close it when the look-ups that have begun are done. None may begin any more."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await self._end_reading()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._looking)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._close_index)
        await self.close()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def search(self, question: str, *, previous: Sequence[str] = (), limit: int = 4) -> SearchResult:
        """The passages that answer a question; `previous` are the questions before it, oldest first. As all
        look-ups, waits until the standard library has been read, and raises `DocumentationUnreadable`."""
        earlier = tuple(previous)
        return await self._look_up(
            lambda opened: opened.searches.search(question, previous=earlier, limit=limit), SearchResult()
        )

    async def passages_named(self, name: str) -> list[Passage]:
        """The passages with this name; if there are none, those whose dotted names end with it, in any case,
        the most used first."""
        return await self._look_up(
            lambda opened: [hit.passage for hit in opened.index.named(name) or opened.index.ending(name)], []
        )

    async def names_like(self, name: str) -> list[str]:
        """The names that are spelled most like one that does not exist, most similar first."""
        return await self._look_up(lambda opened: opened.index.similar_names(name), [])

    async def covers(self) -> list[str]:
        """What has been read, with versions: Python, packages and folders of documentation."""
        return await self._look_up(lambda opened: opened.index.covers(), [])

    async def _look_up(self, look: Callable[[_Opened], T], nothing: T) -> T:
        """Look into the index, in one of the threads; `nothing` if there is no documentation."""
        self._looking += 1
        try:
            return await self._look_up_when_read(look, nothing)
        finally:
            self._looking -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _look_up_when_read(self, look: Callable[[_Opened], T], nothing: T) -> T:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TIME_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self.is_searchable or not self.can_answer)
        if self.status.state is DocumentationState.OFF:
            return nothing
        if not self.is_searchable:
            raise DocumentationUnreadable(
                self.status.detail or "The documentation on this machine is still being read. Ask again soon."
            )
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, look)

    def _in_thread(self, look: Callable[[_Opened], T]) -> T:
        from assistant.knowledge.index import Index, IndexFailed
        from assistant.knowledge.search.search import RecentSearches

        opened: _Opened | None = getattr(self._thread_local, "opened", None)
        try:
            if opened is None:
                assert self._path is not None
                index = Index(self._path)
                opened = self._thread_local.opened = _Opened(index, RecentSearches(index))
            return look(opened)
        except (IndexFailed, sqlite3.Error) as error:
            self._thread_local.opened = None  # the next search opens the index again
            log.error("the documentation cannot be searched: %s", error)
            raise DocumentationUnreadable(SEE_LOG) from error

    def _close_index(self) -> None:
        """Close the index that this thread has opened."""
        if (opened := getattr(self._thread_local, "opened", None)) is not None:
            opened.index.close()
            self._thread_local.opened = None

    async def _read(self) -> None:
        """Run the reading process. However it ends, no search waits for it afterwards."""
        try:
            async with self._may_read:
                code = await self._run_process()
        except Exception:  # nothing awaits this task, so an exception would be lost
            log.exception("the process that reads the documentation could not be run")
            await self._end_reading()
            return
        if self.status.state is DocumentationState.BUILDING:
            log.error("the documentation could not be read: the process ended with code %s", code)
            await self._end_reading()

    async def _run_process(self) -> int:
        """Run the reading process and follow its reports. Returns its exit code."""
        assert self._path is not None
        build = ("build", "--into", str(self._path), *self._arguments)
        async with knowledge_process(*build, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                await self._read_report(line)
            return await process.wait()

    async def _read_report(self, line: bytes) -> None:
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            report = None
        if not isinstance(report, dict):  # a module of the library may print when it is imported
            log.warning("documentation: %s", line.decode("utf-8", "replace").rstrip())
        elif "warning" in report:
            log.warning("documentation: %s", report["warning"])
        elif report.get("state") == DocumentationState.FAILED:
            log.error("documentation: %s", report.get("detail"))
            await self._end_reading()
        else:
            counts = {
                name: report[name] for name in ("passages", "done", "total", "detail") if name in report
            }
            status = dataclasses.replace(self.status, **counts)
            if report.get("state") == DocumentationState.READY:
                status = dataclasses.replace(status, state=DocumentationState.READY)
            # Without the library, an index is searchable before anything is in it.
            await self._change(status, is_searchable=bool(report.get("searchable") and status.passages))

    async def _end_reading(self) -> None:
        """Nothing more will be read. An index that an earlier start has made can still be searched."""
        if self.is_searchable:
            status = dataclasses.replace(self.status, state=DocumentationState.READY)
        else:
            status = dataclasses.replace(self.status, state=DocumentationState.FAILED, detail=SEE_LOG)
        await self._change(status)

    async def _change(self, status: DocumentationStatus, *, is_searchable: bool = False) -> None:
        async with self._changed:
            self.status = status
            self.is_searchable = (
                self.is_searchable or is_searchable or status.state is DocumentationState.READY
            )
            self._changed.notify_all()
