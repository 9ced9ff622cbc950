"""What the fault tests share: a database, a small disk, and the counts printed at the end of the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from storage.database import Database
from storage.journal import Journal
from storage.running import utc_now
from storage.store import ConversationStore
from tests.conftest import COUNT
from tests.support.small_disk import SmallDisk, small_disk

Count = Callable[[str], None]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Prints a line of counts below the results of the run."""
    # A property of the test, since with xdist another process prints.
    return lambda line: request.node.user_properties.append((COUNT, line))


@pytest.fixture
def documentation_options(
    tmp_path: Path, make_data_with_documentation: Callable[[Path], Path]
) -> tuple[str, ...]:
    """Options for documentation with one more file; the folder "data" holds the index of all the rest."""
    make_data_with_documentation(tmp_path / "data")
    library = tmp_path / "library"
    library.mkdir()
    (library / "trees.md").write_text("# Remove a tree\n\nTo remove a tree, call `shutil.rmtree`.\n")
    return "--documentation", "--docs", str(library)


@pytest.fixture
def clock() -> Callable[[], datetime]:
    return utc_now


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "chats.db"


@pytest.fixture
async def database(database_file: Path) -> AsyncIterator[Database]:
    database = Database(database_file)
    yield database
    database.close()


@pytest.fixture
def store(database: Database, clock: Callable[[], datetime]) -> ConversationStore:
    return ConversationStore(database, now=clock)


@pytest.fixture
async def journal(database: Database, clock: Callable[[], datetime]) -> AsyncIterator[Journal]:
    journal = Journal(database, now=clock)
    journal.start()
    yield journal
    await journal.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 16 MB."""
    with small_disk(tmp_path / "disk", 16 << 20) as disk:
        yield disk
