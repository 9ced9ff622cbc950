"""A build: everything that is to be in the index is read by several processes and written by one.

Knows what has changed since it was read, in what order people need it, and how to go on when a reader fails.
Refuses to know formats (the readers do) and tables (the index does).

The standard library comes first, because any first question can be answered from it; then the folders of
documentation, then packages. What has been written is never read again, so a build that was killed goes on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.knowledge import packages, python_library
from assistant.knowledge.index import Batch, IndexBroken, IndexFailed, IndexWriter, Source, remove

HERE = Path(__file__).parent
FILES_AT_ONCE = 16  # of a folder, in one piece of work
AHEAD = 3  # pieces of work a process that are handed out before it asks
MOST_MEMORY = 1 << 30  # bytes of one process that reads
STUCK_SECONDS = 120.0  # a piece of work that takes so long never ends
PROGRESS_SECONDS = 0.1  # between two reports
MOST_PROBLEMS = 5  # of one file that are told
MOST_WARNINGS = 50  # of one build; more are counted
LONGEST_WARNING = 1000  # characters

Read = tuple[list[Source], list[str]]  # and what failed, in sentences
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of documentation, and the address where its files can be read ("": none)."""

    path: Path
    url: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A source that is to be read; `read` can be sent to another process."""

    key: str
    corpus: str
    fingerprint: str
    root: str
    what: str  # for people
    read: Callable[[], Batch]

    @property
    def place(self) -> str:
        return self.key.partition("\0")[2] or self.key

    def source(self) -> Source:
        return Source(self.key, self.corpus, self.fingerprint, self.root, self.read())


def build(
    into: Path,
    report: Report,
    *,
    environments: Sequence[Path] = (),
    folders: Sequence[Folder] = (),
    python: bool = True,
    processes: int | None = None,
) -> None:
    """Bring the index up to date. Raises `IndexFailed`.

    `report` hears how far it is: `done`, `total`, `passages`, `what`; `searchable` once; and each `warning`.
    """
    count = processes or _processors()
    with _alone(into, lambda: report({"what": "another build of the same index is waited for"})):
        try:
            _Build(into, report, count).run(environments, folders, python)
        except IndexBroken as error:
            report({"warning": f"{error} It is made anew."})
            remove(into)
            _Build(into, report, count).run(environments, folders, python)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Build:
    def __init__(self, into: Path, report: Report, processes: int) -> None:
        self._into = into
        self._report = report
        self._processes = processes
        self._done = self._total = 0
        self._told = 0.0
        self._passages = 0
        self._unread = 0
        self._warnings = 0

    def run(self, environments: Sequence[Path], folders: Sequence[Folder], python: bool) -> None:
        with contextlib.closing(IndexWriter(self._into)) as index:
            self._index = index
            try:
                self._bring_up_to_date(environments, folders, python)
            except sqlite3.Error as error:
                raise index.failed(error) from error

    def _bring_up_to_date(
        self, environments: Sequence[Path], folders: Sequence[Folder], python: bool
    ) -> None:
        index = self._index
        self._passages = index.count()
        self._phrases = _phrases()
        searchable = python and index.meta("library") == sys.version
        if searchable or not python:
            self._report({"searchable": True, "passages": self._passages})
        kept: list[str] = []
        library = list(self._library()) if python else []
        if not python:
            index.set_meta("library", "")  # it is forgotten below, and must be read before it is asked again
        prose = list(self._folders(folders, kept))
        code = list(self._packages(environments, kept))
        self._forget((*library, *prose, *code), kept)
        stages = [self._changed(each) for each in (library, prose, code)]
        self._total = len(library) + len(prose) + len(code)
        self._done = self._total - sum(len(stage) for stage in stages)
        for number, stage in enumerate(stages):
            self._read(_pieces(stage))
            if number == 0 and python and not searchable:
                if not index.fingerprints():
                    raise IndexFailed(
                        "The documentation cannot be read: no process that reads it stays alive."
                    )
                index.count_uses()
                index.set_meta("library", sys.version)
                self._report({"searchable": True, **self._progress("the standard library")})
        if not index.is_counted():  # something has changed, now or in a build that was killed
            index.count_uses()
        index.tidy()
        index.check()
        if self._unread:
            self._warn(f"{self._unread} files of packages could not be read and were passed over.")
        if self._warnings > MOST_WARNINGS:
            rest = f"{self._warnings - MOST_WARNINGS} more things were left out."
            self._report({"warning": rest})
        self._report(self._progress(""))

    def _warn(self, sentence: str) -> None:
        """Tell what is left out; of very much the beginning, and how much more there was."""
        self._warnings += 1
        if self._warnings <= MOST_WARNINGS:
            self._report({"warning": sentence[:LONGEST_WARNING]})

    # What there is to read

    def _library(self) -> Iterator[Unread]:
        said = hashlib.sha256(repr(sorted(self._phrases.items())).encode()).hexdigest()
        for unit in python_library.units():
            yield Unread(
                key=f"python:{unit}",
                corpus=python_library.CORPUS,
                fingerprint=f"{_readers()} {sys.version} {said}",
                root=str(python_library.ROOT),
                what="the standard library",
                read=functools.partial(python_library.read, unit),
            )

    def _packages(self, environments: Sequence[Path], kept: list[str]) -> Iterator[Unread]:
        seen: set[tuple[str, str]] = set()  # the same in several environments is read once
        found: list[tuple[int, Unread]] = []
        for environment in environments:
            try:
                sites = packages.sites(environment)
            except packages.PackagesUnreadable as error:
                self._warn(str(error))
                kept.append(f"packages:{environment}\0")
                continue
            keys: set[str] = set()
            for site in sites:
                for each in packages.distributions(site, problem=self._warn):
                    key = f"packages:{environment}\0{each.name}"
                    # What an installer has left of an older version is not what is imported.
                    if (each.name, each.version) in seen or key in keys:
                        continue
                    seen.add((each.name, each.version))
                    keys.add(key)
                    unread = Unread(
                        key=key,
                        corpus=packages.CORPUS,
                        fingerprint=f"{_readers()} {each.fingerprint()}",
                        root=str(site),
                        what=f"the package {each.name}",
                        read=functools.partial(packages.read, each),
                    )
                    found.append((len(each.files), unread))
        found.sort(
            key=lambda pair: -pair[0]
        )  # the largest first: none is left for one process alone at the end
        yield from (unread for _, unread in found)

    def _folders(self, folders: Sequence[Folder], kept: list[str]) -> Iterator[Unread]:
        if not folders:
            return
        from assistant.knowledge.folders import files_of, licence_of, shown

        for folder in folders:
            root = folder.path
            if not os.path.exists(root):  # may say no, but never raises
                self._warn(f"There is no documentation at {shown(str(root))}.")
                kept.append(f"docs:{root}\0")
                continue
            if shown(str(root)) != str(root):
                self._warn(f"{shown(str(root))} is left out, since its name cannot be shown as it is.")
                continue
            licence = licence_of(root)
            for file in files_of(root, problem=self._warn):
                try:
                    state = file.stat()
                except OSError:
                    continue
                yield Unread(
                    key=f"docs:{root}\0{file}",
                    corpus="docs",
                    fingerprint=f"{_readers()} {_stamp(state)} {folder.url} {licence}",
                    root=str(root),
                    what=f"the folder {root.name or root}",
                    read=functools.partial(_read_file, file, root, folder.url),
                )

    def _changed(self, sources: Iterable[Unread]) -> list[Unread]:
        had = self._had
        return [source for source in sources if had.get(source.key) != source.fingerprint]

    @functools.cached_property
    def _had(self) -> dict[str, str]:
        return self._index.fingerprints()

    def _forget(self, sources: Iterable[Unread], kept: Sequence[str]) -> None:
        """Take away what is no longer there; what stands in a place that cannot be read now is kept."""
        there = {source.key for source in sources}
        gone = [key for key in self._had if key not in there and not key.startswith(tuple(kept))]
        if gone:
            self._index.forget(gone)
            self._passages = self._index.count()

    # Reading it

    def _read(self, pieces: Sequence[Sequence[Unread]]) -> None:
        """Read pieces of work in other processes; one that ends its process is passed over."""
        waiting = deque(pieces)
        while waiting:
            suspects = self._read_together(waiting)
            for suspect in suspects:
                for one in suspect:
                    alone: deque[Sequence[Unread]] = deque([[one]])
                    if self._read_together(alone, processes=1):
                        self._done += 1
                        self._warn(f"Reading {one.what} failed ({one.place}); it is left out.")

    def _read_together(
        self, waiting: deque[Sequence[Unread]], processes: int | None = None
    ) -> list[Sequence[Unread]]:
        """Takes from `waiting` what it reads. Returns the pieces that were being read when a process died."""
        count = min(processes or self._processes, len(waiting))
        context = multiprocessing.get_context("spawn")  # the same on every system; nothing of ours is copied
        with _startable():
            pool = ProcessPoolExecutor(count, mp_context=context, initializer=_prepare)
        running: dict[Future[Read], Sequence[Unread]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < count * AHEAD:
                    with _startable():
                        future = pool.submit(_read_piece, waiting[0])
                    running[future] = waiting.popleft()  # only now: a pool that has broken takes nothing
                finished, _ = wait(running, timeout=STUCK_SECONDS, return_when=FIRST_COMPLETED)
                if not finished:
                    for process in multiprocessing.active_children():
                        process.kill()
                    return list(running.values())
                self._write(finished, running)
        except BrokenProcessPool:
            return list(running.values())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return []

    def _write(self, finished: Iterable[Future[Read]], running: dict[Future[Read], Sequence[Unread]]) -> None:
        sources: list[Source] = []
        broken: BrokenProcessPool | None = None
        for future in finished:
            try:
                read, failed = future.result()
                sources += read
                for sentence in failed:
                    self._warn(sentence)
            except BrokenProcessPool as error:
                broken = error
                continue  # stays among those that are running, to be tried alone
            except Exception as error:  # noqa: BLE001 - what cannot be sent between processes
                for each in running[future]:
                    self._warn(f"Reading {each.what} failed ({each.place}): {error!r}.")
            piece = running.pop(future)
            self._done += len(piece)
            what = piece[0].what
        if sources:
            self._index.put(sources, self._phrases)
            self._passages = self._index.count()
            for batch in (source.batch for source in sources):
                self._unread += batch.unread
                for sentence in batch.problems:
                    self._warn(sentence)
        if broken is not None:
            raise broken
        if time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._report(self._progress(what))

    def _progress(self, what: str) -> dict[str, Any]:
        return {"done": self._done, "total": self._total, "passages": self._passages, "what": what}


@contextlib.contextmanager
def _startable() -> Iterator[None]:
    try:
        yield
    except (OSError, ImportError, NotImplementedError) as error:  # too many processes, no semaphores
        text = f"The documentation cannot be read: no process can be started for it ({error})."
        raise IndexFailed(text) from error


def _pieces(sources: Sequence[Unread]) -> list[Sequence[Unread]]:
    """Work to hand out: packages and modules one by one, small files several at a time."""
    if not sources or sources[0].corpus != "docs":
        return [[source] for source in sources]
    return [sources[start : start + FILES_AT_ONCE] for start in range(0, len(sources), FILES_AT_ONCE)]


# In the processes that read


def _prepare() -> None:
    """Never outlive the one that writes, take no more memory than a file may cost, and leave the output to
    the one that writes: a module of the library may print."""
    os.dup2(2, 1)
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on every system
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, hard))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _read_piece(piece: Sequence[Unread]) -> Read:
    """What was read, and in sentences what could not be: the others of a piece do not suffer from it."""
    read, failed = [], []
    for each in piece:
        try:
            read.append(each.source())
        except Exception as error:  # noqa: BLE001 - one source that cannot be read is not the end of all
            failed.append(f"Reading {each.what} failed ({each.place}): {error!r}.")
    return read, failed


def _read_file(file: Path, root: Path, url: str) -> Batch:
    from assistant.knowledge.folders import read_file

    problems: list[str] = []

    def problem(sentence: str) -> None:
        if len(problems) < MOST_PROBLEMS:
            problems.append(sentence)

    return Batch(read_file(file, root, base_url=url, package=root.name, problem=problem), problems=problems)


def _stamp(state: os.stat_result) -> str:
    """Of a file's content and of who may read it, which only the time of the last change of status tells."""
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _phrases() -> Mapping[str, tuple[str, ...]]:
    from assistant.knowledge.vocabulary import phrases

    return phrases()


@functools.cache
def _readers() -> str:
    """Of the code that reads: when it changes, everything is read again."""
    state = hashlib.sha256()
    for file in sorted(HERE.glob("*.py")):
        if file.stem in ("python_code", "python_library", "packages", "folders", "markup", "passage"):
            state.update(file.read_bytes())
    return state.hexdigest()[:16]


@contextlib.contextmanager
def _alone(into: Path, waits: Callable[[], None]) -> Iterator[None]:
    """One build at a time on one file; a second one waits."""
    try:
        import fcntl
    except ImportError:  # Windows: SQLite's own lock still keeps the file whole
        yield
        return
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        lock = into.with_name(f"{into.name}.lock").open("w")
    except OSError as error:
        raise IndexFailed(f"The index of documentation {into} cannot be written: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
