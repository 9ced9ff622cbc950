"""What the tests of the engines share: one embedded engine, since it takes time to load a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from serving.engines.llama_cpp import LlamaCpp
from tests.serving.engines.test_llama_cpp import loaded


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_model: Path) -> AsyncIterator[LlamaCpp]:
    async with loaded(tiny_model) as engine:
        yield engine
