from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database import Database
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.fake_tgi import FakeTGI
from tests.support.parts import Parts


@pytest.fixture
async def tgi() -> AsyncIterator[FakeTGI]:
    async with FakeTGI().running() as server:
        yield server


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "chats.db")
    yield database
    database.close()


@pytest.fixture
async def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
async def served(model: ScriptedModel) -> FakeServed:
    return FakeServed(model)


@pytest.fixture
async def parts(database: Database, served: FakeServed) -> AsyncIterator[Parts]:
    parts = Parts(database, served)
    await parts.start()
    yield parts
    await parts.close()
