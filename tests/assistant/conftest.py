import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from assistant.events import Delta
from assistant.knowledge.documentation import DocumentationState
from storage.database import Database
from storage.store import StoredQuestion
from tests.support import parts
from tests.support.fake_documentation import FakeDocumentation
from tests.support.fake_model import FakeServed, ScriptedModel
from tests.support.fake_tgi import FakeTGI

OWNER = "ann"


@pytest.fixture(autouse=True)
def _directory_without_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def tgi() -> AsyncIterator[FakeTGI]:
    async with FakeTGI().running() as server:
        yield server


@pytest.fixture
async def database(tmp_path: Path, empty_database: Path) -> AsyncIterator[Database]:
    database = Database(shutil.copy(empty_database, tmp_path / "chats.db"))
    yield database
    database.close()


class Parts(parts.Parts):
    """The parts of a process that runs, and what the test scripts: its model and its documentation."""

    def __init__(
        self, database: Database, state: DocumentationState = DocumentationState.OFF, **options: Any
    ) -> None:
        self.model = ScriptedModel()
        self.served = FakeServed(self.model)
        self.documentation = FakeDocumentation(state=state)
        super().__init__(database, self.served, self.documentation, **options)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def begun(self, text: str) -> StoredQuestion:
        """A question whose reply shows this text so far."""
        asked = await self.replies.ask(OWNER, None, "q")
        self.model.say(text)
        shown = await anext(aiter(await self.replies.follow(OWNER, asked.reply_id)))
        assert shown == Delta(text, len(text))
        return asked

    def answer(self, *pieces: str) -> None:
        """Let the model write a whole answer."""
        self.model.say(*pieces)
        self.model.end()


@pytest.fixture
async def parts(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Parts]:
    async with Parts(database, **getattr(request, "param", {})) as parts:
        yield parts


def options(**given: object) -> pytest.MarkDecorator:
    """Marks a test whose `parts` have these options."""
    return pytest.mark.parametrize("parts", [given], ids=[str(given)], indirect=True)


async def events(parts: Parts, reply_id: str, after: int | None = 0) -> list[object]:
    async with asyncio.timeout(20):
        return [event async for event in await parts.replies.follow(OWNER, reply_id, after)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)
