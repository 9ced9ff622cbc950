"""`kill -9` of the application, at any moment in the life of a reply."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import Count
from tests.support.application import PATIENCE, Application, running, serving, upstream, wait_for
from tests.support.listening import ask, client_of, events, hear, messages_of

KILLS = 12
LANES = 2  # applications that are killed and restarted side by side, so that no core is idle
CHATS = 4  # of each application, answered at the same time
SEED = 20
ANSWER = " ".join(f"wörd{number}🦀" if number % 7 == 0 else f"word{number}" for number in range(150))

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


@pytest.fixture(scope="module")
def serving_url() -> Iterator[str]:
    with upstream(ANSWER, rate=120) as url, serving("--upstream", url) as layer:
        yield layer.url


@dataclass
class Question:
    """A question, and what its listener got of the answer."""

    chat: str
    question: str
    client_id: str
    reply: str | None = None  # its id, once the question is acknowledged
    shown: str = ""
    ended: bool = False


@dataclass
class Tally:
    kills: int = 0
    shown: int = 0  # code points
    missing: int = 0  # replies that lack some of the text that was shown
    unsettled: int = 0
    lost: int = 0  # acknowledged questions that are not stored
    unacknowledged: int = 0
    slowest: float = 0.0  # from the start of a process to the last settled reply
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)  # status and text of each reply


class Round:
    """Asks in all chats at once, and kills the application at a moment."""

    def __init__(self, application: Application, asked: list[Question], moment: Moment) -> None:
        self.application = application
        self.asked = asked
        self._moment = moment
        self._killed = False

    @property
    def acknowledged(self) -> int:
        return sum(one.reply is not None for one in self.asked)

    @property
    def shown(self) -> int:
        return sum(len(one.shown) for one in self.asked)

    @property
    def ended(self) -> int:
        return sum(one.ended for one in self.asked)

    async def run(self) -> None:
        async with client_of(self.application) as client, asyncio.timeout(PATIENCE):
            if isinstance(self._moment, float):
                asyncio.get_running_loop().call_later(self._moment, self._kill)
            await asyncio.gather(*(self._follow(client, one) for one in self.asked))
        assert self._killed

    async def _follow(self, client: httpx.AsyncClient, one: Question) -> None:
        with contextlib.suppress(httpx.TransportError):
            one.reply = await ask(client, one.chat, one.question, one.client_id)
            self._kill_if_due()
            async for name, data in events(client, one.reply):
                if name == "delta":
                    one.shown += data["text"]
                one.ended = name in ("done", "error")
                self._kill_if_due()

    def _kill_if_due(self) -> None:
        if callable(self._moment) and self._moment(self):
            self._kill()

    def _kill(self) -> None:
        if not self._killed:
            self._killed = True
            self.application.kill()


Moment = Callable[[Round], bool] | float
"""A condition, or a number of seconds after the questions were sent."""


def moments(chance: random.Random) -> list[Moment]:
    """When to kill the application: while it takes questions, in mid-answer, around the end."""
    chosen: list[Moment] = [
        *[chance.uniform(0, 0.01) for _ in range(4)],
        lambda now: now.acknowledged == 1,
        lambda now: now.acknowledged == CHATS,
        lambda now: now.ended == 1,
        lambda now: now.ended == CHATS - 1,
        lambda now: now.ended == CHATS,
    ]
    while len(chosen) < KILLS:
        length = chance.randrange(1, CHATS * len(ANSWER))
        chosen.append(lambda now, length=length: now.shown >= length)  # type: ignore[misc]
    chance.shuffle(chosen)
    return chosen


async def kill_and_restart(application: Application, kills: list[Moment], tally: Tally) -> None:
    await asyncio.to_thread(application.start)
    chats = [application.new_chat() for _ in range(CHATS)]
    for number, moment in enumerate(kills):
        asked = [Question(chat, f"question {number}", f"{number}") for chat in chats]
        await Round(application, asked, moment).run()
        tally.kills += 1
        begun = time.monotonic()
        await asyncio.to_thread(application.start)
        async with client_of(application) as client:
            for one in asked:  # the first requests to the new process
                compare(await messages_of(client, one.chat), one, tally)
            tally.slowest = max(tally.slowest, time.monotonic() - begun)
            for one in asked:
                if one.reply is None:  # a question that was not acknowledged is sent again
                    tally.unacknowledged += 1
                    reply = await ask(client, one.chat, one.question, one.client_id)
                    await client.post(f"/api/replies/{reply}/stop")
    async with client_of(application) as client:  # in the end the chats are whole and go on
        for chat in chats:
            messages = await messages_of(client, chat)
            questions = [message["content"] for message in messages if message["role"] == "user"]
            assert questions == [f"question {number}" for number in range(len(kills))]
            for message in messages:
                stored = (message["status"], message["content"])
                assert tally.stored.get(message["id"], stored) == stored
            assert (await hear(client, await ask(client, chat, "and now?"))).text == ANSWER


def compare(messages: list[dict[str, Any]], one: Question, tally: Tally) -> None:
    """Count in the tally what is missing of a reply that was shown."""
    question = next((message for message in messages if message["content"] == one.question), None)
    if question is None:
        tally.lost += one.reply is not None
        return
    reply = next(message for message in messages if message["parent_id"] == question["id"])
    tally.lost += one.reply not in (None, reply["id"])
    tally.stored[reply["id"]] = reply["status"], reply["content"]
    tally.shown += len(one.shown)
    tally.unsettled += reply["status"] not in ("interrupted", "done")
    is_whole = (reply["status"], reply["content"]) == ("done", ANSWER)
    tally.missing += not (is_whole if one.ended else reply["content"].startswith(one.shown))


async def test_nothing_shown_is_missing_after_kill_9(tmp_path: Path, serving_url: str, count: Count) -> None:
    kills = moments(random.Random(SEED))
    tally = Tally()
    lanes = [
        Application(tmp_path / f"lane{lane}", "--serving-url", serving_url, page=False)
        for lane in range(LANES)
    ]
    try:
        await asyncio.gather(
            *(kill_and_restart(one, kills[lane::LANES], tally) for lane, one in enumerate(lanes))
        )
    finally:
        for one in lanes:
            one.close()
    count(
        f"kill -9 of the application: kills {tally.kills}, replies {len(tally.stored)}, "
        f"shown {tally.shown:,} code points, missing {tally.missing}, unsettled {tally.unsettled}, "
        f"questions lost {tally.lost}, not acknowledged and sent again {tally.unacknowledged}, "
        f"from start to settled {tally.slowest:.1f} s at most"
    )
    assert (tally.kills, tally.missing, tally.unsettled, tally.lost) == (KILLS, 0, 0, 0)
    for one in lanes:
        assert "Traceback" not in one.log, one.log
        with contextlib.closing(sqlite3.connect(one.data / "tech-assistant.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT count(*) FROM piece").fetchone() == (0,)


def test_sources_that_were_shown_are_there_after_kill_9(
    tmp_path: Path, serving_url: str, make_data_with_documentation: Callable[[Path], Path]
) -> None:
    data = make_data_with_documentation(tmp_path / "data")
    options = ("--serving-url", serving_url, "--documentation")
    with running(data, *options, page=False) as application:
        application.wait_until("ready")
        wait_for(lambda: application.client.get("/api/engine").json()["documentation"]["state"] == "ready")
        chat = application.new_chat()
        reply = application.ask(chat, "How do I remove a folder with everything in it?")
        shown = []
        with contextlib.closing(application.events(reply)) as events:  # type: ignore[type-var]
            for name, data in events:
                if name == "sources":
                    shown = data["sources"]
                elif name == "delta":
                    break
        assert shown
        application.kill()
        application.start()
        stored = application.reply(chat)
        assert (stored["status"], stored["sources"]) == ("interrupted", shown)
        assert next(application.events(reply)) == ("sources", {"sources": shown})
