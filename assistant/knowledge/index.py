"""The index of documentation: one SQLite file with all passages, their names and a full-text index.

`Index` looks passages up by name, by similar name and by words; `search/search.py` ranks what it returns.
`index_writer.py` fills it.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import heapq
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
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
# Its passages have the ids from `first` to `last`, and share the fields that are stored here. The one row of
# `dictionary` is text that all texts are compressed with.
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE dictionary (words BLOB NOT NULL);
CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    corpus TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    root TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    licence TEXT NOT NULL,
    url TEXT NOT NULL,
    imported TEXT NOT NULL, -- the names by which code imports the package, separated by blanks
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    usage BLOB
);
CREATE TABLE passage (
    id INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    heading TEXT, -- NULL: the name
    text BLOB NOT NULL, -- with the signature, compressed
    location TEXT NOT NULL,
    example TEXT, -- with its place; NULL if there is none
    url TEXT, -- NULL: that of the source
    uses INTEGER NOT NULL DEFAULT 0,
    phrases TEXT -- NULL if there are none
);
-- A hash of the file and lines of each example.
CREATE TABLE example_at (passage_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
-- Hashes (`name_hash`) of each name, of its last part, and of what is before that.
CREATE TABLE lookup (hash INTEGER NOT NULL, passage_id INTEGER NOT NULL,
    PRIMARY KEY (hash, passage_id)) WITHOUT ROWID;
CREATE TABLE alias (hash INTEGER NOT NULL, target INTEGER NOT NULL, source_id INTEGER NOT NULL,
    PRIMARY KEY (hash, target, source_id)) WITHOUT ROWID;
CREATE VIRTUAL TABLE near USING fts5 (
    name, content = '', tokenize = 'trigram', columnsize = 0, detail = 'none'
);
-- `scope` has the corpus, the key of the package (`scope_key`) and, for Python's library, of the module.
CREATE VIRTUAL TABLE search USING fts5 (
    words, title, summary, text, phrases, scope,
    content = '', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TABLE raised (id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL, statement BLOB NOT NULL);
CREATE INDEX raised_source ON raised (source_id);
-- `package` has the key of the package (`scope_key`).
CREATE VIRTUAL TABLE raised_message USING fts5 (message, package, content = '');
"""


@functools.cache
def code_version() -> str:
    """A checksum of the code that reads and writes the index; an index of another version is made again. The
    full-text index keeps no text, so only the code that inserted an entry can delete it."""
    here = Path(__file__)
    return str(zlib.crc32(here.read_bytes() + here.with_name("index_writer.py").read_bytes()))


_COLUMNS = (
    "passage.id, uses, phrases, name, kind, ifnull(heading, name), text, package, version, licence, "
    "location, corpus, example, ifnull(passage.url, source.url)"
)
_TABLES = "source JOIN passage ON source.id = source_id"


class Index:
    """The index in the file `path`, opened read-only, for use in one thread. Raises `IndexFailed` if there is
    no index, or one of another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: dict[str, int] = {}  # passages by word at `_counts_version`; "" counts all passages
        self._counts_version: tuple[int, int] | None = None
        self._known_words: frozenset[str] | None = None
        self._packages: Mapping[str, frozenset[str]] | None = None
        self._dictionary = b""
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
        rows = self.connection.execute("SELECT package, version FROM source WHERE package != '' ORDER BY id")
        return list(dict.fromkeys(" ".join(filter(None, row)) for row in rows))

    def packages(self) -> Mapping[str, frozenset[str]]:
        """The names by which people call the packages and folders, as keys (`scope_key`); for each, the
        names of those that it may mean. Kept in memory until the index changes."""
        self._refresh()
        if self._packages is None:
            found: dict[str, set[str]] = {}
            rows = self.connection.execute(
                "SELECT DISTINCT package, corpus, imported, root FROM source "
                "WHERE package NOT IN ('', 'Python')"
            )
            for package, corpus, imported, root in rows:
                folders = [Path(root).name] if corpus == "docs" else []
                for name in (package, *imported.split(), *folders):
                    found.setdefault(scope_key(name), set()).add(package)
            # People say "jinja" for jinja2.
            short = {key.rstrip("0123456789"): names for key, names in found.items()}
            self._packages = {key: frozenset(names) for key, names in {**short, **found}.items() if key}
        return self._packages

    def only_package(self) -> str:
        """The package or folder that all passages belong to; "" if there are several, or Python's library."""
        names = frozenset[str]().union(*self.packages().values())
        return next(iter(names)) if len(names) == 1 and not self.meta("library") else ""

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint that each unit had when it was read, by the unit's key."""
        return dict(self.connection.execute("SELECT key, fingerprint FROM source").fetchall())

    def all(self) -> list[Hit]:
        """All passages, in the order in which they were stored."""
        return self._hits("ORDER BY passage.id", ())

    # Looking up

    def numbered(self, number: int) -> Hit:
        """The passage with this number."""
        return self._hits("WHERE passage.id = ?", (number,))[0]

    def named(self, name: str) -> list[Hit]:
        """The passages with this name or alias. Case matters."""
        whole = name_hash("=", name)
        found = self._looked_up((whole,), "ORDER BY passage.id")
        if found:
            return [hit for hit in found if hit.passage.name == name]
        rows = self.connection.execute("SELECT target FROM alias WHERE hash = ?", (whole,)).fetchall()
        return self._looked_up([target for (target,) in rows], "ORDER BY uses DESC, passage.id")

    def headed(self, text: str) -> list[Hit]:
        """The sections whose heading has just the words of this text."""
        return self._looked_up((name_hash("#", plain_words(text)),), "ORDER BY passage.id LIMIT 8")

    def ending(self, name: str, limit: int = 20) -> list[Hit]:
        """The passages whose dotted name ends with `name` (`path.join`, `join`), in any case. Whole names
        come first, then the most used."""
        wanted = name.lower()
        rows = self.connection.execute(
            "SELECT id, uses, name FROM lookup JOIN passage ON id = passage_id WHERE hash = ?",
            (name_hash(".", wanted.rpartition(".")[2]),),
        )
        found = [
            (found != wanted, -uses, found.count("."), number)
            for number, uses, found in ((number, uses, found.lower()) for number, uses, found in rows)
            if wanted and f".{found}".endswith(f".{wanted}")
        ]
        chosen = [number for *_, number in heapq.nsmallest(limit, found)]
        hits = {hit.id: hit for hit in self._hits(f"WHERE passage.id IN ({_marks(chosen)})", chosen)}
        return [hits[number] for number in chosen]

    def within(self, name: str, limit: int = 200) -> list[Hit]:
        """The passages one level below a module or class, the most used first."""
        return self._looked_up((name_hash("<", name),), "ORDER BY uses DESC, passage.id LIMIT ?", limit)

    def _looked_up(self, hashes: Sequence[int], order: str, *values: int) -> list[Hit]:
        chosen = f"SELECT passage_id FROM lookup WHERE hash IN ({_marks(hashes)})"
        return self._hits(f"WHERE passage.id IN ({chosen}) {order}", (*hashes, *values))

    def first_of(self, package: str, limit: int = 4) -> list[Hit]:
        """The passages that say what a package is: that of its main module, and the first sections."""
        rows = self.connection.execute(
            f"SELECT passage.id FROM {_TABLES} WHERE package = ? "
            "AND (kind = 'section' OR kind = 'module' AND instr(name, '.') = 0) "
            "ORDER BY kind = 'module' DESC, (name LIKE '%introduction%' OR name LIKE '%overview%' "
            "OR location LIKE '%readme%' OR location LIKE 'index.%') DESC, passage.id LIMIT ?",
            (package, limit),
        ).fetchall()
        return [self.numbered(number) for (number,) in rows]

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
        scope: Sequence[str] = (),
        corpora: Sequence[str] = (),
    ) -> list[Hit]:
        """The passages that match an FTS5 query, ranked by weighted BM25, best first. `scope` restricts the
        search to packages, or to modules of Python's library, by their keys (`scope_key`)."""
        # Tens of thousands of passages may match, so the rows are fetched for the best alone.
        rows = self.connection.execute(
            f"SELECT {_COLUMNS}, -score FROM (SELECT rowid, bm25(search, ?, ?, ?, ?, ?, 0) AS score "
            "FROM search WHERE search MATCH ? ORDER BY score LIMIT ?) AS hit "
            f"JOIN {_TABLES} WHERE passage.id = hit.rowid ORDER BY score",
            (*weights, _within(scope, query, corpora), limit),
        )
        return [self._hit(row[:-1], row[-1]) for row in rows]

    def frequency(self, word: str, scope: Sequence[str] = (), corpora: Sequence[str] = ()) -> int:
        """How many passages contain a word, with any ending; of those in the scope, if one is given."""
        query = _within(scope, f"- scope : {_quoted(word)}", corpora)
        return self._counted(query, "SELECT count(*) FROM search WHERE search MATCH ?", query)

    def size(self, scope: Sequence[str]) -> int:
        """How many passages a scope has."""
        query = _within(scope, "")
        return self._counted(query, "SELECT count(*) FROM search WHERE search MATCH ?", query)

    def raised_like(self, message: str, package: str = "", limit: int = 20) -> list[Raised]:
        """The `raise` statements whose messages share the rarest words with this one, best first; with
        `package`, only those of that package."""
        words = list(dict.fromkeys(re.findall(r"[^\W_]+", message.lower())))[:40]
        if not words:
            return []
        query = f"message : ({' OR '.join(map(_quoted, words))})"
        if package:
            query += f" AND package : {_quoted(scope_key(package))}"
        rows = self.connection.execute(
            "SELECT statement FROM (SELECT rowid, rank FROM raised_message WHERE raised_message MATCH ? "
            "ORDER BY rank LIMIT ?) AS hit JOIN raised ON raised.id = hit.rowid ORDER BY hit.rank",
            (query, limit),
        )
        return [Raised(*self.unpacked(statement)) for (statement,) in rows]

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
                "SELECT name FROM passage UNION ALL SELECT phrases FROM passage WHERE phrases IS NOT NULL"
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
            self._counts_version, self._known_words, self._packages = version, None, None

    def at(self, file: str, line: int) -> list[Hit]:
        """The passages that a file ("json/decoder.py") defines at or before a line, the nearest first."""
        top = file.partition("/")[0].removesuffix(".py")
        spans = self.connection.execute(
            "SELECT first, last FROM source WHERE key = ? OR ' ' || imported || ' ' LIKE ?",
            (f"python:{top}", f"% {top} %"),
        ).fetchall()
        within = "WHERE passage.id BETWEEN ? AND ? AND location > ? AND location < ?"
        found = [hit for span in spans for hit in self._hits(within, (*span, f"{file}:", f"{file};"))]
        numbered = [(int(hit.passage.location.rpartition(":")[2]), hit) for hit in found]
        return [hit for number, hit in sorted(numbered, key=lambda pair: -pair[0]) if number <= line]

    def _hits(self, rest: str, values: Sequence[object]) -> list[Hit]:
        rows = self.connection.execute(f"SELECT {_COLUMNS} FROM {_TABLES} {rest}", values)
        return [self._hit(row) for row in rows]

    def _hit(self, row: Sequence[Any], score: float = 0.0) -> Hit:
        number, uses, phrases, name, kind, heading, packed, package, version, licence, *rest = row
        location, corpus, example, url = rest
        text, signature = self.unpacked(packed)
        place, _, example = (example or "").partition("\0")
        origin = (package, version, licence, location, corpus)
        passage = Passage(name, kind, heading, text, *origin, signature, example, place, url)
        return Hit(number, passage, uses, phrases or "", score)

    # Compressed texts: most are so short that they need a dictionary of what other texts have in common

    def packed(self, *texts: str) -> bytes:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=self._shared_words())
        return packer.compress("\0".join(texts).encode()) + packer.flush()

    def unpacked(self, data: bytes) -> list[str]:
        unpacker = zlib.decompressobj(-15, zdict=self._shared_words())
        return unpacker.decompress(data).decode().split("\0")

    def _shared_words(self) -> bytes:
        if not self._dictionary:
            row = self.connection.execute("SELECT words FROM dictionary").fetchone()
            self._dictionary = row[0] if row else b""
        return self._dictionary


def _quoted(word: str) -> str:
    """A word as a term of an FTS5 query."""
    return '"' + word.replace('"', '""') + '"'


def scope_key(name: str) -> str:
    """A package's name as a key, since people write it in several ways: "Flask-SQLAlchemy" is
    `flasksqlalchemy`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _within(scope: Sequence[str], query: str, corpora: Sequence[str] = ()) -> str:
    """An FTS5 query, restricted to a scope and to corpora."""
    parts = [
        f"scope : ({' OR '.join(f'{mark}{name}' for name in names)})"
        for mark, names in (("in", scope), ("corpus", corpora))
        if names
    ]
    return " AND ".join([*parts, f"({query})"] if query else parts)


_LONG_WORD = re.compile(r"[A-Za-z]?[a-z]{4,}")


def name_hash(part: str, name: str) -> int:
    """What `lookup` has of a name: "=" with the whole name, "." with its last part in lower case, "<" with
    what is before that; of a heading also "#" with its `plain_words`."""
    digest = hashlib.blake2b(f"{part}{name}".encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def plain_words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
