"""Measures what the index of documentation costs: to build, to bring up to date, to store and to search.

    .venv/bin/python -m benchmarks.documentation [--packages PYTHON]

Builds three indexes in a temporary folder: the standard library of this Python; the same with the packages of
an environment (this interpreter's, unless another is named); and the standard library with a folder of
generated Markdown, 100,000 passages in all. Brings each up to date with nothing changed, and the last with
one file changed. Then searches each for the questions in `tests/knowledge/search/questions.toml`. The peer,
in the same run, is plain BM25 over the same words in the same index. CPU time counts all processes.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles

from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index
from assistant.knowledge.reading.folders import files_of
from assistant.knowledge.reading.packages import distributions, sites
from assistant.knowledge.search.search import search
from assistant.knowledge.search.vocabulary import phrases
from benchmarks.answers import questions

MANY = 100_000  # passages
SECTIONS = 50  # of one synthetic file
WORDS_OF_A_SECTION = 60


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(
    name: str, into: Path, *, environments: Sequence[Path] = (), folders: Sequence[Folder] = ()
) -> tuple[int, dict[str, str]]:
    """The number of passages, and a column of the table: its rows by their names."""

    def run() -> tuple[float, float]:
        begun, before = time.monotonic(), cpu_seconds()
        build(into, lambda report: None, environments=environments, folders=folders)
        return time.monotonic() - begun, cpu_seconds() - before

    (seconds, cpu), (unchanged, _) = run(), run()
    changed = ""
    if folders:
        with next(files_of(folders[0].path)).open("a", encoding="utf-8") as file:
            file.write("\n\n## One more\n\nA sentence.\n")
        changed = f"{run()[0]:.2f}"
    texts = [question["text"] for question in questions()]
    with closing(Index(into)) as index:
        size = sum(path.stat().st_size for path in into.parent.glob(f"{into.name}*")) / 1e6
        ours = search_times(texts, lambda question: search(index, question))
        peers = search_times(texts, lambda question: index.matching(any_word(question), 4))
        return index.count(), {
            "": name,
            "passages": f"{index.count():,}",
            "file, MB": f"{size:.1f}",
            "build, s": f"{seconds:.1f}",
            "build, CPU s": f"{cpu:.1f}",
            "nothing changed, s": f"{unchanged:.2f}",
            "one file changed, s": changed,
            "a question, CPU ms, median": f"{median(ours):.1f}",
            "a question, CPU ms, p95": f"{quantiles(ours, n=20)[18]:.1f}",
            "a question, CPU ms, most": f"{max(ours):.1f}",
            "plain BM25, CPU ms, median": f"{median(peers):.1f}",
            "ratio of the medians": f"{median(ours) / median(peers):.2f}",
        }


def search_times(questions: Sequence[str], answer: Callable[[str], object]) -> list[float]:
    """CPU milliseconds of each question, after some that warm the caches."""
    for question in questions[:20]:
        answer(question)
    times = []
    for question in questions:
        before = time.process_time()
        answer(question)
        times.append(1000 * (time.process_time() - before))
    return times


def any_word(question: str) -> str:
    words = dict.fromkeys(re.findall(r"[a-z0-9]+", question.lower())) or ["nothing"]
    return " OR ".join(f'"{word}"' for word in words)


def write_many(folder: Path, passages: int) -> None:
    """Generated Markdown: random words from the vocabulary, in sentences without meaning."""
    chance = random.Random(7)
    words = sorted({word for several in phrases().values() for phrase in several for word in phrase.split()})
    for number in range(-(-passages // SECTIONS)):
        sections = [
            f"## {' '.join(chance.choices(words, k=4))}\n\n"
            + " ".join(chance.choices(words, k=WORDS_OF_A_SECTION))
            for _ in range(min(SECTIONS, passages - number * SECTIONS))
        ]
        path = folder / f"{number // 100:03}" / f"{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(sections), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documentation", description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path(sys.prefix), metavar="PYTHON")
    options = parser.parse_args()
    count = sum(1 for site in sites(options.packages) for _ in distributions(site))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        passages, library = measure("standard library", folder / "library.db")
        _, packages = measure(
            f"and {count} packages", folder / "packages.db", environments=[options.packages]
        )
        write_many(folder / "many", MANY - passages)
        _, many = measure("and a folder", folder / "many.db", folders=[Folder(folder / "many")])
    for name in library:
        print(f"{name:<30}" + "".join(f"{column[name]:>28}" for column in (library, packages, many)))


if __name__ == "__main__":
    main()
