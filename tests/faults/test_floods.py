"""Beside each flood an honest client is answered, and the application's memory stays bounded.

`benchmarks.floods` measures how fast the client is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Count
from tests.support.application import PATIENCE, ROOT, Application, peak_memory, running, upstream
from tests.support.floods import KINDS
from tests.support.listening import ask, new_chat

REQUESTS = 20  # of the honest client, half of them on new connections
# Connections that a flood must have opened; where connections wait, more than one address may have.
BEGUN = dict.fromkeys(("silent", "half headers", "half bodies", "idle", "event streams"), 300)
MEGABYTE = 1 << 20
MOST_GROWTH = 160 * MEGABYTE

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes of Linux")


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    data = tmp_path_factory.mktemp("floods") / "data"
    with (
        upstream("word " * 2000, rate=20) as url,
        running(data, "--upstream", url, page=False) as application,
    ):
        application.wait_until("ready")
        yield application


def open_files(application: Application) -> int:
    assert application.process is not None
    return len(os.listdir(f"/proc/{application.process.pid}/fd"))


@contextlib.asynccontextmanager
async def flooding(kind: str, *more: str) -> AsyncIterator[Counter[str]]:
    """A flood from another process; yields how its connections have fared so far."""
    outcomes: Counter[str] = Counter()
    command = [sys.executable, "-m", "tests.support.floods", kind, *more]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            outcomes.update(Counter(json.loads(line)) - outcomes)

    reading = asyncio.create_task(read())
    try:
        yield outcomes
    finally:
        process.kill()
        await process.wait()
        await reading


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
        more = [cookie, f"/api/replies/{reply}/events"]
        async with flooding(kind, address, *more) as outcomes:
            honest = 0
            while honest < REQUESTS or outcomes["begun"] < BEGUN.get(kind, 16):
                async with httpx.AsyncClient(
                    base_url=address, cookies=client.cookies, timeout=PATIENCE
                ) as once:
                    for asking in (client, once):
                        assert (await asking.get("/api/conversations")).status_code == 200
                        assert (await asking.post("/api/conversations")).status_code == 201
                        honest += 2
        grown = peak_memory(application.process.pid) - before
        while open_files(application) > files + 10:  # of the honest client and the attacker's reply
            await asyncio.sleep(0.02)
        assert (await client.get("/ready")).status_code == 200
    fared = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    count(f"flood of {kind}: {fared}; {honest} honest requests answered, memory grown by {grown >> 20} MB")
    assert grown < MOST_GROWTH
    assert "Traceback" not in application.log, application.log
    assert application.log.count("\n") < 100
