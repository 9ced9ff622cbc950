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
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from assistant.knowledge.build import Folder, build
from assistant.knowledge.index import Index
from assistant.knowledge.reading.folders import files_of
from assistant.knowledge.reading.packages import distributions, sites
from assistant.knowledge.search.search import search
from assistant.knowledge.search.vocabulary import phrases

QUESTIONS = Path(__file__).parent.parent / "tests" / "knowledge" / "search" / "questions.toml"
MANY = 100_000  # passages
SECTIONS = 50  # of one synthetic file
WORDS_OF_A_SECTION = 60


# What is measured of an index, and how it is printed.
ROWS = {
    "passages": ",",
    "file, MB": ".1f",
    "build, s": ".1f",
    "build, CPU s": ".1f",
    "nothing changed, s": ".2f",
    "one file changed, s": ".2f",
    "a question, CPU ms, median": ".1f",
    "a question, CPU ms, p95": ".1f",
    "a question, CPU ms, most": ".1f",
    "plain BM25, CPU ms, median": ".1f",
    "ratio of the medians": ".2f",
}
Costs = dict[str, float]  # by row; without a row that does not apply


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(into: Path, *, environments: Sequence[Path] = (), folders: Sequence[Folder] = ()) -> Costs:
    def run() -> tuple[float, float]:
        begun, before = time.monotonic(), cpu_seconds()
        build(into, lambda report: None, environments=environments, folders=folders)
        return time.monotonic() - begun, cpu_seconds() - before

    costs: Costs = {}
    costs["build, s"], costs["build, CPU s"] = run()
    costs["nothing changed, s"], _ = run()
    if folders:
        with next(files_of(folders[0].path)).open("a", encoding="utf-8") as file:
            file.write("\n\n## One more\n\nA sentence.\n")
        costs["one file changed, s"], _ = run()
    questions = [one["text"] for one in tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["question"]]
    with closing(Index(into)) as index:
        costs["passages"] = index.count()
        costs["file, MB"] = sum(path.stat().st_size for path in into.parent.glob(f"{into.name}*")) / 1e6
        ours = search_times(questions, lambda question: search(index, question))
        peers = search_times(questions, lambda question: index.matching(any_word(question), 4))
    costs["a question, CPU ms, median"] = median(ours)
    costs["a question, CPU ms, p95"] = ours[min(len(ours) - 1, int(0.95 * len(ours)))]
    costs["a question, CPU ms, most"] = ours[-1]
    costs["plain BM25, CPU ms, median"] = median(peers)
    costs["ratio of the medians"] = median(ours) / median(peers)
    return costs


def search_times(questions: Sequence[str], answer: Callable[[str], object]) -> list[float]:
    """CPU milliseconds of each question in ascending order, after some that warm the caches."""
    for question in questions[:20]:
        answer(question)
    times = []
    for question in questions:
        before = time.process_time()
        answer(question)
        times.append(1000 * (time.process_time() - before))
    return sorted(times)


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


def table(indexes: Mapping[str, Costs]) -> str:
    lines = [f"{'':<30}" + "".join(f"{name:>28}" for name in indexes)]
    for row, form in ROWS.items():
        cells = (f"{costs[row]:{form}}" if row in costs else "" for costs in indexes.values())
        lines.append(f"{row:<30}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documentation", description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path(sys.prefix), metavar="PYTHON")
    options = parser.parse_args()
    count = sum(1 for site in sites(options.packages) for _ in distributions(site))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = measure(folder / "library.db")
        packages = measure(folder / "packages.db", environments=[options.packages])
        write_many(folder / "many", MANY - int(library["passages"]))
        many = measure(folder / "many.db", folders=[Folder(folder / "many")])
    print(table({"standard library": library, f"and {count} packages": packages, "and a folder": many}))


if __name__ == "__main__":
    main()
