"""Starts each engine once for the conformance list, and prints a table of the results."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.serving.conformance.cases import CASES, LLAMA_CPP, NOT_APPLICABLE, OPENAI, TGI, TITLES
from tests.serving.conformance.engines import ScriptedEngine, embedded, openai, tgi

ENGINES = (LLAMA_CPP, OPENAI, TGI)
OUTCOMES = pytest.StashKey[dict[tuple[int, str], list[str]]]()
COUNTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "of_case(number): tests this case of the conformance list")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Callable[[str], Coroutine[Any, Any, ScriptedEngine]]]:
    """Returns the engine of a name. It starts at the first use and serves all cases."""
    running: dict[str, ScriptedEngine] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def of(name: str) -> ScriptedEngine:
            if name not in running:
                if name == LLAMA_CPP:
                    starting = embedded(tmp_path_factory.mktemp("scripted"), CASES)
                else:
                    starting = openai() if name == OPENAI else tgi()
                running[name] = await stack.enter_async_context(starting)
            return running[name]

        yield of


@pytest_asyncio.fixture(loop_scope="session")
async def scripted(
    started: Callable[[str], Coroutine[Any, Any, ScriptedEngine]], engine: str
) -> ScriptedEngine:
    return await started(engine)


@pytest.fixture
def count(request: pytest.FixtureRequest) -> list[str]:
    """Lines to print below the table."""
    return request.config.stash.setdefault(COUNTS, [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Record the outcome of a test with an `of_case` mark, for its engine."""
    report = yield
    if report.when == "call" or report.failed:
        for mark in item.iter_markers("of_case"):
            outcomes = item.config.stash.setdefault(OUTCOMES, {})
            engine = item.callspec.params["engine"]
            outcomes.setdefault((mark.args[0], engine), []).append(report.outcome)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash.get(OUTCOMES, {})
    if not outcomes:
        return
    terminalreporter.section("stop sequences: case by engine")
    width = max(map(len, TITLES.values()))
    for number, title in TITLES.items():
        cells = "  ".join(_cell(number, engine, outcomes.get((number, engine), [])) for engine in ENGINES)
        terminalreporter.line(f"{number:2}  {title:{width}}  {cells}".rstrip())
    for line in config.stash.get(COUNTS, []):
        terminalreporter.line(line)


def _cell(number: int, engine: str, outcomes: list[str]) -> str:
    if not outcomes:
        word = "not run"
    elif set(outcomes) != {"passed"}:
        word = "FAILED"
    else:
        word = NOT_APPLICABLE.get((number, engine), "passed")
    return f"{engine}: {word:7}"
