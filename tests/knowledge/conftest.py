"""The documentation of this machine's Python, for all tests that search it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.knowledge.index import Index


@pytest.fixture(scope="session")
def library(documentation_index: Path) -> Iterator[Index]:
    index = Index(documentation_index)
    yield index
    index.close()
