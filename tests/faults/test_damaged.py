"""A damaged database: the application says what it cannot read or store, and reveals no text of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Count
from tests.support.application import PATIENCE, Application, serving, upstream, wait_for
from tests.support.listening import ask, client_of, events, hear

CANARY = "Kanarienvogel"
CHATS = 12
PAGE = 4096
SEED = 11
DATABASE = "tech-assistant.db"
ROOTS = (
    *("alembic_version", "conversation", "message", "uq_message_running", "sqlite_autoindex_message_1"),
    "revocation",
)

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


@dataclass(frozen=True)
class IntactData:
    """The data directory of an application that has ended, whose copies the tests damage."""

    data: Path
    cookies: httpx.Cookies
    chats: tuple[str, ...]
    layer: str  # the address of a serving layer

    @contextlib.contextmanager
    def copy(self, at: Path) -> Iterator[Application]:
        """An application with a copy of the data, not yet started."""
        shutil.copytree(self.data, at)
        application = Application(at, "--serving-url", self.layer, page=False)
        application.client.cookies = self.cookies
        try:
            yield application
        finally:
            application.close()


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntactData]:
    data = tmp_path_factory.mktemp("damaged") / "whole"
    answer = " ".join(f"{CANARY}{number}" for number in range(200))
    with upstream(answer, rate=20) as url, serving("--upstream", url) as layer:
        application = Application(data, "--serving-url", layer.url, page=False)
        try:
            application.start()
            application.wait_until("ready")
            chats = tuple(application.new_chat() for _ in range(CHATS))
            for number, chat in enumerate(chats):
                reply = application.ask(chat, f"{CANARY}, why? " * (1 + number**3))
                application.client.post(f"/api/replies/{reply}/stop").raise_for_status()
            assert application.end() == 0
            yield IntactData(data, application.client.cookies, chats, layer.url)
        finally:
            application.close()


async def use_everything(client: httpx.AsyncClient, chats: tuple[str, ...], counts: Counter[str]) -> None:
    """Read and change all that there is, and count the kinds of answers."""
    requests: list[tuple[str, str, object]] = [
        *(("GET", f"/api/conversations/{chat}", None) for chat in chats),
        ("GET", "/api/conversations", None),
        ("GET", "/api/me/export", None),
        ("GET", "/api/engine", None),
        ("POST", "/api/conversations", {"title": CANARY}),
        *(("PATCH", f"/api/conversations/{chat}", {"title": f"{CANARY}!"}) for chat in chats[:3]),
        *(("DELETE", f"/api/conversations/{chat}", None) for chat in chats[3:6]),
        *(("POST", f"/api/conversations/{chat}/restore", None) for chat in chats[3:5]),
        *(("POST", f"/api/conversations/{chat}/messages", {"text": CANARY}) for chat in chats[6:8]),
    ]
    for method, address, body in requests:
        answer = await client.request(method, address, json=body)
        counts["requests"] += 1
        if answer.is_success:
            if address == "/api/me/export":
                counts["texts in errors"] += CANARY in str(answer.json()["error"])
            continue
        counts["texts in errors"] += CANARY in answer.text
        counts["refused with a reason"] += answer.json()["type"] == "storage"
        counts["other errors"] += answer.json()["type"] not in ("storage", "not_found")


def count_in_log(log: str, counts: Counter[str]) -> None:
    counts["texts in the log"] += log.count(CANARY)
    counts["tracebacks"] += log.count("Traceback")


def is_fine(counts: Counter[str]) -> bool:
    return not any(
        counts[what] for what in ("other errors", "texts in errors", "texts in the log", "tracebacks")
    )


def as_text(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {number}" for what, number in counts.items())


def pages_of(database: Path) -> dict[str, int]:
    """One page of each sort: the first, the roots of tables and indexes, and some below them."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    others = random.Random(SEED).sample(sorted(set(range(2, count + 1)) - set(roots.values())), 2)
    return {
        "header": 1,
        **{name: roots[name] for name in ROOTS},
        **{f"page {number}": number for number in others},
    }


async def test_a_page_of_zeroes_is_reported_and_the_others_are_served(
    intact: IntactData, tmp_path: Path, count: Count
) -> None:
    """The page is zeroed before the start, which fails with a reason or serves what can be read."""
    counts: Counter[str] = Counter()
    for name, number in pages_of(intact.data / DATABASE).items():
        with intact.copy(tmp_path / name) as application:
            with (application.data / DATABASE).open("r+b") as file:
                file.seek((number - 1) * PAGE)
                file.write(bytes(PAGE))
            ended = await asyncio.to_thread(_begin, application)
            counts["damaged pages"] += 1
            if ended is not None:
                assert ended == 2, name
                assert "cannot be opened" in application.log or "is damaged" in application.log
                counts["starts refused with a reason"] += 1
            else:
                async with client_of(application) as client, asyncio.timeout(PATIENCE):
                    before = counts["refused with a reason"]
                    await use_everything(client, intact.chats, counts)
                    is_met = counts["refused with a reason"] > before
                    ready = await client.get("/ready")
                    assert not is_met or (ready.status_code, ready.json()["type"]) == (503, "storage"), name
                    counts["not ready"] += ready.status_code == 503
                assert application.end() == 0
            count_in_log(application.log, counts)
    count(f"zeroed pages: {as_text(counts)}")
    assert is_fine(counts), counts
    assert counts["refused with a reason"] > 0
    assert counts["starts refused with a reason"] > 0


def _begin(application: Application) -> int | None:
    """Start the application; returns its exit code if it ended instead."""
    try:
        application.start()
    except AssertionError:  # it printed no address
        return application.end()
    wait_for(lambda: application.client.get("/api/engine").json()["state"] == "ready")
    return None


def zeroed(database: Path) -> None:
    with database.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(PAGE)
        file.write(bytes(size - PAGE))


def garbage(database: Path) -> None:
    chance = random.Random(SEED)
    with database.open("r+b") as file:
        size = file.seek(0, 2)
        for place in range(PAGE, size, 512):
            file.seek(place + chance.randrange(400))
            file.write(chance.randbytes(100))


def garbage_in_the_log(database: Path) -> None:
    garbage(database.with_name(database.name + "-wal"))


def cut(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(5 * PAGE)


def log_cut(database: Path) -> None:
    with database.with_name(database.name + "-wal").open("r+b") as file:
        file.truncate(100)


def unlinked(database: Path) -> None:
    database.unlink()


def log_unlinked(database: Path) -> None:
    database.with_name(database.name + "-wal").unlink()


def replaced(database: Path) -> None:
    other = database.with_name("other")
    shutil.copy(database, other)
    other.replace(database)


def folder_removed(database: Path) -> None:
    shutil.rmtree(database.parent)


IN_PLACE = (zeroed, garbage, garbage_in_the_log)
MOVED = (cut, log_cut, unlinked, log_unlinked, replaced, folder_removed)


async def test_damage_while_it_runs_is_reported_and_no_question_is_accepted_and_lost(
    intact: IntactData, tmp_path: Path, count: Count
) -> None:
    counts: Counter[str] = Counter()

    async def break_it(damage: Callable[[Path], None]) -> None:
        with intact.copy(tmp_path / damage.__name__) as application:
            await asyncio.to_thread(application.start)
            await asyncio.to_thread(application.wait_until, "ready")
            async with client_of(application) as client, asyncio.timeout(PATIENCE):
                running = await ask(client, intact.chats[-1], "q")
                await anext(events(client, running))
                listening = asyncio.create_task(hear(client, running))
                damage(application.data / DATABASE)
                if damage in MOVED:
                    for address in (f"conversations/{intact.chats[0]}/messages", "conversations"):
                        body = {"text": CANARY} if "messages" in address else {}
                        answer = await client.post(f"/api/{address}", json=body)
                        assert (answer.status_code, answer.json().get("type")) == (503, "storage"), (
                            damage,
                            answer.text,
                        )
                        assert "another program" in answer.json()["detail"], damage
                        counts["questions refused"] += 1
                await use_everything(client, intact.chats, counts)
                heard = await listening
                if damage in MOVED:
                    assert heard.end_data["type"] == "storage", (damage, heard.end_data)
                    counts["replies that failed with a reason"] += 1
                counts["texts in errors"] += heard.end == "error" and CANARY in str(heard.end_data)
                ready = await client.get("/ready")
                assert (ready.status_code, ready.json()["type"]) == (503, "storage"), damage
                assert (await client.get("/health")).status_code == 200, damage
                counts["not ready"] += 1
            assert application.end() == 0, damage
            count_in_log(application.log, counts)

    await asyncio.gather(*map(break_it, (*IN_PLACE, *MOVED)))
    count(f"broken in {len(IN_PLACE) + len(MOVED)} ways while it ran: {as_text(counts)}")
    assert is_fine(counts), counts


def test_damage_is_found_even_where_nobody_reads(intact: IntactData, tmp_path: Path) -> None:
    page = pages_of(intact.data / DATABASE)["sqlite_autoindex_message_1"]
    with intact.copy(tmp_path / "data") as application:
        with (application.data / DATABASE).open("r+b") as file:
            file.seek((page - 1) * PAGE)
            file.write(bytes(PAGE))
        application.start()
        wait_for(lambda: application.client.get("/ready").status_code == 503)
        assert "is damaged" in application.client.get("/ready").json()["detail"]
        assert application.client.get(f"/api/conversations/{intact.chats[0]}").status_code == 200
        assert application.log.count("is damaged") == 1
        assert CANARY not in application.log
