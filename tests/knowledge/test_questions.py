"""The answers to the questions of `questions.toml`, on the Python that runs: how many must be right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from assistant.knowledge.build import build
from assistant.knowledge.index import Index
from benchmarks.answers import Outcome, measure, ours, plain, questions


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index of the standard library of the Python that runs."""
    path: Path = tmp_path_factory.mktemp("library") / "documentation.db"
    build(path, lambda told: None)
    with closing(Index(path)) as index:
        yield index


@pytest.fixture(scope="session")
def outcome(library: Index) -> Outcome:
    return measure(library, questions(), ours)


@pytest.mark.parametrize("split", ["tune", "measured"])
def test_the_right_name_is_first_and_the_unknown_is_refused(outcome: Outcome, split: str) -> None:
    tally = outcome.of(split)
    assert tally.first / tally.asked >= 0.70
    assert tally.three / tally.asked >= 0.88
    assert tally.refused / tally.unknown >= 0.90


def test_it_is_better_than_words_alone(library: Index, outcome: Outcome) -> None:
    peer = measure(library, questions(), plain)
    assert outcome.of("measured").first > peer.of("measured").first
    assert outcome.of("measured").three > peer.of("measured").three
