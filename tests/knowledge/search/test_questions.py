"""How many of the questions in `questions.toml` must be answered right, on the Python that runs."""

from __future__ import annotations

import pytest

from assistant.knowledge.index import Index
from benchmarks.answers import Outcome, measure, ours, plain, questions


@pytest.fixture(scope="session")
def outcome(library: Index) -> Outcome:
    return measure(ours(library), questions())


@pytest.mark.parametrize("split", ["tune", "measured"])
def test_enough_questions_are_answered_right(outcome: Outcome, split: str) -> None:
    tally = outcome.of(split)
    assert tally.first / tally.asked >= 0.70
    assert tally.three / tally.asked >= 0.88
    assert tally.refused / tally.unknown >= 0.90


def test_the_search_is_better_than_plain_bm25(library: Index, outcome: Outcome) -> None:
    peer = measure(plain(library), questions())
    assert outcome.of("measured").first > peer.of("measured").first
    assert outcome.of("measured").three > peer.of("measured").three
