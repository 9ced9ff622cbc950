"""How often the search finds the right documentation for a question, compared with plain BM25.

    .venv/bin/python -m benchmarks.answers [--index FILE] [--failures tune]

The questions are in `tests/knowledge/search/questions.toml`. Read those of the split "tune" while you work
on the ranking, but never those of "measured". The index covers the running Python and is built in a temporary
folder, unless a file is given. Plain BM25 searches the same index for the question's words, but only in the
text of the documentation, and always answers.

Columns: `first` is how often the right name is first, and `three` how often it is among the first three (both
names, if the question asks for a difference). `refused` is how often the search finds nothing, as it should,
on a topic that the library does not have.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.knowledge.build import build
from assistant.knowledge.index import ColumnWeights, Index
from assistant.knowledge.search.search import search
from assistant.knowledge.search.words import STOP_WORDS

QUESTIONS = Path(__file__).parent.parent / "tests" / "knowledge" / "search" / "questions.toml"
TEXT_ALONE = ColumnWeights(words=0.0, title=0.0, summary=0.0, text=1.0, phrases=0.0)

Answers = Callable[[Index, str], list[str]]


@dataclass(slots=True)
class Tally:
    """The results of some questions."""

    asked: int = 0
    first: int = 0
    three: int = 0
    unknown: int = 0
    refused: int = 0

    def add(self, accepted: Sequence[str], names: Sequence[str], both: bool) -> bool:
        """Count an answer; returns whether it is perfect."""
        if not accepted:
            self.unknown += 1
            self.refused += not names
            return not names
        self.asked += 1
        first = bool(names) and names[0] in accepted
        three = set(accepted) <= set(names[:3]) if both else bool(set(accepted) & set(names[:3]))
        self.first += first
        self.three += three
        return first and three

    def __str__(self) -> str:
        share = lambda part, whole: f"{part / whole:8.1%}" if whole else "       –"  # noqa: E731
        return (
            f"{share(self.first, self.asked)} {share(self.three, self.asked)} "
            f"{share(self.refused, self.unknown)}"
        )


@dataclass(slots=True)
class Outcome:
    """The tallies by split and kind, the CPU time of a question, and the questions with imperfect answers."""

    tallies: dict[tuple[str, str], Tally]
    milliseconds: float
    failures: list[tuple[Mapping[str, Any], list[str]]]

    def of(self, split: str, kind: str = "all") -> Tally:
        return self.tallies[split, kind]


def questions() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["question"]
    return found


def ours(index: Index, question: str) -> list[str]:
    return [passage.name for passage in search(index, question).passages]


def plain(index: Index, question: str) -> list[str]:
    words = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS]
    if not words:
        return []
    query = "text : (" + " OR ".join(f'"{word}"' for word in words) + ")"
    names = [entry.passage.name for entry in index.matching(query, 20, weights=TEXT_ALONE)]
    return list(dict.fromkeys(names))[:4]


def measure(index: Index, entries: Iterable[Mapping[str, Any]], answers: Answers) -> Outcome:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    failures = []
    spent, count = 0.0, 0
    for entry in entries:
        started = time.process_time()
        names = answers(index, entry["text"])
        spent += time.process_time() - started
        count += 1
        both = entry["kind"] == "difference"
        tallies[entry["split"], entry["kind"]].add(entry["accepted"], names, both)
        if not tallies[entry["split"], "all"].add(entry["accepted"], names, both):
            failures.append((entry, names))
    return Outcome(tallies, spent / max(count, 1) * 1000, failures)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the search finds the right documentation.")
    parser.add_argument("--index", type=Path, help="index file to build or use (default: a temporary one)")
    parser.add_argument(
        "--failures", choices=["tune"], help="print the questions of this split with imperfect answers"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.index or Path(folder) / "documentation.db"
        build(path, lambda progress: None)
        with closing(Index(path)) as index:
            report(index, options.failures)


def report(index: Index, split: str | None) -> None:
    entries = questions()
    outcomes = {"ours": measure(index, entries, ours), "plain BM25": measure(index, entries, plain)}
    print(f"{index.count()} passages, {index.meta('python')}, {len(entries)} questions\n")
    print(f"{'split':9} {'kind':11} {'search':11} {'first':>8} {'three':>8} {'refused':>8}")
    for key in sorted(outcomes["ours"].tallies):
        for name, outcome in outcomes.items():
            print(f"{key[0]:9} {key[1]:11} {name:11} {outcome.tallies[key]}")
    print()
    for name, outcome in outcomes.items():
        print(f"{name:11} {outcome.milliseconds:6.2f} ms of CPU time per question")
    for entry, names in outcomes["ours"].failures if split else ():
        if entry["split"] == split:
            print(f"\n{entry['text']}\n    wanted {entry['accepted']}\n    found  {names}")


if __name__ == "__main__":
    main()
