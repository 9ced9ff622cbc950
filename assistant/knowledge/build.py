"""Builds the index, or brings it up to date: several processes read what has changed, one process writes.

The standard library comes first, because most first questions are about it, then the folders of
documentation, then packages. What is in the index is not read again, so a build after one that was killed
continues. If reading a unit fails or kills its process, the build reports the unit and goes on without it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import itertools
import multiprocessing
import os
import sqlite3
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.knowledge.index import IndexBroken, IndexFailed
from assistant.knowledge.index_writer import IndexWriter, ReadUnit, remove
from assistant.knowledge.passage import Batch
from assistant.knowledge.reading import packages, python_library
from assistant.knowledge.reading.folders import files_of, printable, read_file
from assistant.knowledge.reading.project import licence_of, project_of_folder
from assistant.knowledge.search.vocabulary import phrases

HERE = Path(__file__).parent
FILES_AT_ONCE = 16  # files of a folder in one task
TASKS_AHEAD = 3  # tasks for each process that are queued before it needs them
MOST_MEMORY = 1 << 30  # bytes of one reading process
STUCK_SECONDS = 120.0  # after so long without a result, the processes are killed
PROGRESS_SECONDS = 0.1  # between two reports
MOST_PROBLEMS = 5  # warnings about one file
MOST_WARNINGS = 50  # warnings of one build; further ones are only counted
LONGEST_WARNING = 1000  # characters

TaskResult = tuple[list[ReadUnit], list[str]]  # what was read, and what failed, in sentences
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of documentation, and its address on the web ("" if it has none)."""

    path: Path
    url: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A module of the standard library, a package or a file, to be read as one, maybe in another process."""

    key: str
    corpus: str
    fingerprint: str
    root: str
    description: str  # for people
    read: Callable[[], Batch]

    @property
    def place(self) -> str:
        return self.key.partition("\0")[2] or self.key

    def read_all(self) -> ReadUnit:
        return ReadUnit(self.key, self.corpus, self.fingerprint, self.root, self.read())


def build(
    into: Path,
    report: Report,
    *,
    environments: Sequence[Path] = (),
    folders: Sequence[Folder] = (),
    python: bool = True,
    processes: int | None = None,
) -> None:
    """Bring the index up to date. Raises `IndexFailed`. `report` receives the progress, each `warning`, and
    `searchable` as soon as the standard library is in the index."""
    if not processes:
        has_affinity = hasattr(os, "sched_getaffinity")
        processes = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    with _exclusive(into, lambda: report({"what": "waiting for another build of the same index"})):
        try:
            _Build(into, report, processes).run(environments, folders, python)
        except IndexBroken as error:
            report({"warning": f"{error} It will be built again."})
            remove(into)
            _Build(into, report, processes).run(environments, folders, python)


class _Build:
    def __init__(self, into: Path, report: Report, processes: int) -> None:
        self._into = into
        self._report = report
        self._processes = processes
        self._done = self._total = 0
        self._reported = 0.0
        self._passages = 0
        self._unread = 0
        self._warnings = 0
        self._missing: list[str] = []  # sentences about folders that are not there
        self._folders: dict[Path, Counter[str]] = {}  # files of each, by suffix if no reader knows it, or ""

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
        self._phrases = phrases()
        searchable = python and index.meta("library") == sys.version
        if searchable or not python:
            self._report({"searchable": True, "passages": self._passages})
        kept: list[str] = []  # the beginnings of keys whose units cannot be read now, but stay in the index
        library = list(self._library_units()) if python else []
        if not python:
            index.set_meta("library", "")  # the library is forgotten below
        files = list(self._file_units(folders, kept))
        code = list(self._package_units(environments, folders, kept))
        there = {unit.key for unit in (*library, *files, *code)}
        known = index.fingerprints()
        if gone := [key for key in known if key not in there and not key.startswith(tuple(kept))]:
            index.forget(gone)
            self._passages = index.count()
        units = (library, files, code)
        stages = [[unit for unit in each if known.get(unit.key) != unit.fingerprint] for each in units]
        self._total = sum(map(len, units))
        self._done = self._total - sum(len(stage) for stage in stages)
        for number, stage in enumerate(stages):
            size = FILES_AT_ONCE if stage is stages[1] else 1  # files are small
            self._read([stage[start : start + size] for start in range(0, len(stage), size)])
            if number == 0 and python and not searchable:
                if not index.fingerprints():
                    raise IndexFailed("The documentation cannot be read: every reading process ends at once.")
                index.count_uses()
                index.set_meta("library", sys.version)
                self._report({"searchable": True, **self._progress("the standard library")})
        if not index.is_counted():  # units have changed, now or in a build that was killed
            index.count_uses()
        index.tidy()
        index.check()
        if self._unread:
            self._warn(f"{self._unread} files of packages could not be read and are left out.")
        detail = self._unread_folders()
        if self._warnings > MOST_WARNINGS:
            self._report({"warning": f"{self._warnings - MOST_WARNINGS} more warnings are not shown."})
        self._report({**self._progress(""), "detail": detail})

    def _unread_folders(self) -> str | None:
        """Sentences about the folders of which nothing, or only a small part, could be read. They name a
        folder without its path, which visitors may not see."""
        sentences = list(self._missing)
        for root, files in self._folders.items():
            (read,) = self._index.connection.execute(
                "SELECT count(*) FROM source WHERE corpus = 'docs' AND root = ? AND last >= first",
                (str(root),),
            ).fetchone()
            unknown = files.total() - files[""]
            if read and read * 4 >= files[""] and read >= unknown:
                continue
            sentence = f"{read} of {files.total()} files in {_named(root)} could be read."
            if unknown:
                many = f"{unknown} files are" if unknown > 1 else "One file is"
                kinds = ", ".join(sorted(filter(None, files)))
                sentence = f"{sentence} {many} of kinds that cannot be read: {kinds}."
            self._report({"warning": f"{sentence} (at {printable(str(root))})"})
            sentences.append(sentence)
        return " ".join(sentences[:MOST_PROBLEMS]) or None

    def _warn(self, sentence: str) -> None:
        """Report what is left out; beyond the first warnings, only count."""
        self._warnings += 1
        if self._warnings <= MOST_WARNINGS:
            self._report({"warning": sentence[:LONGEST_WARNING]})

    # What there is to read

    def _library_units(self) -> Iterator[Unit]:
        phrases = hashlib.sha256(repr(sorted(self._phrases.items())).encode()).hexdigest()
        for name in python_library.units():
            yield Unit(
                key=f"python:{name}",
                corpus=python_library.CORPUS,
                fingerprint=f"{_reader_version()} {sys.version} {phrases}",
                root=str(python_library.ROOT),
                description="the standard library",
                read=functools.partial(python_library.read, name),
            )

    def _package_units(
        self, environments: Sequence[Path], folders: Sequence[Folder], kept: list[str]
    ) -> Iterator[Unit]:
        found: dict[tuple[str, str], tuple[int, Unit]] = {}  # a package in several environments is read once
        for environment in environments:
            try:
                sites = packages.sites(environment)
            except packages.PackagesUnreadable as error:
                self._warn(str(error))
                kept.append(f"packages:{environment}\0")
                continue
            names: set[str] = set()  # an installer may leave the metadata of an older version
            for site in sites:
                installed = packages.distributions(site, warn=self._warn)
                for each in packages.with_inventories(installed, [(each.path, each.url) for each in folders]):
                    if (each.name, each.version) in found or each.name in names:
                        continue
                    names.add(each.name)
                    unit = Unit(
                        key=f"packages:{environment}\0{each.name}",
                        corpus=packages.CORPUS,
                        fingerprint=f"{_reader_version()} {each.fingerprint()}",
                        root=str(site),
                        description=f"the package {each.name}",
                        read=functools.partial(packages.read, each),
                    )
                    found[each.name, each.version] = (len(each.files), unit)
        # The largest first, so that no process reads a large one alone at the end.
        yield from (unit for _, unit in sorted(found.values(), key=lambda pair: -pair[0]))

    def _file_units(self, folders: Sequence[Folder], kept: list[str]) -> Iterator[Unit]:
        for folder in folders:
            root = folder.path
            if not os.path.exists(root):  # never raises, unlike Path.exists
                self._missing.append(
                    f"The documentation in {_named(root)} is missing: there is no such folder."
                )
                self._warn(f"There is no documentation at {printable(str(root))}.")
                kept.append(f"docs:{root}\0")
                continue
            if printable(str(root)) != str(root):
                reason = "since its name has characters that cannot be printed"
                self._warn(f"{printable(str(root))} is left out, {reason}.")
                continue
            project = (*project_of_folder(Path(os.path.realpath(root))), licence_of(root))
            counts = self._folders[root] = Counter()
            for file in files_of(root, warn=self._warn, unread=counts):
                counts[""] += 1
                try:
                    state = file.stat()
                except OSError:
                    continue
                # The content changes size and mtime; who may read the file changes ctime alone.
                stamp = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
                yield Unit(
                    key=f"docs:{root}\0{file}",
                    corpus="docs",
                    fingerprint=f"{_reader_version()} {stamp} {folder.url} {project}",
                    root=str(root),
                    description=f"the folder {root.name or root}",
                    read=functools.partial(_read_file, file, root, folder.url, project),
                )

    # Reading it

    def _read(self, tasks: Sequence[Sequence[Unit]]) -> None:
        """Read units in other processes. A unit that kills its process is left out."""
        waiting = deque(tasks)
        while waiting:
            for unit in itertools.chain.from_iterable(self._read_in_pool(waiting)):
                if self._read_in_pool(deque([[unit]])):
                    self._done += 1
                    self._warn(f"Reading {unit.description} failed ({unit.place}); it is left out.")

    def _read_in_pool(self, waiting: deque[Sequence[Unit]]) -> list[Sequence[Unit]]:
        """Take tasks from `waiting` and read them. Returns the tasks that ran when a process died."""
        count = min(self._processes, len(waiting))
        context = multiprocessing.get_context("spawn")  # the same on every system, and copies no memory
        with _may_start_processes():
            pool = ProcessPoolExecutor(count, mp_context=context, initializer=_prepare_process)
        running: dict[Future[TaskResult], Sequence[Unit]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < count * TASKS_AHEAD:
                    with _may_start_processes():
                        future = pool.submit(_read_task, waiting[0])
                    running[future] = waiting.popleft()  # after submit, which a broken pool refuses
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

    def _write(
        self, finished: Iterable[Future[TaskResult]], running: dict[Future[TaskResult], Sequence[Unit]]
    ) -> None:
        units: list[ReadUnit] = []
        broken: BrokenProcessPool | None = None
        for future in finished:
            try:
                read, failed = future.result()
                units += read
                for sentence in failed:
                    self._warn(sentence)
            except BrokenProcessPool as error:
                broken = error
                continue  # the task stays in `running`, to be tried alone
            except Exception as error:  # noqa: BLE001 - such as a result that cannot be pickled
                for unit in running[future]:
                    self._warn(f"Reading {unit.description} failed ({unit.place}): {error!r}.")
            task = running.pop(future)
            self._done += len(task)
            description = task[0].description
        if units:
            self._index.put(units, self._phrases)
            self._passages = self._index.count()
            for batch in (unit.batch for unit in units):
                self._unread += batch.unread
                for sentence in batch.problems:
                    self._warn(sentence)
        if broken is not None:
            raise broken
        if time.monotonic() - self._reported >= PROGRESS_SECONDS:
            self._reported = time.monotonic()
            self._report(self._progress(description))

    def _progress(self, what: str) -> dict[str, Any]:
        return {"done": self._done, "total": self._total, "passages": self._passages, "what": what}


def _named(folder: Path) -> str:
    return f"the folder “{printable(folder.name or str(folder))}”"


@contextlib.contextmanager
def _may_start_processes() -> Iterator[None]:
    try:
        yield
    except (OSError, ImportError, NotImplementedError) as error:  # too many processes, no semaphores
        text = f"The documentation cannot be read: no process can be started ({error})."
        raise IndexFailed(text) from error


# In the reading processes


def _prepare_process() -> None:
    """Limit this process's memory, end it with its parent, and send its output to stderr, because stdout
    carries the reports and importing a module of the library may print."""
    os.dup2(2, 1)
    gc.set_threshold(200_000, 20, 20)  # syntax trees are many objects and have no cycles
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


def _read_task(task: Sequence[Unit]) -> TaskResult:
    """Read each unit. One that fails does not stop the others."""
    read, failed = [], []
    for unit in task:
        try:
            read.append(unit.read_all())
        except Exception as error:  # noqa: BLE001 - a reader may raise anything
            failed.append(f"Reading {unit.description} failed ({unit.place}): {error!r}.")
    return read, failed


def _read_file(file: Path, root: Path, url: str, project: tuple[str, str, str]) -> Batch:
    problems: list[str] = []
    name, version, licence = project
    passages = read_file(
        file, root, base_url=url, package=name, version=version, licence=licence, warn=problems.append
    )
    return Batch(passages, problems=problems[:MOST_PROBLEMS])


@functools.cache
def _reader_version() -> str:
    """A hash of the code of all readers. When it changes, everything is read again."""
    state = hashlib.sha256()
    for file in (HERE / "passage.py", *sorted((HERE / "reading").glob("*.py"))):
        state.update(file.read_bytes())
    return state.hexdigest()[:16]


@contextlib.contextmanager
def _exclusive(into: Path, report_wait: Callable[[], None]) -> Iterator[None]:
    """Only one build at a time works on a file; a second one waits."""
    try:
        import fcntl
    except ImportError:  # on Windows SQLite's own lock protects the file
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
            report_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
