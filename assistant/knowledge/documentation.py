"""The documentation on this machine, as the application asks it: kept up to date, searched in threads.

Knows when it can be asked and how far the reading has come. The reading itself is a process of its own
(`python -m assistant.knowledge build`), so that it costs the answers nothing and a crash of it nothing but
itself. Refuses to know how documentation is read, kept and ranked; those parts are imported late.
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.knowledge.passage import Found

if TYPE_CHECKING:  # imported late, in the thread that searches
    from assistant.knowledge.search import RecentSearches

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
SEARCHERS = 2  # threads, each with a connection of its own
FIRST_TIME_SECONDS = 60.0  # how long a question waits for what is read at the first start
LONGEST_LINE = 1 << 16  # bytes of one line of the reading process

UNREADABLE = "The documentation on this machine cannot be read"
SEE_LOG = f"{UNREADABLE}; the application's log says why."  # which names files, and people are told of none


class DocumentationUnreadable(Exception):
    """The documentation cannot be asked; the text says why."""


class DocumentationState(enum.StrEnum):
    OFF = "off"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DocumentationStatus:
    """How far the reading has come: `done` of `total` files, of which `passages` are in the index."""

    state: DocumentationState
    passages: int = 0
    done: int = 0
    total: int = 0
    detail: str | None = None


class Documentation:
    """The index in the file `path`, which `python -m assistant.knowledge build` with `arguments` makes.

    Without a path there is no documentation; it is then `off`, and nothing is ever found.
    """

    def __init__(self, path: Path | None, arguments: Sequence[str] = ()) -> None:
        self._path = path
        self._arguments = list(arguments)
        self._threads = ThreadPoolExecutor(SEARCHERS, thread_name_prefix="documentation")
        self._of_thread = threading.local()
        self._changed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self.is_searchable = False  # whether a question gets its answer without waiting
        self.status = DocumentationStatus(
            DocumentationState.OFF if path is None else DocumentationState.BUILDING
        )
        self.version = f"Python {platform.python_version()}"

    @property
    def can_answer(self) -> bool:
        """Whether questions can be asked, though the first of them may have to wait."""
        return self.status.state in (DocumentationState.BUILDING, DocumentationState.READY)

    async def start(self) -> None:
        """Begin to read what has changed; does not wait for it."""
        if self._path is not None:
            self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def search(self, question: str, *, previous: Sequence[str] = (), limit: int = 4) -> Found:
        """What the documentation has on a question; `previous` are those before it, oldest first.

        Waits while too little has been read. Raises `DocumentationUnreadable`.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TIME_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self.is_searchable or not self.can_answer)
        if self.status.state is DocumentationState.OFF:
            return Found()
        if not self.is_searchable:
            raise DocumentationUnreadable(
                self.status.detail or f"{UNREADABLE} yet: it is still being read. Ask again in a moment."
            )
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._search, question, tuple(previous), limit
        )

    def _search(self, question: str, previous: Sequence[str], limit: int) -> Found:
        """Runs in one of the threads."""
        from assistant.knowledge.index import IndexFailed

        try:
            return self._searches().search(question, previous=previous, limit=limit)
        except (IndexFailed, sqlite3.Error) as error:
            self._of_thread.searches = None  # the next question opens it again
            log.error("the documentation cannot be searched: %s", error)
            raise DocumentationUnreadable(SEE_LOG) from error

    def _searches(self) -> RecentSearches:
        from assistant.knowledge.index import Index
        from assistant.knowledge.search import RecentSearches

        searches: RecentSearches | None = getattr(self._of_thread, "searches", None)
        if searches is None:
            assert self._path is not None
            searches = self._of_thread.searches = RecentSearches(Index(self._path))
        return searches

    async def _read(self) -> None:
        """Have all read by a process of its own; whatever ends that, nobody waits for it any longer."""
        try:
            code = await self._run()
        except Exception:  # a task that nobody waits for would end unheard
            log.exception("the process that reads the documentation could not be run")
            await self._ended()
            return
        if self.status.state is DocumentationState.BUILDING:
            log.error("the documentation could not be read: the process ended with code %s", code)
            await self._ended()

    async def _run(self) -> int:
        """Run the reading process to its end, and keep the status by what it says; gives its exit code."""
        assert self._path is not None
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "assistant.knowledge", "build", "--into", str(self._path), "--exit-with-stdin"),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,  # never written to: it ends when we do, however we end
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then ends the child
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                await self._hear(line)
            return await process.wait()
        finally:
            process.stdin.close()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()  # what is in the index is whole, and the next start goes on from there
                await process.wait()

    async def _hear(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):  # what a module of the library prints when it is imported
            log.warning("documentation: %s", line.decode("utf-8", "replace").rstrip())
        elif "warning" in told:
            log.warning("documentation: %s", told["warning"])
        elif told.get("state") == DocumentationState.FAILED:
            log.error("documentation: %s", told.get("detail"))
            await self._ended()
        else:
            known = ("passages", "done", "total")
            status = dataclasses.replace(self.status, **{name: told[name] for name in known if name in told})
            if told.get("state") == DocumentationState.READY:
                status = dataclasses.replace(status, state=DocumentationState.READY)
            await self._change(status, is_searchable=bool(told.get("searchable")))

    async def _ended(self) -> None:
        """No more will be read. What an earlier start has read is good enough."""
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
