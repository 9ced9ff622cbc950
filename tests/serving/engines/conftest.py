"""What the tests of the engines share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from hypothesis import strategies as st

from serving.engine import Engine, EngineState, SamplingParams, ServingError
from serving.engines.llama_cpp import LlamaCpp
from serving.engines.remote import Limits, RemoteEngine
from tests.serving.conftest import PATIENCE, looked_at
from tests.support.fake_server import FakeServer
from tests.support.tiny_gguf import write_tiny_gguf

E = TypeVar("E", bound=Engine)
R = TypeVar("R", bound=RemoteEngine)

PARAMS = SamplingParams(max_new_tokens=20, seed=5)


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


def remote(
    kind: type[R],
    server: FakeServer,
    *,
    model: str | None = None,
    api_key: str | None = None,
    **limits: float,
) -> contextlib.AbstractAsyncContextManager[R]:
    """An engine that has looked at its upstream."""
    return looked_at(kind(server.url, model=model, api_key=api_key, limits=Limits(**limits)))


async def failure_of(engine: Engine) -> tuple[list[Any], ServingError]:
    """What came before a generation failed, and how it failed."""
    outputs = []
    try:
        async for output in engine.generate("Hi", PARAMS):
            outputs.append(output)  # noqa: PERF401, what came before the failure counts
    except ServingError as error:
        return outputs, error
    pytest.fail("it did not fail")


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def is_cancelled_at(reached: asyncio.Event, task: asyncio.Task[Any], left: asyncio.Event) -> None:
    """Cancel the task once its answer has reached a point. Then its client leaves."""
    await happens(reached)
    task.cancel()
    await happens(left)
    assert (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError


def pieces(draw: st.DataObject, answer: bytes) -> list[bytes]:
    """The answer, cut anywhere."""
    cuts = draw.draw(st.lists(st.integers(0, len(answer)), max_size=12).map(sorted))
    return [answer[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(answer)], strict=True)]


def tiny(folder: Path, **options: Any) -> contextlib.AbstractAsyncContextManager[LlamaCpp]:
    """The engine of a tiny model with these options."""
    return loaded(write_tiny_gguf(folder / "tiny.gguf", **options))


def loaded(model: Path, **options: Any) -> contextlib.AbstractAsyncContextManager[LlamaCpp]:
    return running(LlamaCpp(model, threads=1, **options))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_model: Path) -> AsyncIterator[LlamaCpp]:
    """One engine for many tests, since it takes time to load a model."""
    async with loaded(tiny_model) as engine:
        yield engine
