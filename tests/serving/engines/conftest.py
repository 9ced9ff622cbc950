"""What the tests of the engines share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest_asyncio

from serving.engine import Engine, EngineState
from serving.engines.llama_cpp import LlamaCpp
from tests.serving.conftest import PATIENCE

E = TypeVar("E", bound=Engine)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def becomes(engine: Engine, state: EngineState, detail: str = "") -> None:
    await until(lambda: engine.info.state is state and detail in (engine.info.state_detail or ""))


@contextlib.asynccontextmanager
async def started(engine: E) -> AsyncIterator[E]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@contextlib.asynccontextmanager
async def running(engine: E) -> AsyncIterator[E]:
    """The engine, once it is ready or has failed."""
    async with started(engine):
        await until(lambda: engine.info.state is not EngineState.LOADING)
        yield engine


def loaded(model: Path, **options: Any) -> contextlib.AbstractAsyncContextManager[LlamaCpp]:
    return running(LlamaCpp(model, threads=1, **options))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_model: Path) -> AsyncIterator[LlamaCpp]:
    """One engine for many tests, since it takes time to load a model."""
    async with loaded(tiny_model) as engine:
        yield engine
