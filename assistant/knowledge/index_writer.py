"""Writes the index of documentation.

A unit is what is read and stored as one: a module of the standard library, a package, or a file of a folder.
Each has a fingerprint, and a unit whose fingerprint has not changed is not read again. Every `put` is one
transaction, so a search sees a unit whole or not at all, and a build after one that was killed continues.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    name_hash,
    plain_words,
    scope_key,
)
from assistant.knowledge.passage import Batch, Passage
from assistant.knowledge.reading.python_code import SourceUnreadable, read_text

LONGEST_TEXT = 6000  # characters of a passage that are kept
DICTIONARY = 32_000  # characters of text that texts are compressed with
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
        run = self.connection.execute
        with self._transaction():
            for unit in units:
                self._remove([unit.key])
                batch = unit.batch
                if not self._shared_words():
                    run("INSERT INTO dictionary VALUES (?)", (_shared(batch.passages),))
                packed = json.dumps(batch.usage, separators=(",", ":")).encode() if batch.usage else None
                named = [each.name for each in batch.passages if each.kind != "section"]
                imported = {name.partition(".")[0] for name in named if unit.corpus == "packages"}
                common = [""] * 4
                if batch.passages:
                    each = batch.passages[0]
                    common = list(map(storable, (each.package, each.version, each.licence, each.url)))
                first = run("SELECT ifnull(max(id), 0) + 1 FROM passage").fetchone()[0]
                number = run(
                    "INSERT INTO source (key, corpus, fingerprint, root, package, version, licence, url, "
                    "imported, first, last, usage) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(unit.key, unit.corpus, unit.fingerprint, unit.root, *common),
                        *(" ".join(sorted(imported)), first, first + len(batch.passages) - 1),
                        zlib.compress(packed) if packed else None,
                    ),
                ).lastrowid
                aliases: dict[str, list[str]] = {}
                for alias, name in batch.aliases:
                    aliases.setdefault(name, []).append(alias)
                for row, passage in enumerate(batch.passages, first):
                    names = dict.fromkeys([passage.name, *aliases.get(passage.name, ())])
                    known = [phrase for name in names for phrase in (phrases or {}).get(name, ())]
                    self._add(row, number, passage, known, common[3])
                self.connection.executemany(
                    "INSERT OR IGNORE INTO alias VALUES (?, ?, ?)",
                    [(*(name_hash("=", name) for name in alias), number) for alias in batch.aliases],
                )
                for raised in batch.raised:
                    fields = [storable(text) for text in dataclasses.astuple(raised)]
                    found = run(
                        "INSERT INTO raised (source_id, statement) VALUES (?, ?)",
                        (number, self.packed(*fields)),
                    )
                    run(
                        "INSERT INTO raised_message (rowid, message, package) VALUES (?, ?, ?)",
                        (found.lastrowid, raised_text(fields), scope_key(common[0])),
                    )

    def _add(self, row: int, unit: int | None, passage: Passage, phrases: Sequence[str], url: str) -> None:
        """Store a passage as row `row`, whose source has the address `url`."""
        passage = Passage(*map(storable, (getattr(passage, field) for field in Passage.__slots__)))
        passage = dataclasses.replace(passage, text=bounded(passage.text))
        lines = "\n".join(phrases)
        example = f"{passage.example_location}\0{passage.example}" if passage.example else None
        self.connection.execute(
            "INSERT INTO passage (id, source_id, name, kind, heading, text, location, example, url, phrases) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row, unit, passage.name, passage.kind),
                passage.title if passage.title != passage.name else None,
                self.packed(passage.text, passage.signature),
                *(passage.location, example, passage.url if passage.url != url else None, lines or None),
            ),
        )
        self.connection.execute(
            "INSERT INTO search (rowid, words, title, summary, text, phrases, scope) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row, *_columns(passage, lines)),
        )
        self.connection.executemany(
            "INSERT OR IGNORE INTO lookup VALUES (?, ?)", [(each, row) for each in _hashes(passage)]
        )
        if passage.kind != "section":
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
        run, run_many = self.connection.execute, self.connection.executemany
        run("DELETE FROM meta WHERE key = 'counted'")
        for key in keys:
            query = "SELECT corpus, id, package, first, last FROM source WHERE key = ?"
            found = run(query, (key,)).fetchone()
            if found is None:
                continue
            corpus, source, package, *span = found
            hits = self._hits("WHERE passage.id BETWEEN ? AND ?", span)
            # A full-text index without a copy of the text needs the text again to delete it.
            run_many(
                "INSERT INTO search (search, rowid, words, title, summary, text, phrases, scope) "
                "VALUES ('delete', ?, ?, ?, ?, ?, ?, ?)",
                [(hit.id, *_columns(hit.passage, hit.phrases)) for hit in hits],
            )
            rows = run("SELECT id, statement FROM raised WHERE source_id = ?", (source,)).fetchall()
            run_many(
                "INSERT INTO raised_message (raised_message, rowid, message, package) "
                "VALUES ('delete', ?, ?, ?)",
                [(row, raised_text(self.unpacked(statement)), scope_key(package)) for row, statement in rows],
            )
            named = [(hit.id, hit.passage.name) for hit in hits if hit.passage.kind != "section"]
            run_many("INSERT INTO near (near, rowid, name) VALUES ('delete', ?, ?)", named)
            run_many(
                "DELETE FROM lookup WHERE hash = ? AND passage_id = ?",
                [(each, hit.id) for hit in hits for each in _hashes(hit.passage)],
            )
            run("DELETE FROM example_at WHERE passage_id BETWEEN ? AND ?", span)
            run("DELETE FROM passage WHERE id BETWEEN ? AND ?", span)
            # Only code has aliases: a changed file of documentation costs no walk through all of them.
            for table in ("alias", "raised") if corpus != "docs" else ("raised",):
                run(f"DELETE FROM {table} WHERE source_id = ?", (source,))
            run("DELETE FROM source WHERE id = ?", (source,))

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
                    found = ids.get(name_hash("=", name)) or data.get(name.rpartition(".")[0])
                    if found is None:
                        continue
                    uses[found] = uses.get(found, 0) + (count / CALLS_WITHIN if is_within else count)
                    if first and score > best.get(found, (0,))[0]:
                        best[found] = (score, f"{root}\0{file}", first, last)
        self._write_uses(uses, best)

    def _ids(self) -> dict[int, int]:
        """The passage of each name and alias, by the hash of the name."""
        run = self.connection.execute
        ids = {
            name_hash("=", name): number
            for name, number in run(
                "SELECT name, id FROM passage WHERE kind NOT IN ('section', 'topic') ORDER BY id DESC"
            )
        }
        for alias, target in run("SELECT hash, target FROM alias ORDER BY source_id DESC"):
            if target in ids:
                ids.setdefault(alias, ids[target])
        return ids

    def _write_uses(self, uses: Mapping[int, float], best: Mapping[int, tuple[int, str, int, int]]) -> None:
        run = self.connection.execute
        previous: dict[int, int] = dict(run("SELECT passage_id, at FROM example_at").fetchall())
        by_file: dict[str, list[tuple[int, int, int]]] = {}
        for number, (_, file, first, last) in best.items():
            if previous.get(number) != _place(file, first, last):
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
            self.connection.executemany("UPDATE passage SET example = NULL WHERE id = ?", gone)
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
                    run("UPDATE passage SET example = ? WHERE id = ?", (f"{path}:{first}\0{text}", number))
                    run(
                        "INSERT OR REPLACE INTO example_at VALUES (?, ?)",
                        (number, _place(file, first, last)),
                    )

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
                    self._dictionary = b""
        except sqlite3.Error as error:
            raise self.failed(error) from error


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def remove(path: Path) -> None:
    """Delete an index. A process that has it open keeps reading the deleted file."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def storable(text: str) -> str:
    """The text without what the index cannot store: lone surrogates, which an escape in a string may have,
    and null characters, which separate texts."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def raised_text(fields: Sequence[str]) -> str:
    """What a `raise` statement is found by: the exception and the message."""
    return f"{fields[0].rpartition('.')[2]} {fields[1]}"


def _shared(passages: Sequence[Passage]) -> bytes:
    """A dictionary for the compression: the beginnings of some passages."""
    texts = [f"{passage.text[:300]}\n{passage.signature}" for passage in passages]
    return storable("\n".join(texts))[:DICTIONARY].encode() or b" "


def _hashes(passage: Passage) -> set[int]:
    """The hashes by which a passage is found, for the table `lookup`."""
    found = {name_hash("=", passage.name)}
    if passage.kind in ("section", "topic"):
        found.add(name_hash("#", plain_words(passage.name)))
    if passage.kind != "section":
        head, _, last = passage.name.rpartition(".")
        found |= {name_hash(".", last.lower()), name_hash("<", head)}
    return found


def _columns(passage: Passage, phrases: str) -> tuple[str, ...]:
    """The texts of a passage that are searched, in the column order of the full-text index."""
    scope = f"corpus{passage.corpus} in{scope_key(passage.package)}"
    if passage.corpus == "python":
        scope += f" in{scope_key(passage.name.partition('.')[0])}"
    title = f"{passage.title} {passage.signature}"
    return words_of(passage.name), title, summary_of(passage.text), passage.text, phrases, scope


def _place(file: str, first: int, last: int) -> int:
    return name_hash("", f"{file}:{first}:{last}")


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
