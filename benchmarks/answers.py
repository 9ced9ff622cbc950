"""How often the search answers rightly, compared with plain BM25 over the same passages.

    .venv/bin/python -m benchmarks.answers [--kinds packages,errors] [--folders DIR] [--index FILE]
                                           [--failures tune]

The questions are in `benchmarks/questions/`. Those on the standard library are in two files: "library" is
`tests/knowledge/search/questions.toml`, and "needs" has others, which say what is needed without the words of
an API. Read the questions of the split "tune" while you work on the ranking, but never those of "measured".

The index covers the running Python and the packages that it has. It is built in a temporary folder, unless a
file is given. With `--folders`, where `benchmarks.corpora` has put its folders of documentation, the
questions about them are asked twice: each in an index of its folder alone ("folders"), and all in one index
of everything ("in one index").

`first`    how often the first passage is right. For errors: how often the whole answer helps: it explains
           the message, shows the signature of the call that failed, and names a fix or the place to look.
`three`    how often a right passage is among the first three (both, if the question asks for a difference)
`silent`   how often a question that has an answer gets none
`refused`  how often a question without an answer gets none, or is told that the name does not exist
"""

from __future__ import annotations

import argparse
import functools
import itertools
import operator
import re
import sqlite3
import sys
import tempfile
import time
import tomllib
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index
from assistant.knowledge.passage import Passage, SearchResult
from assistant.knowledge.search.search import search
from assistant.knowledge.search.words import STOP_WORDS
from benchmarks.judging import Entry, Verdict, judge

HERE = Path(__file__).parent
FILES = {
    "library": HERE.parent / "tests" / "knowledge" / "search" / "questions.toml",
    "needs": HERE / "questions" / "library.toml",
    **{
        kind: HERE / "questions" / f"{kind}.toml"
        for kind in ("packages", "errors", "refusals", "languages", "folders")
    },
}
SHOWN = 4  # passages that plain BM25 finds, as many as the search shows

Searcher = Callable[[str], SearchResult]


def questions(kind: str = "library") -> list[dict[str, Any]]:
    """The questions of a kind; each has the `row` of the table in which it counts."""
    entries = tomllib.loads(FILES[kind].read_text(encoding="utf-8"))["question"]
    if kind == "languages":
        twins = [entry | {"text": entry["english"], "row": "their twins"} for entry in entries]
        return [entry | {"row": kind} for entry in entries] + twins
    return [entry | {"row": entry["kind"] if kind == "refusals" else kind} for entry in entries]


# Searching


def ours(index: Index) -> Searcher:
    return functools.partial(search, index)


def plain(index: Index) -> Searcher:
    """Plain BM25 over title, name, signature and text. It always answers."""
    texts = sqlite3.connect(":memory:")
    texts.execute("CREATE VIRTUAL TABLE passage USING fts5 (text, content = '', tokenize = 'porter')")
    fields = operator.attrgetter("name", "title", "signature", "text")
    texts.executemany(
        "INSERT INTO passage (rowid, text) VALUES (?, ?)",
        ((hit.id, "\n".join(fields(hit.passage))) for hit in index.all()),
    )

    def find(question: str) -> SearchResult:
        words = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS]
        query = " OR ".join(f'"{word}"' for word in dict.fromkeys(words))
        best = "SELECT rowid FROM passage WHERE passage MATCH ? ORDER BY rank LIMIT ?"
        numbers = texts.execute(best, (query, SHOWN * 5)).fetchall() if words else []
        found = [index.numbered(number).passage for (number,) in numbers]
        different: dict[tuple[str, str], Passage] = {}
        for passage in found:
            different.setdefault((passage.name, passage.location), passage)
        return SearchResult(tuple(different.values())[:SHOWN])

    weakref.finalize(find, texts.close)
    return find


# Measuring


@dataclass(slots=True)
class Tally:
    """The verdicts on some questions, as numbers."""

    asked: int = 0
    first: int = 0
    three: int = 0
    silent: int = 0
    unknown: int = 0  # questions without an answer
    refused: int = 0

    def add(self, verdict: Verdict) -> None:
        self.asked += verdict.refused is None
        self.first += verdict.first
        self.three += verdict.three
        self.silent += verdict.silent
        self.unknown += verdict.refused is not None
        self.refused += bool(verdict.refused)

    def __str__(self) -> str:
        shares = [_share(part, self.asked) for part in (self.first, self.three, self.silent)]
        return " ".join([f"{self.asked + self.unknown:6}", *shares, _share(self.refused, self.unknown)])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:8.0%}" if whole else "       –"


@dataclass(slots=True)
class Outcome:
    """The tallies by row and split, the CPU time, and the questions with imperfect answers."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    seconds: float = 0.0
    asked: int = 0
    failures: list[tuple[Entry, SearchResult]] = field(default_factory=list)

    def of(self, split: str, row: str = "library") -> Tally:
        return self.tallies[row, split]


def measure(searcher: Searcher, entries: Iterable[Entry], outcome: Outcome | None = None) -> Outcome:
    """Ask the questions, and add the verdicts to an outcome."""
    outcome = outcome or Outcome()
    for entry in entries:
        started = time.process_time()
        result = searcher(entry["text"])
        outcome.seconds += time.process_time() - started
        outcome.asked += 1
        verdict = judge(entry, result)
        outcome.tallies[entry["row"], entry["split"]].add(verdict)
        if not verdict.is_perfect:
            outcome.failures.append((entry, result))
    return outcome


@contextmanager
def index_of(path: Path, folders: Sequence[Path], *, python: bool = True) -> Iterator[Index]:
    """An index of folders, and of the running Python with its packages."""
    environments = [Path(sys.prefix)] if python else []
    built = [Folder(folder) for folder in folders]
    build(path, lambda progress: None, environments=environments, folders=built, python=python)
    with closing(Index(path)) as index:
        yield index


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the search answers rightly.")
    parser.add_argument("--kinds", default=",".join(FILES), help=", ".join(FILES))
    parser.add_argument("--folders", type=Path, help="where the folders of documentation are")
    parser.add_argument("--index", type=Path, help="index to build or use; those of folders lie beside it")
    parser.add_argument("--failures", choices=["tune"], help="print the questions with imperfect answers")
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds.split(",") if FILES[kind].exists()]
    searchers = {"search": ours, "plain BM25": plain}
    outcomes = {name: Outcome() for name in searchers}
    of_folders = questions("folders") if options.folders and "folders" in kinds else []
    with tempfile.TemporaryDirectory() as temporary:
        path: Path = options.index or Path(temporary) / "documentation.db"

        def ask(file: Path, folders: Sequence[Path], entries: Sequence[Entry], *, python: bool) -> None:
            if entries:
                with index_of(file, folders, python=python) as index:
                    for name, searcher in searchers.items():
                        measure(searcher(index), entries, outcomes[name])

        without = [entry for kind in kinds if kind != "folders" for entry in questions(kind)]
        ask(path, [], without, python=True)
        folders = sorted({entry["folder"] for entry in of_folders})
        for folder in folders:
            entries = [entry for entry in of_folders if entry["folder"] == folder]
            ask(path.with_name(f"{path.stem}-{folder}.db"), [options.folders / folder], entries, python=False)
        everything = [entry | {"row": "in one index"} for entry in of_folders]
        all_folders = [options.folders / folder for folder in folders]
        ask(path.with_name(f"{path.stem}-everything.db"), all_folders, everything, python=True)
    report(outcomes, options.failures)


def report(outcomes: Mapping[str, Outcome], split: str | None) -> None:
    columns = f"{'asked':>6} {'first':>8} {'three':>8} {'silent':>8} {'refused':>8}"
    print(f"{'questions':13} {'split':9} {'by':11} {columns}")
    rows = dict.fromkeys(row for row, _ in outcomes["search"].tallies)
    for row, part in itertools.product(rows, ("tune", "measured")):
        for name, outcome in outcomes.items():
            print(f"{row:13} {part:9} {name:11} {outcome.of(part, row)}")
    for name, outcome in outcomes.items():
        print(f"{name}: {1000 * outcome.seconds / max(outcome.asked, 1):.1f} ms of CPU time per question")
    for entry, result in outcomes["search"].failures if split else ():
        if entry["split"] == split:
            wanted = [entry[key] for key in ("accepted", "missing", "explains", "fix") if key in entry]
            print(f"\n{entry['row']}: {entry['text']}\n    wanted {wanted or 'no answer'}")
            print(f"    found  {[passage.name for passage in result.passages]}")


if __name__ == "__main__":
    main()
