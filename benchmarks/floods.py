"""How long an honest client waits while others flood the server, compared with no flood.

    .venv/bin/python -m benchmarks.floods

Each flood of `tests.support.floods` runs in a separate process with low priority, because it shares the
machine. The honest client lists its conversations and creates one, in turn on a kept connection and on new
ones. It does the same before each flood. Memory is by how much the application's peak grows. Recovery is the
time from the end of the flood until the application has as few open files as before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import httpx

from tests.support.application import PATIENCE, ROOT, Application, peak_memory, running, upstream
from tests.support.floods import KINDS
from tests.support.listening import ask, new_chat

NICE = ("nice", "-n", "10")


@dataclass(frozen=True)
class Waits:
    """The milliseconds that an honest client waited for its responses, and how many requests failed."""

    all: Sequence[float]
    failed: int

    def __str__(self) -> str:
        parts = quantiles(self.all, n=100)
        return f"{parts[49]:7.1f}{parts[94]:7.1f}{max(self.all):8.1f}"


async def honest(client: httpx.AsyncClient, address: str, seconds: float) -> Waits:
    waits: list[float] = []
    failed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        async with httpx.AsyncClient(base_url=address, cookies=client.cookies, timeout=PATIENCE) as once:
            for asking in (client, once):
                for method in ("GET", "POST"):
                    started = time.monotonic()
                    try:
                        answer = await asking.request(method, "/api/conversations")
                        failed += not answer.is_success
                    except httpx.TransportError:
                        failed += 1
                    waits.append(1000 * (time.monotonic() - started))
        await asyncio.sleep(0.05)
    return Waits(waits, failed)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def measure(kind: str, application: Application, seconds: float) -> str:
    """A row of the table."""
    assert application.process is not None
    address, pid = application.address, application.process.pid
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        await new_chat(client)
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as attacker:
            reply = await ask(attacker, await new_chat(attacker), "q")
            cookie = "; ".join(f"{name}={value}" for name, value in attacker.cookies.items())
        without = await honest(client, address, seconds)
        files, memory = open_files(pid), peak_memory(pid)
        command = [*NICE, sys.executable, "-m", "tests.support.floods", kind, address]
        events = f"/api/replies/{reply}/events"
        flood = await asyncio.create_subprocess_exec(
            *command, cookie, events, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            await asyncio.sleep(1)  # the flood begins meanwhile
            waits = await honest(client, address, seconds)
        finally:
            flood.kill()
            await flood.wait()
        ended = time.monotonic()
        grown = peak_memory(pid) - memory
        while open_files(pid) > files + 4:
            await asyncio.sleep(0.01)
        recovery = time.monotonic() - ended
    return f"{kind:<15}{without}  {waits}{waits.failed:>8}{grown / 2**20:10.0f}{recovery:10.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floods", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--seconds", type=float, default=10, help="length of each flood (default: %(default)g)"
    )
    options = parser.parse_args()
    print(f"{'':<15}{'without flood, ms':>22}  {'with flood, ms':>22}{'':>8}{'memory':>10}{'recovery':>10}")
    columns = f"{'p50':>7}{'p95':>7}{'max':>8}"
    print(f"{'flood':<15}{columns}  {columns}{'failed':>8}{'MB':>10}{'s':>10}")
    with tempfile.TemporaryDirectory() as folder, upstream("word " * 4000, rate=20) as url:
        for kind in options.kinds:
            data = Path(folder) / kind
            with running(data, "--upstream", url, page=False, fresh=True) as application:
                application.wait_until("ready")
                print(asyncio.run(measure(kind, application, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
