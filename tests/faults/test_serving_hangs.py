"""A serving layer that hangs is replaced: its replies fail with a reason and keep their text."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from assistant.knowledge.answer import INSTEAD
from tests.faults.conftest import Count
from tests.support.application import PATIENCE, ROOT, Application, running, upstream
from tests.support.listening import ask, client_of, events, hear, messages_of, new_chat
from tests.support.tiny_gguf import write_tiny_gguf

WAYS = signal.SIGSTOP, signal.SIGUSR1
SEED = 11
ANSWER = " ".join(f"wörd{number}🦀" for number in range(100))
SYS_TGKILL = 234

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the processes of Linux")


@pytest.fixture
def hanging_on_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support" / "hanging"))


@pytest.fixture
def application(
    tmp_path: Path, hanging_on_signal: None, documentation_options: tuple[str, ...]
) -> Iterator[Application]:
    options = (*documentation_options, "--hang-seconds", "2")
    with (
        upstream(ANSWER, rate=100) as url,
        running(tmp_path / "data", "--upstream", url, *options, page=False, until="ready") as application,
    ):
        application.wait_for_documentation()
        yield application


async def becomes_ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/ready")).json()["engine"] != "ready":
        await asyncio.sleep(0.05)


async def test_a_serving_layer_that_hangs_costs_the_replies_under_way_and_is_replaced(
    application: Application, count: Count
) -> None:
    chance = random.Random(SEED)
    shown = missing = 0
    async with client_of(application) as client:
        chat = application.new_chat()
        for way in WAYS:
            async with asyncio.timeout(PATIENCE):
                reply = await ask(client, chat, "What is a tree?")
                moment, pid = chance.randrange(1, len(ANSWER) // 2), application.serving_pid()
                text, end, meanwhile = "", {}, None
                async for name, data in events(client, reply):
                    text += data.get("text", "")
                    end = data if name in ("done", "error") else end
                    if meanwhile is None and len(text) >= moment:
                        os.kill(pid, way)
                        other = await ask(client, await new_chat(client), "How do I remove a tree?")
                        meanwhile = asyncio.create_task(hear(client, other))
                stored = (await messages_of(client, chat))[-1]
                assert end["type"] == "engine_unreachable", end
                assert (stored["status"], stored["error"]) == ("failed", end)
                assert ANSWER.startswith(text)
                assert len(text) >= moment
                shown += len(text)
                missing += stored["content"] != text
                assert meanwhile is not None
                answer = await meanwhile
                assert (answer.end, answer.text.startswith(INSTEAD)) == ("done", True), answer
                assert "shutil.rmtree" in answer.text
                await becomes_ready(client)
                assert application.serving_pid() != pid
                assert (await hear(client, await ask(client, chat, "and now?"))).text == ANSWER
    count(
        f"a serving layer that hangs: stopped 1, spinning 1, shown {shown:,} code points, missing {missing}, "
        f"answered by the documentation meanwhile {len(WAYS)}, next ones by the model {len(WAYS)}"
    )
    assert missing == 0
    assert "Traceback" not in application.log, application.log


def busiest_thread(pid: int) -> int:
    """The thread that has computed most, apart from the first, which runs Python."""

    def ticks(thread: str) -> int:
        stat = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11])

    return int(max((thread for thread in os.listdir(f"/proc/{pid}/task") if int(thread) != pid), key=ticks))


async def test_an_engine_that_hangs_while_its_process_answers_is_replaced(
    tmp_path: Path, hanging_on_signal: None, count: Count
) -> None:
    model = write_tiny_gguf(tmp_path / "slow.gguf", context=8192, blocks=4, width=384)
    options = ("--model", str(model), "--threads", "1", "--first-seconds", "4", "--max-new-tokens", "64")
    with running(tmp_path / "data", *options, page=False, until="ready") as application:
        async with client_of(application) as client, asyncio.timeout(PATIENCE):
            chat = application.new_chat()
            first = await hear(client, await ask(client, chat, "Well?"))
            assert first.end == "done", (first.end_data, application.log)
            pid = application.serving_pid()
            thread = busiest_thread(pid)
            assert ctypes.CDLL(None).syscall(SYS_TGKILL, pid, thread, signal.SIGUSR2) == 0
            heard = await hear(client, await ask(client, chat, "And now?"))
            assert heard.end == "error", heard
            assert heard.end_data["type"] in ("engine_unreachable", "engine_failed"), heard.end_data
            while (await asyncio.to_thread(application.serving_pid)) == pid:
                await asyncio.sleep(0.05)
            await becomes_ready(client)
            assert (await hear(client, await ask(client, chat, "Once more?"))).end == "done"
        assert "llama.cpp hangs" in application.log
    count("an engine that hangs: 1, processes replaced 1, next ones answered 1")
