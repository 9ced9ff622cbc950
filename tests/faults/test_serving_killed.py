"""`kill -9` of the serving layer in mid-answer: the reply fails and keeps its text; the next one works."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Count
from tests.support.application import PATIENCE, Application, running, upstream
from tests.support.listening import ask, client_of, events, hear, messages_of

KILLS = 3
SEED = 5
ANSWER = " ".join(f"wörd{number}🦀" for number in range(100))

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    with (
        upstream(ANSWER, rate=100) as url,
        running(tmp_path / "data", "--upstream", url, page=False, until="ready") as application,
    ):
        yield application


async def test_a_killed_serving_layer_costs_the_replies_under_way_and_no_others(
    application: Application, count: Count
) -> None:
    chance = random.Random(SEED)
    moments = [0, *sorted(chance.randrange(1, len(ANSWER)) for _ in range(KILLS - 1))]
    shown = missing = 0
    async with client_of(application) as client, asyncio.timeout(PATIENCE):
        chat = application.new_chat()
        for number, moment in enumerate(moments):
            reply = await ask(client, chat, f"killed after {moment}")
            text, end = "", {}
            if moment == 0:
                os.kill(application.serving_pid(), signal.SIGKILL)
            async for name, data in events(client, reply):
                text += data.get("text", "")
                end = data if name in ("done", "error") else end
                if moment and len(text) >= moment:
                    moment = 0
                    os.kill(application.serving_pid(), signal.SIGKILL)
            stored = (await messages_of(client, chat))[-1]
            if end.get("status") == "done":  # it was killed before it was asked, and another one answered
                assert (number, text) == (0, ANSWER)
            else:
                assert end["type"] == "engine_unreachable", end
                assert (stored["status"], stored["error"]) == ("failed", end)
                assert ANSWER.startswith(stored["content"])
            shown += len(text)
            missing += stored["content"] != text
            await asyncio.to_thread(application.wait_until, "ready")
            assert (await hear(client, await ask(client, chat, "and now?"))).text == ANSWER
    count(
        f"kill -9 of the serving layer: kills {KILLS}, shown {shown:,} code points, missing {missing}, "
        f"next ones answered {KILLS}"
    )
    assert missing == 0
    assert "Traceback" not in application.log, application.log
