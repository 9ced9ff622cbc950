"""`python -m assistant site report`, while the application has the database open."""

import asyncio
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from assistant.site_command import main
from assistant.sites import Sites, make_site
from storage.database import Database
from storage.running import Running
from storage.schema import conversations
from storage.store import ConversationStore

KEY = "siteone0000000"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    Sites(tmp_path / "sites").save(make_site(key=KEY, name="Docs", origins=()))
    database = Database(tmp_path / "tech-assistant.db")

    async def ask() -> None:
        await ConversationStore(database).ask("visitor", None, "Where is ann@acme.io?")
        await database.write(lambda connection: connection.execute(update(conversations).values(site=KEY)))
        await Running(database, process="next").settle_abandoned()

    asyncio.run(ask())
    yield database
    database.close()


def test_the_operator_reads_the_report_of_a_site(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["site", "report", KEY, "--data", str(tmp_path)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Docs, from ")
    assert "       1  Stopped or failed" in shown
    assert main([*command, "--days", "7", "--csv"]) == 0
    (head,) = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert head[0] == "questions"
    assert main(["site", "report", "sitetwo0000000", "--data", str(tmp_path)]) == 2
    assert "There is no site" in capsys.readouterr().err


def test_without_a_database_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Sites(tmp_path / "sites").save(make_site(key=KEY, name="Docs", origins=()))
    assert main(["site", "report", KEY, "--data", str(tmp_path)]) == 2
    assert "Start the application once" in capsys.readouterr().err
