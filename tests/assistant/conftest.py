from collections.abc import AsyncIterator

import pytest

from tests.support.fake_tgi import FakeTGI


@pytest.fixture
async def tgi() -> AsyncIterator[FakeTGI]:
    async with FakeTGI().running() as server:
        yield server
