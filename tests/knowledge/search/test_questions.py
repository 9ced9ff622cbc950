"""The answers to the questions of `questions.toml`, on the Python that runs: how many must be right."""

from __future__ import annotations

import pytest

from assistant.knowledge.index import Index
from benchmarks.answers import Outcome, measure, ours, plain, questions


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
