"""The documentation of this machine's Python, indexed once for all tests that search it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.knowledge.index import Index

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the standard library, built as the application builds it.

    The workers of pytest-xdist share one file: the first builds it, and the others wait for its lock.
    """
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.mktemp("documentation")
    file = folder / "documentation.db"
    command = [sys.executable, "-m", "assistant.knowledge", "build", "--into", str(file)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return file


@pytest.fixture(scope="session")
def library(library_file: Path) -> Iterator[Index]:
    index = Index(library_file)
    yield index
    index.close()
