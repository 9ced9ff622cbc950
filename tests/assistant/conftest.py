import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from assistant.knowledge.documentation import Documentation
from storage.database import Database
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.fake_tgi import FakeTGI
from tests.support.parts import Parts

OWNER = "ann"


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
async def documentation() -> Documentation | None:
    return None


@pytest.fixture
async def parts(
    database: Database,
    served: FakeServed,
    documentation: Documentation | None,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Parts]:
    parts = Parts(database, served, documentation, **getattr(request, "param", {}))
    await parts.start()
    yield parts
    await parts.close()


def options(**given: object) -> pytest.MarkDecorator:
    """Marks a test whose `parts` have these options."""
    return pytest.mark.parametrize("parts", [given], ids=[str(given)], indirect=True)


async def events(parts: Parts, reply_id: str, after: int | None = 0) -> list[object]:
    async with asyncio.timeout(20):
        return [event async for event in await parts.replies.follow(OWNER, reply_id, after)]


def answer_with(model: ScriptedModel, *pieces: str) -> None:
    """Let the model write a whole answer."""
    model.say(*pieces)
    model.end()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)
