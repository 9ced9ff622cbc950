"""Writes the index of documentation.

A unit is what is read and stored as one: a module of the standard library, a package, or a file of a folder.
Each has a fingerprint, and a unit whose fingerprint has not changed is not read again. Every `put` is one
transaction, so a search sees a unit whole or not at all, and a build after one that was killed continues.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.knowledge.index import (
    BUSY_SECONDS,
    SCHEMA,
    Index,
    IndexBroken,
    IndexFailed,
    code_version,
    decompress,
    reversed_name,
)
from assistant.knowledge.passage import Batch, Passage
from assistant.knowledge.reading.python_code import SourceUnreadable, read_text

LONGEST_TEXT = 6000  # characters of a passage that are kept
CALLS_WITHIN = 4  # so many calls of a name within its own package count as one call elsewhere


@dataclass(frozen=True, slots=True)
class ReadUnit:
    """A unit, and what reading it gave."""

    key: str
    corpus: str
    fingerprint: str  # stays the same as long as reading again would give the same
    root: str  # the folder that locations in it are relative to
    batch: Batch


class IndexWriter(Index):
    """The index in the file `path`, for a build. Makes the file if there is none, if it has another version,
    or if it is not a database. Raises `IndexFailed` if the file cannot be written or is a database of
    something else, and `IndexBroken` for damage that shows only during use."""

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._opened()
            except sqlite3.OperationalError:  # locked, read-only or full: the file itself is intact
                raise
            except sqlite3.DatabaseError:
                remove(self.path)
                return self._opened()
        except OSError as error:
            raise self.failed(error) from error

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if tables:
                row = None
                with contextlib.suppress(sqlite3.OperationalError):  # there is no such table
                    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
                if row is None:
                    raise IndexFailed(f"{self.path} is a database of something else and is left unchanged.")
                if row[0] != code_version():
                    raise sqlite3.DatabaseError("another version")
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the last units, which are then read again; it never damages the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            if not tables:
                connection.execute("BEGIN IMMEDIATE")
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('schema', ?)", (code_version(),))
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def failed(self, error: Exception) -> IndexFailed:
        kind = IndexBroken if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED else IndexFailed
        return kind(f"The index of documentation {self.path} cannot be written: {error}.")

    def check(self) -> None:
        """Check the whole file. Raises `IndexBroken` if any part of it is damaged."""
        (result,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise IndexBroken(f"The index of documentation {self.path} is damaged: {result}.")

    def is_counted(self) -> bool:
        """Whether `count_uses` has been called since the last change of a unit."""
        return self.meta("counted") is not None

    def set_meta(self, key: str, value: str) -> None:
        with self._transaction():
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def put(self, units: Iterable[ReadUnit], phrases: Mapping[str, Sequence[str]] | None = None) -> None:
        """Store units, replacing what the index had of them; all of them or none. `phrases` are those by
        which people ask, by name. Only Python's own documentation needs any."""
        known = phrases or {}
        with self._transaction():
            for unit in units:
                self._remove([unit.key])
                usage = unit.batch.usage
                packed = zlib.compress(json.dumps(usage, separators=(",", ":")).encode()) if usage else None
                number = self.connection.execute(
                    "INSERT INTO source (key, corpus, fingerprint, root, usage) VALUES (?, ?, ?, ?, ?)",
                    (unit.key, unit.corpus, unit.fingerprint, unit.root, packed),
                ).lastrowid
                aliases: dict[str, list[str]] = {}
                for alias, name in unit.batch.aliases:
                    aliases.setdefault(name, []).append(alias)
                for passage in unit.batch.passages:
                    names = dict.fromkeys([passage.name, *aliases.get(passage.name, ())])
                    self._add(number, passage, [phrase for name in names for phrase in known.get(name, ())])
                self.connection.executemany(
                    "INSERT INTO alias VALUES (?, ?, ?)", [(number, *alias) for alias in unit.batch.aliases]
                )

    def _add(self, unit: int | None, passage: Passage, phrases: Sequence[str]) -> None:
        passage = _storable(passage)
        text, lines = bounded(passage.text), "\n".join(phrases)
        stored: dict[str, object] = {field: getattr(passage, field) for field in Passage.__slots__}
        stored["text"] = zlib.compress(text.encode())
        if stored.pop("title") != passage.name:
            stored["heading"] = passage.title
        row = self.connection.execute(
            f"INSERT INTO passage (source_id, phrases, {', '.join(stored)}) "
            f"VALUES (?, ?{', ?' * len(stored)})",
            (unit, lines, *stored.values()),
        ).lastrowid
        self.connection.execute(
            "INSERT INTO search (rowid, words, title, summary, text, phrases) VALUES (?, ?, ?, ?, ?, ?)",
            (row, *_columns(passage.name, passage.title, passage.signature, text, lines)),
        )
        if passage.kind != "section":
            self.connection.execute("INSERT INTO ending VALUES (?, ?)", (reversed_name(passage.name), row))
            self.connection.execute("INSERT INTO near (rowid, name) VALUES (?, ?)", (row, passage.name))

    def tidy(self) -> None:
        """At the end of a build, update SQLite's statistics and shorten its journal."""
        with contextlib.suppress(sqlite3.OperationalError):  # a search is running; the next build does it
            self.connection.execute("PRAGMA optimize")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def forget(self, keys: Iterable[str]) -> None:
        """Remove units."""
        with self._transaction():
            self._remove(keys)

    def _remove(self, keys: Iterable[str]) -> None:
        run = self.connection.execute
        run("DELETE FROM meta WHERE key = 'counted'")
        for key in keys:
            found = run("SELECT id FROM source WHERE key = ?", (key,)).fetchone()
            if found is None:
                continue
            passages = run(
                "SELECT id, kind, name, ifnull(heading, name), signature, text, phrases FROM passage "
                "WHERE source_id = ?",
                found,
            ).fetchall()
            # A full-text index without a copy of the text needs the text again to delete it.
            self.connection.executemany(
                "INSERT INTO search (search, rowid, words, title, summary, text, phrases) "
                "VALUES ('delete', ?, ?, ?, ?, ?, ?)",
                [
                    (row, *_columns(name, heading, signature, decompress(text), lines))
                    for row, _, name, heading, signature, text, lines in passages
                ],
            )
            named = [(row, name) for row, kind, name, *_ in passages if kind != "section"]
            self.connection.executemany("INSERT INTO near (near, rowid, name) VALUES ('delete', ?, ?)", named)
            self.connection.executemany(
                "DELETE FROM ending WHERE turned = ? AND passage_id = ?",
                [(reversed_name(name), row) for row, name in named],
            )
            run(
                "DELETE FROM example_at WHERE passage_id IN (SELECT id FROM passage WHERE source_id = ?)",
                found,
            )
            run("DELETE FROM passage WHERE source_id = ?", found)
            run("DELETE FROM alias WHERE source_id = ?", found)
            run("DELETE FROM source WHERE id = ?", found)

    def count_uses(self) -> None:
        """Store how often all units call each passage's name, and the best example of a call, word for word.
        To be called after units have changed."""
        ids = self._ids()
        data = dict(self.connection.execute("SELECT name, id FROM passage WHERE kind = 'data'"))
        uses: dict[int, float] = {}
        best: dict[int, tuple[int, str, int, int]] = {}  # score, file, first and last line
        rows = self.connection.execute("SELECT root, usage FROM source WHERE usage IS NOT NULL ORDER BY id")
        for root, packed in rows:
            for file, calls in json.loads(zlib.decompress(packed)).items():
                package = file.partition("/")[0].removesuffix(".py")
                for name, (count, first, last, score) in calls.items():
                    is_within = name.partition(".")[0] == package
                    # A call of `os.environ.get` counts for `os.environ`, which has no members in the index.
                    found = ids.get(name) or data.get(name.rpartition(".")[0])
                    if found is None:
                        continue
                    uses[found] = uses.get(found, 0) + (count / CALLS_WITHIN if is_within else count)
                    if first and score > best.get(found, (0,))[0]:
                        best[found] = (score, f"{root}\0{file}", first, last)
        self._write_uses(uses, best)

    def _ids(self) -> dict[str, int]:
        """The passage of each name and alias."""
        run = self.connection.execute
        ids: dict[str, int] = dict(
            run("SELECT name, id FROM passage WHERE kind NOT IN ('section', 'topic') ORDER BY id DESC")
        )
        for alias, name in run("SELECT alias, name FROM alias ORDER BY rowid DESC"):
            if name in ids:
                ids.setdefault(alias, ids[name])
        return ids

    def _write_uses(self, uses: Mapping[int, float], best: Mapping[int, tuple[int, str, int, int]]) -> None:
        run = self.connection.execute
        previous: dict[int, int] = dict(run("SELECT passage_id, at FROM example_at").fetchall())
        by_file: dict[str, list[tuple[int, int, int]]] = {}
        for number, (_, file, first, last) in best.items():
            if previous.get(number) != _hash(file, first, last):
                by_file.setdefault(file, []).append((number, first, last))
        with self._transaction():
            counted = dict(run("SELECT id, uses FROM passage WHERE uses > 0"))
            changed = [
                (round(uses.get(number, 0)), number)
                for number in {*uses, *counted}
                if round(uses.get(number, 0)) != counted.get(number, 0)
            ]
            self.connection.executemany("UPDATE passage SET uses = ? WHERE id = ?", changed)
            gone = [(number,) for number in previous if number not in best]
            self.connection.executemany("UPDATE passage SET example = '' WHERE id = ?", gone)
            self.connection.executemany("DELETE FROM example_at WHERE passage_id = ?", gone)
            run("INSERT OR REPLACE INTO meta VALUES ('counted', '')")
            for file, examples in by_file.items():
                root, _, path = file.partition("\0")
                try:
                    lines = read_text(Path(root, path)).split("\n")
                except SourceUnreadable:
                    continue
                for number, first, last in examples:
                    text = textwrap.dedent("\n".join(lines[first - 1 : last]))
                    run(
                        "UPDATE passage SET example = ?, example_location = ? WHERE id = ?",
                        (text, f"{path}:{first}", number),
                    )
                    run("INSERT OR REPLACE INTO example_at VALUES (?, ?)", (number, _hash(file, first, last)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self.failed(error) from error


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def remove(path: Path) -> None:
    """Delete an index. A process that has it open keeps reading the deleted file."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _storable(passage: Passage) -> Passage:
    """The passage without lone surrogates, which UTF-8 cannot encode; an escape in a string may have one."""
    values = (getattr(passage, field) for field in Passage.__slots__)
    return Passage(*(text.encode("utf-8", "replace").decode() for text in values))


def _columns(name: str, title: str, signature: str, text: str, phrases: str) -> tuple[str, ...]:
    """The texts of a passage that are searched, in the column order of the full-text index."""
    return words_of(name), f"{title} {signature}", summary_of(text), text, phrases


def _hash(*values: object) -> int:
    digest = hashlib.blake2b(repr(values).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W0-9_a-zA-Z]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`(])|\n\s*\n")


def words_of(name: str) -> str:
    """The name itself and its words: split at dots, underscores and capitals."""
    words = [name]
    for part in name.split("."):
        if part != name:
            words.append(part)
        split = [word.lower() for word in _WORD.findall(part)]
        if len(split) > 1:
            words.extend(split)
    return " ".join(words)


def summary_of(text: str) -> str:
    """The first sentence."""
    return _SENTENCE.split(text.strip(), maxsplit=1)[0][:400]


def bounded(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text; one that is too long is cut at the end of a paragraph, or at least of a line."""
    if len(text) <= longest:
        return text
    for end in ("\n\n", "\n"):
        cut = text.rfind(end, longest // 2, longest)
        if cut > 0:
            return text[:cut].rstrip()
    return text[:longest]
