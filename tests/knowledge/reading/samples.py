"""Reads the samples beside the tests of a format."""

from __future__ import annotations

from pathlib import Path

from assistant.knowledge.passage import Passage
from assistant.knowledge.reading.folders import read_file


def passages_of(sample: Path) -> list[Passage]:
    """The passages of a sample, which is read without a warning."""
    warnings: list[str] = []
    passages = read_file(sample, sample.parent, base_url="https://docs.example", warn=warnings.append)
    assert warnings == []
    assert all(each.text.strip() or each.signature for each in passages)
    return passages
