"""A damaged database: the application says what it cannot read or store, and reveals no text of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
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
from tests.support.application import PATIENCE, Application, running, serving, upstream, wait_for
from tests.support.listening import ask, client_of, events, hear

CANARY = "Kanarienvogel"
CHATS = 12
PAGE = 4096
SEED = 11
DATABASE = "tech-assistant.db"
TABLES = "alembic_version", "conversation", "message", "revocation"
INDEXES = "uq_message_running", "sqlite_autoindex_message_1"

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
        with contextlib.closing(application):
            yield application


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntactData]:
    data = tmp_path_factory.mktemp("damaged") / "whole"
    answer = " ".join(f"{CANARY}{number}" for number in range(200))
    with (
        upstream(answer, rate=20) as url,
        serving("--upstream", url) as layer,
        running(data, "--serving-url", layer.url, page=False, until="ready") as application,
    ):
        chats = tuple(application.new_chat() for _ in range(CHATS))
        for number, chat in enumerate(chats):
            reply = application.ask(chat, f"{CANARY}, why? " * (1 + number**3))
            application.client.post(f"/api/replies/{reply}/stop").raise_for_status()
        assert application.end() == 0
        yield IntactData(data, application.client.cookies, chats, layer.url)


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


def check(counts: Counter[str], title: str, count: Count) -> None:
    count(f"{title}: " + ", ".join(f"{what} {number}" for what, number in counts.items()))
    for what in ("other errors", "texts in errors", "texts in the log", "tracebacks"):
        assert counts[what] == 0, counts


def pages_of(database: Path) -> dict[str, int]:
    """One page of each sort: the first, the roots of tables and indexes, and some below them."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    others = random.Random(SEED).sample(sorted(set(range(2, count + 1)) - set(roots.values())), 2)
    return {
        "header": 1,
        **{name: roots[name] for name in TABLES + INDEXES},
        **{f"page {number}": number for number in others},
    }


def overwrite(file: Path, start: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(data)


async def test_a_page_of_zeroes_is_reported_and_the_others_are_served(
    intact: IntactData, tmp_path: Path, count: Count
) -> None:
    """The page is zeroed before the start, which fails with a reason or serves what can be read."""
    counts: Counter[str] = Counter()
    for name, number in pages_of(intact.data / DATABASE).items():
        with intact.copy(tmp_path / name) as application:
            overwrite(application.data / DATABASE, (number - 1) * PAGE, bytes(PAGE))
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
    check(counts, "zeroed pages", count)
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


def log_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def put_garbage_into(file: Path) -> None:
    chance = random.Random(SEED)
    for start in range(PAGE, file.stat().st_size, 512):
        overwrite(file, start + chance.randrange(400), chance.randbytes(100))


def replace(database: Path) -> None:
    other = database.with_name("other")
    shutil.copy(database, other)
    other.replace(database)


IN_PLACE: dict[str, Callable[[Path], object]] = {
    "zeroed": lambda database: overwrite(database, PAGE, bytes(database.stat().st_size - PAGE)),
    "garbage": put_garbage_into,
    "garbage in the log": lambda database: put_garbage_into(log_of(database)),
}
MOVED: dict[str, Callable[[Path], object]] = {
    "cut": lambda database: os.truncate(database, 5 * PAGE),
    "log cut": lambda database: os.truncate(log_of(database), 100),
    "unlinked": Path.unlink,
    "log unlinked": lambda database: log_of(database).unlink(),
    "replaced": replace,
    "folder removed": lambda database: shutil.rmtree(database.parent),
}


async def test_damage_while_it_runs_is_reported_and_no_question_is_accepted_and_lost(
    intact: IntactData, tmp_path: Path, count: Count
) -> None:
    counts: Counter[str] = Counter()

    async def break_it(name: str, damage: Callable[[Path], object]) -> None:
        with intact.copy(tmp_path / name) as application:
            await asyncio.to_thread(application.start)
            await asyncio.to_thread(application.wait_until, "ready")
            async with client_of(application) as client, asyncio.timeout(PATIENCE):
                reply = await ask(client, intact.chats[-1], "q")
                await anext(events(client, reply))
                listening = asyncio.create_task(hear(client, reply))
                damage(application.data / DATABASE)
                if name in MOVED:
                    for address in (f"conversations/{intact.chats[0]}/messages", "conversations"):
                        body = {"text": CANARY} if "messages" in address else {}
                        answer = await client.post(f"/api/{address}", json=body)
                        refusal = answer.status_code, answer.json().get("type")
                        assert refusal == (503, "storage"), (name, answer.text)
                        assert "another program" in answer.json()["detail"], name
                        counts["questions refused"] += 1
                await use_everything(client, intact.chats, counts)
                heard = await listening
                if name in MOVED:
                    assert heard.end_data["type"] == "storage", (name, heard.end_data)
                    counts["replies that failed with a reason"] += 1
                counts["texts in errors"] += heard.end == "error" and CANARY in str(heard.end_data)
                ready = await client.get("/ready")
                assert (ready.status_code, ready.json()["type"]) == (503, "storage"), name
                assert (await client.get("/health")).status_code == 200, name
                counts["not ready"] += 1
            assert application.end() == 0, name
            count_in_log(application.log, counts)

    await asyncio.gather(*(break_it(*one) for one in (*IN_PLACE.items(), *MOVED.items())))
    check(counts, f"broken in {len(IN_PLACE) + len(MOVED)} ways while it ran", count)


def test_damage_is_found_even_where_nobody_reads(intact: IntactData, tmp_path: Path) -> None:
    page = pages_of(intact.data / DATABASE)["sqlite_autoindex_message_1"]
    with intact.copy(tmp_path / "data") as application:
        overwrite(application.data / DATABASE, (page - 1) * PAGE, bytes(PAGE))
        application.start()
        wait_for(lambda: application.client.get("/ready").status_code == 503)
        assert "is damaged" in application.client.get("/ready").json()["detail"]
        assert application.client.get(f"/api/conversations/{intact.chats[0]}").status_code == 200
        assert application.log.count("is damaged") == 1
        assert CANARY not in application.log
