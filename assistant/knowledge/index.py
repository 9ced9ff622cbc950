"""The index of documentation: one SQLite file with every passage, its names and a full-text index.

Knows its tables, how a source is written and taken away again, and how to look up by name, by near name and
by words. Refuses to know how documentation is read and what makes one passage a better answer than another:
readers give it passages, `search.py` ranks what it hands out.

Writing is by source (a module of the standard library, a package, a file of a folder): each has a
fingerprint, and a source whose fingerprint is known is not read again. Every `put` is one transaction, so a
reader sees a source whole or not at all, and a build that was killed goes on where it stood.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import re
import sqlite3
import textwrap
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from assistant.knowledge.passage import Passage
from assistant.knowledge.python_code import SourceUnreadable, Use, read_text

LONGEST_TEXT = 6000  # characters of a passage that are kept
BUSY_SECONDS = 10.0
ALIKE_NAMES = 300  # that share the most letters with one that is not there
LIKELY_NAMES = 15  # that are compared letter by letter with one that is not there
MOST_COUNTS = 20_000  # that are remembered

SELF_USE = 4  # so many calls within the package that offers a name count as one


class IndexFailed(Exception):
    """The index cannot be written or read; the text is a sentence for people."""


class IndexBroken(IndexFailed):
    """The file of the index is damaged; it is of no use any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A passage as it stands in the index."""

    id: int
    passage: Passage
    uses: int  # calls of it that were counted in the code that was read
    phrases: str = ""  # words by which people ask for it, a line each
    score: float = 0.0  # of the full-text search: bigger is better; 0 for a look-up by name


@dataclass(frozen=True, slots=True)
class Batch:
    """What reading one source gave."""

    passages: Sequence[Passage]
    aliases: Sequence[tuple[str, str]] = ()  # another name, and the name of the passage
    usage: Mapping[str, Mapping[str, Use]] = field(default_factory=dict)  # by file, by name called
    unread: int = 0  # files that could not be read
    problems: Sequence[str] = ()  # what else was left out, in sentences for people


@dataclass(frozen=True, slots=True)
class Source:
    """A module of the standard library, a package or a file, and what reading it gave."""

    key: str
    corpus: str
    fingerprint: str  # of what was read: the same as long as reading again would give the same
    root: str  # the folder that locations in it are relative to
    batch: Batch


@dataclass(frozen=True, slots=True)
class Weights:
    """How much a word counts in each column of the full-text index."""

    words: float = 8.0
    title: float = 2.0
    summary: float = 4.0
    text: float = 1.0
    phrases: float = 10.0


_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    corpus TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    root TEXT NOT NULL,
    usage BLOB
);
CREATE TABLE passage (
    id INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL REFERENCES source (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    heading TEXT, -- NULL: the name
    text BLOB NOT NULL, -- compressed
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    licence TEXT NOT NULL,
    location TEXT NOT NULL,
    corpus TEXT NOT NULL,
    signature TEXT NOT NULL,
    example TEXT NOT NULL,
    example_location TEXT NOT NULL,
    url TEXT NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0,
    phrases TEXT NOT NULL
);
-- A hash of where each example stands.
CREATE TABLE example_at (passage_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
CREATE INDEX passage_source ON passage (source_id);
CREATE INDEX passage_name ON passage (name);
CREATE TABLE alias (source_id INTEGER NOT NULL, alias TEXT NOT NULL, name TEXT NOT NULL);
CREATE INDEX alias_source ON alias (source_id);
CREATE INDEX alias_alias ON alias (alias);
-- Every name in small letters with its parts turned round, to be found by its ending: "join.path.os".
CREATE TABLE ending (turned TEXT NOT NULL, passage_id INTEGER NOT NULL,
    PRIMARY KEY (turned, passage_id)) WITHOUT ROWID;
CREATE VIRTUAL TABLE near USING fts5 (
    name, content = '', tokenize = 'trigram', columnsize = 0, detail = 'none'
);
CREATE VIRTUAL TABLE search USING fts5 (
    words, title, summary, text, phrases,
    content = '', tokenize = 'porter unicode61 remove_diacritics 2'
);
"""


@functools.cache
def _version() -> str:
    """Of the tables and of what is put into them; an index of another is made anew.

    All of this module counts: the full-text index keeps no copy of a text, so what is taken away must be
    made from the passage by the very code that put it in.
    """
    return str(zlib.crc32(Path(__file__).read_bytes()))


_FIELDS = (
    "name, kind, ifnull(heading, name), passage.text, package, version, licence, location, corpus, "
    "signature, example, example_location, url"
)
_COLUMNS = f"passage.id, uses, passage.phrases, {_FIELDS}"


class Index:
    """The file at `path`, opened read-only; not for more than one thread.

    Raises `IndexFailed` where there is no index of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: dict[str, int] = {}  # of what `_counts_of` was read at, by word; "" is all
        self._counts_of: tuple[int, int] | None = None
        self._spelled: frozenset[str] | None = None
        try:
            self.connection = self._connect()
        except sqlite3.Error as error:
            raise self.failed(error) from error
        try:
            if self.meta("schema") != _version():
                raise IndexFailed(f"{path} is an index of another version of this program.")
        except sqlite3.Error as error:
            self.connection.close()
            raise self.failed(error) from error
        except IndexFailed:
            self.connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA mmap_size = 268435456")
        return connection

    def failed(self, error: Exception) -> IndexFailed:
        return IndexFailed(f"The index of documentation {self.path} cannot be read: {error}.")

    def close(self) -> None:
        self.connection.close()

    # What is there

    def meta(self, key: str) -> str | None:
        """A fact about the whole index, such as `library`: the Python whose standard library is all in."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def count(self) -> int:
        """How many passages there are."""
        return self._counted("", "SELECT count(*) FROM passage")

    def fingerprints(self) -> dict[str, str]:
        """The sources, by key, with the fingerprint that each had when it was read."""
        return dict(self.connection.execute("SELECT key, fingerprint FROM source").fetchall())

    # Looking up

    def named(self, name: str) -> list[Entry]:
        """The passages of that very name, or of the name that it is another name for. Case counts."""
        found = self._entries("WHERE name = ? ORDER BY passage.id", (name,))
        return found or self._entries(
            "WHERE name IN (SELECT name FROM alias WHERE alias = ?) ORDER BY uses DESC, passage.id", (name,)
        )

    def ending(self, name: str, limit: int = 20) -> list[Entry]:
        """The passages whose dotted name ends so (`path.join`, `join`), in any case; whole names first,
        then those that are used most."""
        turned = turned_round(name)
        return self._entries(
            "JOIN ending ON ending.passage_id = passage.id WHERE turned >= ? AND turned < ? "
            "AND substr(turned, ?, 1) IN ('', '.') "
            "ORDER BY turned = ? DESC, uses DESC, length(turned) - length(replace(turned, '.', '')) LIMIT ?",
            (turned, f"{turned}/", len(turned) + 1, turned, limit),
        )

    def within(self, name: str, limit: int = 200) -> list[Entry]:
        """The passages one level below a module or class, those that are used most first."""
        return self._entries(
            "WHERE name > ? AND name < ? AND instr(substr(name, ?), '.') = 0 ORDER BY uses DESC LIMIT ?",
            (f"{name}.", f"{name}/", len(name) + 2, limit),
        )

    def near(self, name: str, limit: int = 5) -> list[str]:
        """Names that are spelled nearly so, nearest first; for a name that is not there."""
        wanted = name.lower()
        grams = {wanted[start : start + 3] for start in range(len(wanted) - 2)}
        if not grams:
            return []
        last = wanted.rpartition(".")[2]
        # A long last part tells more than the module, whose every name would be looked at.
        telling = {last[start : start + 3] for start in range(len(last) - 2)} if len(last) > 5 else grams
        shared: Counter[int] = Counter()
        for gram in telling:
            quoted = '"' + gram.replace('"', '""') + '"'
            rows = self.connection.execute("SELECT rowid FROM near WHERE near MATCH ?", (quoted,))
            shared.update(number for (number,) in rows)
        head = name.rpartition(".")[0]
        beside = [entry.passage.name for entry in self.within(head)] if head else []
        alike = dict.fromkeys(beside)
        for number, count in shared.most_common(ALIKE_NAMES):
            if count * 4 < len(telling):
                break
            row = self.connection.execute("SELECT name FROM passage WHERE id = ?", (number,)).fetchone()
            alike[row[0]] = None
        scored = []
        for found in alike:
            small = found.lower()
            scored.append((sum(gram in small for gram in grams) / (len(grams) + len(small)), found))
        scored.sort(reverse=True)
        ratio = difflib.SequenceMatcher(b=wanted)
        close = []
        for _, found in scored[:LIKELY_NAMES]:
            small = found.lower()
            ratio.set_seq1(small)
            whole = ratio.ratio()
            part = difflib.SequenceMatcher(a=small.rpartition(".")[2], b=last).ratio()
            likeness = max(whole, part if not head else (whole + part) / 2)
            if head and found.rpartition(".")[0] == head:
                likeness += 0.1  # the module was right
            close.append((likeness, found))
        close.sort(key=lambda pair: (-pair[0], len(pair[1])))
        return [found for likeness, found in close if likeness >= 0.6][:limit]

    def matching(
        self,
        query: str,
        limit: int = 50,
        *,
        weights: Weights | None = None,
        corpora: Sequence[str] | None = None,
    ) -> list[Entry]:
        """The passages that an FTS5 query matches, by weighted BM25, best first."""
        by = weights or Weights()
        where, values = "", list(corpora or ())
        if values:
            where = f"AND rowid IN (SELECT id FROM passage WHERE corpus IN ({', '.join('?' * len(values))}))"
        # Passages are looked up of the best alone: there may be tens of thousands that match.
        rows = self.connection.execute(
            f"SELECT {_COLUMNS}, -score FROM (SELECT rowid, bm25(search, ?, ?, ?, ?, ?) AS score FROM search "
            f"WHERE search MATCH ? {where} ORDER BY score LIMIT ?) AS hit "
            "JOIN passage ON passage.id = hit.rowid ORDER BY score",
            (by.words, by.title, by.summary, by.text, by.phrases, query, *values, limit),
        )
        return [_entry(row[:-1], row[-1]) for row in rows]

    def frequency(self, word: str) -> int:
        """How many passages have a word, in any of its endings."""
        query = '"' + word.replace('"', '""') + '"'
        return self._counted(word, "SELECT count(*) FROM search WHERE search MATCH ?", query)

    def version(self) -> tuple[int, int]:
        """Another one when the index has changed; of this connection alone."""
        elsewhere = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return elsewhere, self.connection.total_changes

    def spelled(self) -> frozenset[str]:
        """The longer words of all names and phrases, in small letters: what a misspelt one may stand for.

        Remembered until the index has changed.
        """
        self._refresh()
        if self._spelled is None:
            rows = self.connection.execute(
                "SELECT name FROM passage UNION ALL SELECT phrases FROM passage WHERE phrases != ''"
            )
            self._spelled = frozenset(map(str.lower, _LONG_WORD.findall("\n".join(text for (text,) in rows))))
        return self._spelled

    def _counted(self, word: str, statement: str, *values: str) -> int:
        """A count, which is remembered until the index has changed: people ask in few words, and to count a
        common one takes as long as to search for it."""
        self._refresh()
        if word not in self._counts:
            self._counts[word] = int(self.connection.execute(statement, values).fetchone()[0])
        return self._counts[word]

    def _refresh(self) -> None:
        """Forget what was counted in an earlier version."""
        version = self.version()
        if version != self._counts_of or len(self._counts) > MOST_COUNTS:
            self._counts.clear()
            self._counts_of, self._spelled = version, None

    def _entries(self, rest: str, values: Sequence[object]) -> list[Entry]:
        return [
            _entry(row) for row in self.connection.execute(f"SELECT {_COLUMNS} FROM passage {rest}", values)
        ]


class IndexWriter(Index):
    """The file at `path`, for a build: made where there is none, and made anew where its schema is another
    or it is no database. Raises `IndexFailed` where it cannot be written or is a database of others, and
    `IndexBroken` where damage shows only while it is used."""

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._opened()
            except sqlite3.OperationalError:  # locked, read-only, full: nothing is wrong with what is there
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
                    raise IndexFailed(f"{self.path} is a database of something else, which is left alone.")
                if row[0] != _version():
                    raise sqlite3.DatabaseError("another schema")
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the last batches, which are read again; it never breaks the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            if not tables:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('schema', ?)", (_version(),))
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def failed(self, error: Exception) -> IndexFailed:
        kind = IndexBroken if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED else IndexFailed
        return kind(f"The index of documentation {self.path} cannot be written: {error}.")

    def check(self) -> None:
        """Raises `IndexBroken` where the file is damaged, which may be where nobody has looked yet."""
        (said,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise IndexBroken(f"The index of documentation {self.path} is damaged: {said}.")

    def is_counted(self) -> bool:
        """Whether `count_uses` has been called since sources have changed."""
        return self.meta("counted") is not None

    def set_meta(self, key: str, value: str) -> None:
        with self._transaction():
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def put(self, sources: Iterable[Source], phrases: Mapping[str, Sequence[str]] | None = None) -> None:
        """Sources as they are now, in place of what the index had of them; all of them or none.

        `phrases` are words by which people ask, by name.
        """
        known = phrases or {}
        with self._transaction():
            for source in sources:
                self._remove([source.key])
                usage = source.batch.usage
                packed = zlib.compress(json.dumps(usage, separators=(",", ":")).encode()) if usage else None
                number = self.connection.execute(
                    "INSERT INTO source (key, corpus, fingerprint, root, usage) VALUES (?, ?, ?, ?, ?)",
                    (source.key, source.corpus, source.fingerprint, source.root, packed),
                ).lastrowid
                names: dict[str, list[str]] = {}  # people may ask for it by another name
                for alias, name in source.batch.aliases:
                    names.setdefault(name, []).append(alias)
                for passage in source.batch.passages:
                    called = dict.fromkeys([passage.name, *names.get(passage.name, ())])
                    self._add(number, passage, [said for name in called for said in known.get(name, ())])
                self.connection.executemany(
                    "INSERT INTO alias VALUES (?, ?, ?)", [(number, *alias) for alias in source.batch.aliases]
                )

    def _add(self, source: int | None, passage: Passage, phrases: Sequence[str]) -> None:
        passage = _storable(passage)
        text, said = bounded(passage.text), "\n".join(phrases)
        row = self.connection.execute(
            "INSERT INTO passage (source_id, name, kind, heading, text, package, version, licence, location, "
            "corpus, signature, example, example_location, url, phrases) "
            f"VALUES ({', '.join('?' * 15)})",
            (
                *(source, passage.name, passage.kind),
                *(passage.title if passage.title != passage.name else None, _packed(text), passage.package),
                passage.version,
                *(passage.licence, passage.location, passage.corpus, passage.signature, passage.example),
                *(passage.example_location, passage.url, said),
            ),
        ).lastrowid
        self.connection.execute(
            "INSERT INTO search (rowid, words, title, summary, text, phrases) VALUES (?, ?, ?, ?, ?, ?)",
            (row, *_columns(passage.name, passage.title, passage.signature, text, said)),
        )
        if passage.kind != "section":
            self.connection.execute("INSERT INTO ending VALUES (?, ?)", (turned_round(passage.name), row))
            self.connection.execute("INSERT INTO near (rowid, name) VALUES (?, ?)", (row, passage.name))

    def tidy(self) -> None:
        """At the end of a build: what SQLite needs to know to look up quickly, and a short journal."""
        with contextlib.suppress(sqlite3.OperationalError):  # a reader is in the way: the next build does it
            self.connection.execute("PRAGMA optimize")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def forget(self, keys: Iterable[str]) -> None:
        """Takes sources away."""
        with self._transaction():
            self._remove(keys)

    def _remove(self, keys: Iterable[str]) -> None:
        run = self.connection.execute
        run("DELETE FROM meta WHERE key = 'counted'")
        for key in keys:
            found = run("SELECT id FROM source WHERE key = ?", (key,)).fetchone()
            if found is None:
                continue
            rows = "SELECT id FROM passage WHERE source_id = ?"
            passages = run(
                "SELECT id, kind, name, ifnull(heading, name), signature, text, phrases FROM passage "
                "WHERE source_id = ?",
                found,
            ).fetchall()
            # A full-text index without a copy of the text must be told what it forgets.
            self.connection.executemany(
                "INSERT INTO search (search, rowid, words, title, summary, text, phrases) "
                "VALUES ('delete', ?, ?, ?, ?, ?, ?)",
                [
                    (row, *_columns(name, heading, signature, _unpacked(text), said))
                    for row, _, name, heading, signature, text, said in passages
                ],
            )
            named = [(row, name) for row, kind, name, *_ in passages if kind != "section"]
            self.connection.executemany("INSERT INTO near (near, rowid, name) VALUES ('delete', ?, ?)", named)
            self.connection.executemany(
                "DELETE FROM ending WHERE turned = ? AND passage_id = ?",
                [(turned_round(name), row) for row, name in named],
            )
            run(f"DELETE FROM example_at WHERE passage_id IN ({rows})", found)
            run("DELETE FROM passage WHERE source_id = ?", found)
            run("DELETE FROM alias WHERE source_id = ?", found)
            run("DELETE FROM source WHERE id = ?", found)

    def count_uses(self) -> None:
        """Give each passage the number of calls of it that all sources have, and the best example of one.

        To be called when sources have changed. An example is read from its file, so it is word for word.
        """
        ids = self._ids()
        data = {
            name: number
            for number, name in self.connection.execute("SELECT id, name FROM passage WHERE kind = 'data'")
        }
        uses: dict[int, float] = {}
        best: dict[int, tuple[int, str, int, int]] = {}  # worth, file, lines
        rows = self.connection.execute("SELECT root, usage FROM source WHERE usage IS NOT NULL ORDER BY id")
        for root, packed in rows:
            for file, calls in json.loads(zlib.decompress(packed)).items():
                package = file.partition("/")[0].removesuffix(".py")
                for name, (count, first, last, worth) in calls.items():
                    itself = name.partition(".")[0] == package
                    # `os.environ.get` is a use of `os.environ` where nothing else is known of it.
                    found = ids.get(name) or data.get(name.rpartition(".")[0])
                    if found is None:
                        continue
                    uses[found] = uses.get(found, 0) + (count / SELF_USE if itself else count)
                    if first and worth > best.get(found, (0,))[0]:
                        best[found] = (worth, f"{root}\0{file}", first, last)
        self._write_uses(uses, best)

    def _ids(self) -> dict[str, int]:
        """The passage of each name and other name."""
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
        had: dict[int, int] = dict(run("SELECT passage_id, at FROM example_at").fetchall())
        by_file: dict[str, list[tuple[int, int, int]]] = {}
        for number, (_, file, first, last) in best.items():
            if had.get(number) != _hash(file, first, last):
                by_file.setdefault(file, []).append((number, first, last))
        with self._transaction():
            counted = dict(run("SELECT id, uses FROM passage WHERE uses > 0"))
            changed = [
                (round(uses.get(number, 0)), number)
                for number in {*uses, *counted}
                if round(uses.get(number, 0)) != counted.get(number, 0)
            ]
            self.connection.executemany("UPDATE passage SET uses = ? WHERE id = ?", changed)
            gone = [(number,) for number in had if number not in best]
            self.connection.executemany("UPDATE passage SET example = '' WHERE id = ?", gone)
            self.connection.executemany("DELETE FROM example_at WHERE passage_id = ?", gone)
            run("INSERT OR REPLACE INTO meta VALUES ('counted', '')")
            for file, places in by_file.items():
                root, _, path = file.partition("\0")
                try:
                    lines = read_text(Path(root, path)).split("\n")
                except SourceUnreadable:
                    continue
                for number, first, last in places:
                    text = textwrap.dedent("\n".join(lines[first - 1 : last]))
                    run(
                        "UPDATE passage SET example = ?, example_location = ? WHERE id = ?",
                        (text, f"{path}:{first}", number),
                    )
                    run(
                        "INSERT OR REPLACE INTO example_at VALUES (?, ?)",
                        (number, _hash(file, first, last)),
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
        except sqlite3.Error as error:
            raise self.failed(error) from error


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def remove(path: Path) -> None:
    """Take an index away; whoever reads it goes on with what it was."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _entry(row: Sequence[object], score: float = 0.0) -> Entry:
    number, uses, phrases, *values = row
    assert isinstance(number, int)
    assert isinstance(uses, int)
    name, kind, heading, text, *rest = values
    assert isinstance(text, bytes)
    passage = Passage(str(name), str(kind), str(heading), _unpacked(text), *map(str, rest))
    return Entry(number, passage, uses, str(phrases), score)


def _storable(passage: Passage) -> Passage:
    """The passage without what UTF-8 cannot hold: half a surrogate pair, from an escape in a string."""
    values = {each.name: getattr(passage, each.name) for each in fields(passage)}
    return Passage(**{name: text.encode("utf-8", "replace").decode() for name, text in values.items()})


def _columns(name: str, title: str, signature: str, text: str, phrases: str) -> tuple[str, ...]:
    """What of a passage is searched, in the order of the full-text index."""
    return words_of(name), f"{title} {signature}", summary_of(text), text, phrases


def _hash(*values: object) -> int:
    digest = hashlib.blake2b(repr(values).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode())


def _unpacked(data: bytes) -> str:
    return zlib.decompress(data).decode()


# Words

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W0-9_a-zA-Z]+")
_LONG_WORD = re.compile(r"[A-Za-z]?[a-z]{4,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`(])|\n\s*\n")


def words_of(name: str) -> str:
    """The words of a name: as it stands, and split at dots, underlines and capitals."""
    words = [name]
    for part in name.split("."):
        if part != name:
            words.append(part)
        split = [word.lower() for word in _WORD.findall(part)]
        if len(split) > 1:
            words.extend(split)
    return " ".join(words)


def turned_round(name: str) -> str:
    """The parts of a dotted name in small letters, the last first."""
    return ".".join(reversed(name.lower().split(".")))


def summary_of(text: str) -> str:
    """The first sentence."""
    return _SENTENCE.split(text.strip(), maxsplit=1)[0][:400]


def bounded(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text, cut at the end of a paragraph where it is too long; a line, where a paragraph is."""
    if len(text) <= longest:
        return text
    for end in ("\n\n", "\n"):
        cut = text.rfind(end, longest // 2, longest)
        if cut > 0:
            return text[:cut].rstrip()
    return text[:longest]
