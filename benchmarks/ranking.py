"""Learns the weights of the ranking and of the confidence from questions with known answers.

    .venv/bin/python -m benchmarks.ranking --index FILE [--index FILE …] [--lost]

The indexes are built by `python -m assistant.knowledge build`; one should have the library, the packages and
the folders of `benchmarks.corpora`. Reads the questions of the split "tune" alone. For the ranking it makes
the accepted passages likely among the candidates of their question (softmax); for the confidence it separates
questions whose first passage is right from those whose first passage is wrong or that have no answer. Prints
both tables for `ranking.py`, and how often an accepted passage is first with the weights before and after.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.knowledge.index import Index
from assistant.knowledge.search import ranking
from assistant.knowledge.search.search import rankings
from benchmarks.answers import FILES
from benchmarks.judging import Entry, is_right

Numbers = NDArray[np.float64]

KINDS = ("library", "needs", "packages", "folders", "refusals")
OTHERS = ("difference", "name", "parameter")  # kinds of question that the weights do not decide
FOLDER_COUNTS = 3.0  # of an index of one folder, since there are few questions about each
STEPS, RATE = 2000, 0.02
RIDGE = 0.003  # how much a weight is drawn to what it was before
MOST = 60  # candidates of one question


@dataclass(frozen=True, slots=True)
class Example:
    """A question's candidates: their features, which of them are right, and what tells how sure it is."""

    text: str
    features: Numbers  # candidates × features
    right: Numbers  # 1 for an accepted candidate, else 0
    has_answer: bool
    weight: float  # how much it counts
    certainty: Numbers


def questions() -> Iterator[Entry]:
    for kind in KINDS:
        for entry in (
            tomllib.loads(FILES[kind].read_text("utf-8"))["question"] if FILES[kind].exists() else ()
        ):
            if entry["split"] == "tune" and entry.get("kind") not in OTHERS:
                yield entry


def examples(index: Index) -> Iterator[Example]:
    """What the ranking has to choose from, for each question that the index should answer."""
    is_folder = len(index.covers()) == 1
    for entry in questions():
        if is_folder and "folder" not in entry:
            continue
        for found in rankings(index, entry["text"])[:1]:
            chosen = found.candidates[:MOST]
            accepted = entry.get("accepted", ())
            if not chosen or found.unknown or (found.scope and not accepted):
                continue
            right = [any(is_right(entry, each.hit.passage, one) for one in accepted) for each in chosen]
            if "folder" in entry and not any(right):
                continue  # the folder may not be in this index
            yield Example(
                entry["text"],
                np.array([[each.features[name] for name in ranking.RANKING] for each in chosen]),
                np.array(right, dtype=float),
                bool(accepted),
                FOLDER_COUNTS if is_folder else 1.0,
                np.array(list(ranking.certainty(found.candidates, found.weights).values())),
            )


def descend(start: Numbers, slope: Callable[[Numbers], Numbers]) -> Numbers:
    """The weights after gradient descent with momentum (Adam)."""
    weights, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(1, STEPS + 1):
        gradient = slope(weights) + RIDGE * (weights - start)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weights -= RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights


def learn_ranking(found: Sequence[Example], start: Numbers) -> Numbers:
    usable = [each for each in found if 0 < each.right.sum() < len(each.right)]

    def slope(weights: Numbers) -> Numbers:
        total = np.zeros_like(weights)
        for each in usable:
            scores = each.features @ weights
            chance = np.exp(scores - scores.max())
            among_right = chance * each.right
            wrong_by = chance / chance.sum() - among_right / among_right.sum()
            total += each.weight * wrong_by @ each.features
        return total / sum(each.weight for each in usable)

    return descend(start, slope)


def learn_confidence(found: Sequence[Example], weights: Numbers, start: Numbers) -> Numbers:
    """The weights that tell questions with a right passage among the first three from those without an
    answer; both count the same in all. `weights` are those of the ranking."""
    told, answered = [], []
    for each in found:
        best = np.argsort(-(each.features @ weights), kind="stable")[:3]
        if each.right[best].any() or not each.has_answer:
            told.append(each.certainty)
            answered.append(float(each.has_answer))
    matrix, wanted = np.array(told), np.array(answered)
    share = np.where(wanted > 0, 0.5 / max(wanted.sum(), 1), 0.5 / max((1 - wanted).sum(), 1))

    def slope(weights: Numbers) -> Numbers:
        gradient: Numbers = matrix.T @ (share * (1 / (1 + np.exp(-matrix @ weights)) - wanted))
        return gradient

    return descend(start, slope)


def first_right(found: Sequence[Example], weights: Numbers) -> str:
    usable = [each for each in found if each.right.sum()]
    right = sum(bool(each.right[(each.features @ weights).argmax()]) for each in usable)
    return f"{right} of {len(usable)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("--index", type=Path, action="append", required=True, metavar="FILE")
    options = parser.parse_args()
    found: list[Example] = []
    for path in options.index:
        with closing(Index(path)) as index:
            found += examples(index)
    before = np.array(list(ranking.RANKING.values()))
    after = learn_ranking(found, before)
    print(f"first: {first_right(found, before)} before, {first_right(found, after)} after\n")
    for name, weight in zip(ranking.RANKING, after, strict=True):
        print(f'    "{name}": {weight:.2f},')
    print()
    sure = learn_confidence(found, after, np.array(list(ranking.CONFIDENCE.values())))
    for name, weight in zip(ranking.CONFIDENCE, sure, strict=True):
        print(f'    "{name}": {weight:.2f},')


if __name__ == "__main__":
    main()
