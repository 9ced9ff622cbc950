"""A conversation is deleted while it is answered, at any moment of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tests.faults.conftest import Count
from tests.support.application import PATIENCE
from tests.support.fake_upstream import DONE, FakeUpstream, piece, usage
from tests.support.listening import Chain, ask, client_of, events, hear, in_front_of, new_chat, under_way

TIMES = 20
SEED = 4
WORDS = [f"wörd{number}🦀 " for number in range(60)]
FOREVER = "An answer without an end."

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


class SlowUpstream(FakeUpstream):
    """Sends its words slowly, and without an end to a prompt that contains `FOREVER`."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = 0

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.answering += 1
        try:
            is_endless = FOREVER in (await request.json())["prompt"]
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            while True:
                for word in WORDS:
                    await response.write(piece(word))
                    await asyncio.sleep(0.002)
                if not is_endless:
                    break
            await response.write(piece("", "stop") + usage(7, len(WORDS)) + DONE)
        finally:
            self.answering -= 1
        return response


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    async with SlowUpstream() as upstream, in_front_of(upstream, data=tmp_path / "data") as chain:
        yield chain


async def test_a_deleted_conversation_ends_and_hurts_no_other(chain: Chain, count: Count) -> None:
    chance = random.Random(SEED)
    length = len("".join(WORDS))
    # Right after it was asked, in mid-answer, and around the end of one that ends by itself.
    moments = [0, 0, 0, *[length - 1] * 2, *[length] * 2]
    moments += [chance.randrange(1, 2 * length) for _ in range(TIMES - len(moments))]
    ends: dict[str, int] = {}
    async with client_of(chain.application) as client, asyncio.timeout(PATIENCE):
        for number, moment in enumerate(moments):
            doomed, spared = [await new_chat(client) for _ in range(2)]
            question = "Be short." if moment in (length - 1, length) else FOREVER
            reply, other = await asyncio.gather(
                ask(client, doomed, f"{number}. {question}"), ask(client, spared, f"{number}. Be short.")
            )
            listening = asyncio.create_task(hear(client, other))
            text, end, deleting = "", {}, None
            if moment == 0:
                deleting = asyncio.create_task(client.delete(f"/api/conversations/{doomed}"))
            try:
                async for name, data in events(client, reply):
                    text += data.get("text", "")
                    end = data if name in ("done", "error") else end
                    if deleting is None and len(text) >= moment:
                        deleting = asyncio.create_task(client.delete(f"/api/conversations/{doomed}"))
            except httpx.HTTPStatusError as error:  # it was gone before it could be listened to
                if moment or error.response.status_code != 404:
                    raise
                end = {"status": "unheard"}
            assert deleting is not None
            assert (await deleting).status_code == 204
            assert end["status"] in ("stopped", "done", "unheard"), end
            ends[end["status"]] = ends.get(end["status"], 0) + 1
            for address in (f"conversations/{doomed}", f"replies/{reply}/events"):
                assert (await client.get(f"/api/{address}")).status_code == 404, address
            heard = await listening
            assert (heard.text, heard.end) == ("".join(WORDS), "done")
            while chain.upstream.answering or await under_way(chain.layer):  # the engine stops computing
                await asyncio.sleep(0.01)
            with contextlib.closing(sqlite3.connect(chain.application.data / "tech-assistant.db")) as look:
                assert look.execute("SELECT count(*) FROM piece").fetchone() == (0,)
    ended = ", ".join(f"{status} {times}" for status, times in sorted(ends.items()))
    count(f"deleted in mid-answer: {TIMES} ({ended}), nothing left in the journal, no other hurt")
    assert "Traceback" not in chain.application.log, chain.application.log
    assert "ERROR" not in chain.application.log, chain.application.log
