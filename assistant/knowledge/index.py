"""The index of documentation: one SQLite file with all passages, their names and a full-text index.

`Index` looks passages up by name, by similar name and by words; `search/search.py` ranks what it returns.
`index_writer.py` fills it.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import heapq
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from assistant.knowledge.passage import Passage, Raised

BUSY_SECONDS = 10.0
SIMILAR_NAMES = 300  # the names that share the most letters with an unknown one
LIKELY_NAMES = 15  # the names that are compared letter by letter with an unknown one
MOST_COUNTS = 20_000  # word counts that are kept in memory


class IndexFailed(Exception):
    """The index cannot be written or read; the text is a sentence for people."""


class IndexBroken(IndexFailed):
    """The file of the index is damaged and must be made again."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was looked up in the index."""

    id: int
    passage: Passage
    uses: int  # how often the code that was read calls it
    phrases: str = ""  # the phrases by which people ask for it, one a line
    score: float = 0.0  # of the full-text search, higher is better; 0 for a look-up by name


class ColumnWeights(NamedTuple):
    """How much a word counts in each column of the full-text index."""

    words: float = 8.0
    title: float = 2.0
    summary: float = 4.0
    text: float = 1.0
    phrases: float = 10.0


# A row of `source` is what is read and stored as one: a module of the standard library, a package or a file.
SCHEMA = """
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
-- A hash of the file and lines of each example.
CREATE TABLE example_at (passage_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
CREATE INDEX passage_source ON passage (source_id);
CREATE INDEX passage_name ON passage (name);
CREATE TABLE alias (source_id INTEGER NOT NULL, alias TEXT NOT NULL, name TEXT NOT NULL);
CREATE INDEX alias_source ON alias (source_id);
CREATE INDEX alias_alias ON alias (alias);
-- Every name in lower case with its parts reversed, "join.path.os", so that it is found by its ending.
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
def code_version() -> str:
    """A checksum of the code that reads and writes the index; an index of another version is made again. The
    full-text index keeps no text, so only the code that inserted an entry can delete it."""
    here = Path(__file__)
    return str(zlib.crc32(here.read_bytes() + here.with_name("index_writer.py").read_bytes()))


_FIELDS = (
    "name, kind, ifnull(heading, name), passage.text, package, version, licence, location, corpus, "
    "signature, example, example_location, url"
)
_COLUMNS = f"passage.id, uses, passage.phrases, {_FIELDS}"


class Index:
    """The index in the file `path`, opened read-only, for use in one thread. Raises `IndexFailed` if there is
    no index, or one of another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: dict[str, int] = {}  # passages by word at `_counts_version`; "" counts all passages
        self._counts_version: tuple[int, int] | None = None
        self._known_words: frozenset[str] | None = None
        try:
            self.connection = self._connect()
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(self.connection.close)
                if self.meta("schema") != code_version():
                    raise IndexFailed(f"{path} is an index of another version of this program.")
                on_failure.pop_all()
        except sqlite3.Error as error:
            raise self.failed(error) from error

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

    # The whole index

    def meta(self, key: str) -> str | None:
        """A fact about the whole index, such as `library`: the Python version whose library it contains."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def count(self) -> int:
        """The number of passages."""
        return self._counted("", "SELECT count(*) FROM passage")

    def covers(self) -> list[str]:
        """What the index has passages of, with versions: Python, packages and folders of documentation."""
        # The first passage of each source is enough, since a source has one package.
        rows = self.connection.execute(
            "SELECT DISTINCT package, version FROM passage "
            "WHERE id IN (SELECT min(id) FROM passage GROUP BY source_id) ORDER BY id"
        )
        return list(dict.fromkeys(" ".join(filter(None, row)) for row in rows))

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint that each unit had when it was read, by the unit's key."""
        return dict(self.connection.execute("SELECT key, fingerprint FROM source").fetchall())

    # Looking up

    def named(self, name: str) -> list[Hit]:
        """The passages with this name or alias. Case matters."""
        found = self._hits("WHERE name = ? ORDER BY passage.id", (name,))
        return found or self._hits(
            "WHERE name IN (SELECT name FROM alias WHERE alias = ?) ORDER BY uses DESC, passage.id", (name,)
        )

    def ending(self, name: str, limit: int = 20) -> list[Hit]:
        """The passages whose dotted name ends with `name` (`path.join`, `join`), in any case. Whole names
        come first, then the most used."""
        turned = reversed_name(name)
        return self._hits(
            "JOIN ending ON ending.passage_id = passage.id WHERE turned >= ? AND turned < ? "
            "AND substr(turned, ?, 1) IN ('', '.') "
            "ORDER BY turned = ? DESC, uses DESC, length(turned) - length(replace(turned, '.', '')) LIMIT ?",
            (turned, f"{turned}/", len(turned) + 1, turned, limit),
        )

    def within(self, name: str, limit: int = 200) -> list[Hit]:
        """The passages one level below a module or class, the most used first."""
        return self._hits(
            "WHERE name > ? AND name < ? AND instr(substr(name, ?), '.') = 0 ORDER BY uses DESC LIMIT ?",
            (f"{name}.", f"{name}/", len(name) + 2, limit),
        )

    def similar_names(self, name: str, limit: int = 5) -> list[str]:
        """The names that are spelled most like an unknown one, most similar first."""
        wanted = name.lower()
        grams = {wanted[start : start + 3] for start in range(len(wanted) - 2)}
        if not grams:
            return []
        last = wanted.rpartition(".")[2]
        # A long last part says more than the module, all of whose names would match.
        telling = {last[start : start + 3] for start in range(len(last) - 2)} if len(last) > 5 else grams
        shared: Counter[tuple[int]] = Counter()
        for gram in telling:
            shared.update(
                self.connection.execute("SELECT rowid FROM near WHERE near MATCH ?", (_quoted(gram),))
            )
        head = name.rpartition(".")[0]
        candidates = {hit.passage.name for hit in self.within(head)} if head else set()
        for number, count in shared.most_common(SIMILAR_NAMES):
            if count * 4 < len(telling):
                break
            candidates.update(
                self.connection.execute("SELECT name FROM passage WHERE id = ?", number).fetchone()
            )
        scored = [
            (sum(gram in name.lower() for gram in grams) / (len(grams) + len(name)), name)
            for name in candidates
        ]
        close = []
        for _, found in heapq.nlargest(LIKELY_NAMES, scored):
            small = found.lower()
            whole = difflib.SequenceMatcher(a=small, b=wanted).ratio()
            part = difflib.SequenceMatcher(a=small.rpartition(".")[2], b=last).ratio()
            likeness = max(whole, part if not head else (whole + part) / 2)
            if head and found.rpartition(".")[0] == head:
                likeness += 0.1  # it is in the module that was named
            close.append((likeness, found))
        close.sort(key=lambda pair: (-pair[0], len(pair[1])))
        return [found for likeness, found in close if likeness >= 0.6][:limit]

    def matching(
        self,
        query: str,
        limit: int = 50,
        *,
        weights: ColumnWeights = ColumnWeights(),  # noqa: B008 - a value that cannot change
        corpora: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The passages that match an FTS5 query, ranked by weighted BM25, best first."""
        where, values = "", list(corpora or ())
        if values:
            where = f"AND rowid IN (SELECT id FROM passage WHERE corpus IN ({', '.join('?' * len(values))}))"
        # Tens of thousands of passages may match, so the rows are fetched for the best alone.
        rows = self.connection.execute(
            f"SELECT {_COLUMNS}, -score FROM (SELECT rowid, bm25(search, ?, ?, ?, ?, ?) AS score FROM search "
            f"WHERE search MATCH ? {where} ORDER BY score LIMIT ?) AS hit "
            "JOIN passage ON passage.id = hit.rowid ORDER BY score",
            (*weights, query, *values, limit),
        )
        return [_hit(row[:-1], row[-1]) for row in rows]

    def frequency(self, word: str) -> int:
        """How many passages contain a word, with any ending."""
        return self._counted(word, "SELECT count(*) FROM search WHERE search MATCH ?", _quoted(word))

    def version(self) -> tuple[int, int]:
        """A value that changes with the index; compare it only within this connection."""
        elsewhere = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return elsewhere, self.connection.total_changes

    def known_words(self) -> frozenset[str]:
        """The longer words of all names and phrases, in lower case, to correct misspelt words by. Kept in
        memory until the index changes."""
        self._refresh()
        if self._known_words is None:
            rows = self.connection.execute(
                "SELECT name FROM passage UNION ALL SELECT phrases FROM passage WHERE phrases != ''"
            )
            text = "\n".join(text for (text,) in rows)
            self._known_words = frozenset(map(str.lower, _LONG_WORD.findall(text)))
        return self._known_words

    def _counted(self, word: str, statement: str, *values: str) -> int:
        """A count, kept in memory until the index changes: to count a common word takes as long as to search
        for it, and people ask with few different words."""
        self._refresh()
        if word not in self._counts:
            self._counts[word] = int(self.connection.execute(statement, values).fetchone()[0])
        return self._counts[word]

    def _refresh(self) -> None:
        """Drop the counts of an earlier version of the index."""
        version = self.version()
        if version != self._counts_version or len(self._counts) > MOST_COUNTS:
            self._counts.clear()
            self._counts_version, self._known_words = version, None

    def at(self, file: str, line: int) -> list[Hit]:
        """The passages that a file ("json/decoder.py") defines at or before a line, the nearest first."""
        top = file.partition("/")[0].removesuffix(".py")
        found = self._hits(
            "WHERE source_id IN (SELECT DISTINCT source_id FROM (SELECT source_id FROM passage "
            "WHERE name >= ? AND name < ? LIMIT 2000)) AND location > ? AND location < ?",
            (top, f"{top}/", f"{file}:", f"{file};"),
        )
        numbered = [(int(hit.passage.location.rpartition(":")[2]), hit) for hit in found]
        return [hit for number, hit in sorted(numbered, key=lambda pair: -pair[0]) if number <= line]

    def raised_like(self, message: str, package: str = "", limit: int = 20) -> list[Raised]:
        """The `raise` statements whose messages share words with this one; none are in the index yet."""
        return []

    def _hits(self, rest: str, values: Sequence[object]) -> list[Hit]:
        rows = self.connection.execute(f"SELECT {_COLUMNS} FROM passage {rest}", values)
        return [_hit(row) for row in rows]


def _quoted(word: str) -> str:
    """A word as a term of an FTS5 query."""
    return '"' + word.replace('"', '""') + '"'


_LONG_WORD = re.compile(r"[A-Za-z]?[a-z]{4,}")


def _hit(row: Sequence[Any], score: float = 0.0) -> Hit:
    number, uses, phrases, name, kind, heading, text, *rest = row
    return Hit(number, Passage(name, kind, heading, decompress(text), *rest), uses, phrases, score)


def decompress(data: bytes) -> str:
    return zlib.decompress(data).decode()


def reversed_name(name: str) -> str:
    """The parts of a dotted name in lower case, the last first."""
    return ".".join(reversed(name.lower().split(".")))
