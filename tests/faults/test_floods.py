"""Floods of the real application, with an honest client beside: it is answered, and memory stays bounded.

How fast it is answered says `benchmarks.floods`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Count
from tests.support.application import PATIENCE, Application, peak_memory, running, upstream
from tests.support.floods import KINDS, flood
from tests.support.listening import ask, new_chat

REQUESTS = 40  # of the honest client, half of them on a connection of their own
BEGUN = 300  # connections of a flood, more than one address may have
MEGABYTE = 1 << 20
MOST_GROWTH = 160 * MEGABYTE

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    with contextlib.ExitStack() as stack:
        url = await asyncio.to_thread(stack.enter_context, upstream("word " * 2000, rate=20))
        starting = running(tmp_path / "data", "--upstream", url, page=False)
        application = await asyncio.to_thread(stack.enter_context, starting)
        await asyncio.to_thread(application.wait_until, "ready")
        yield application


def open_files(application: Application) -> int:
    assert application.process is not None
    return len(os.listdir(f"/proc/{application.process.pid}/fd"))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_honest_client_beside_a_flood_is_answered(
    kind: str, application: Application, count: Count
) -> None:
    assert application.process is not None
    address = application.address
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client, asyncio.timeout(PATIENCE):
        await new_chat(client)
        before, files = peak_memory(application.process.pid), open_files(application)
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as attacker:
            reply = await ask(attacker, await new_chat(attacker), "q")
            cookie = "; ".join(f"{name}={value}" for name, value in attacker.cookies.items())
        attack = flood(kind, cookie, f"/api/replies/{reply}/events")
        flooding = asyncio.create_task(attack.run(address))
        honest = 0
        while honest < REQUESTS or attack.met["begun"] < min(BEGUN, attack.number):
            async with httpx.AsyncClient(base_url=address, cookies=client.cookies, timeout=PATIENCE) as once:
                for asking in (client, once):
                    assert (await asking.get("/api/conversations")).status_code == 200
                    assert (await asking.post("/api/conversations")).status_code == 201
                    honest += 2
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        grown = peak_memory(application.process.pid) - before
        while open_files(application) > files + 10:  # the honest client's own, and the attacker's reply
            await asyncio.sleep(0.02)
        assert (await client.get("/ready")).status_code == 200
    met = ", ".join(f"{number} {what}" for what, number in attack.met.items())
    count(f"flood of {kind}: {met}; {honest} honest requests answered, memory grown by {grown >> 20} MB")
    assert grown < MOST_GROWTH
    assert "Traceback" not in application.log, application.log
    assert application.log.count("\n") < 100
