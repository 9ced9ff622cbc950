"""The cost and the delay of a streamed token, compared with `gr.ChatInterface`.

    .venv/bin/python -m benchmarks.streaming

An upstream in a separate process sends the current time at a fixed rate. Clients read the event streams and
compare the time in each piece with the clock. Percentiles are over all pieces of all replies. CPU time is
that of the application and its serving layer together (the peer has one process). With few replies, a token
costs up to a third less when many replies happen to send theirs at the same moment. So compare different
lengths of the history with many replies.

Columns: `steady` is the CPU time per token while all replies stream. `whole` divides all CPU time of the run,
from the first question to the stored end, by its tokens. `first` is the time from a question to its first
piece. `late` is the time from sending a piece to reading it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import uuid_utils
from sqlalchemy import Connection, insert

from assistant.conversation import Role, Status
from assistant.web.identity import Identity, cookie_name
from benchmarks.processes import cpu_seconds, program
from storage.database import Database
from storage.schema import conversations, messages
from tests.support.application import children, running

KEY = "a key for the benchmark alone"
STAMP = re.compile(rb"\d{9,} ")
PATIENCE = 90.0  # seconds for one run; the peer may need longer
UNLIMITED = aiohttp.ClientTimeout(total=None)
SHORTEST_STEADY = 2.0  # seconds; less is too inexact, because the kernel counts CPU time in hundredths
TEXT = "The quick brown fox jumps over the lazy dog, and then it reads the documentation of its tools. " * 6


@dataclass
class Reply:
    """When one client sent its question, and what it read when."""

    asked: float = 0.0
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    error: str = ""


@dataclass
class Row:
    name: str
    history: int
    replies: int
    errors: int
    tokens: int
    steady: float
    whole: float
    first: float
    late: list[float]

    def __str__(self) -> str:
        steady = f"{self.steady:9.0f}" if self.steady else "        –"
        return (
            f"{self.name:<16}{self.history:8}{self.replies:9}{self.errors:8}{self.tokens:8}{steady}"
            f"{self.whole:9.0f}{self.first:10.0f}{self.late[0]:9.0f}{self.late[1]:9.0f}"
        )


HEAD = (
    f"{'':<16}{'history':>8}{'replies':>9}{'errors':>8}{'tokens':>8}{'steady':>9}{'whole':>9}{'first':>10}"
    f"{'late':>9}{'late':>9}\n"
    f"{'':<16}{'messages':>8}{'at once':>9}{'':>8}{'':>8}{'µs/token':>9}{'µs/token':>9}{'ms p95':>10}"
    f"{'ms p50':>9}{'ms p95':>9}"
)


async def measure(
    name: str,
    history: int,
    replies: int,
    pids: list[int],
    ask: Callable[[int, Reply], Awaitable[None]],
) -> Row:
    """Send all questions at the same moment, and measure the replies."""
    measured = [Reply() for _ in range(replies)]
    before = cpu_seconds(*pids)
    steady: list[tuple[float, float]] = []

    async def watch() -> None:
        """Measure the CPU time from the moment when all replies stream until the first one ends."""
        while not all(reply.reads or reply.error for reply in measured):
            await asyncio.sleep(0.05)
        steady.append((time.monotonic(), cpu_seconds(*pids)))
        while not any(task.done() for task in tasks):
            await asyncio.sleep(0.05)
            steady[1:] = [(time.monotonic(), cpu_seconds(*pids))]

    tasks = [asyncio.ensure_future(ask(number, reply)) for number, reply in enumerate(measured)]
    watching = asyncio.ensure_future(watch())
    _, late = await asyncio.wait(tasks, timeout=PATIENCE)
    for task in (*late, watching):
        task.cancel()
    for reply, result in zip(measured, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if result is not None:
            reply.error = reply.error or repr(result)
    await asyncio.sleep(0.5)  # storing the replies belongs to the run
    used = cpu_seconds(*pids) - before

    stamps = [
        (at, int(stamp) / 1e6)
        for reply in measured
        for at, data in reply.reads
        for stamp in STAMP.findall(data)
    ]
    errors = [reply.error for reply in measured if reply.error]
    if errors:
        print(f"  {name}: {errors[0][:200]}", file=sys.stderr)
    lateness = quantiles([(at - sent) * 1000 for at, sent in stamps] or [0, 0], n=100)
    first = [(reply.reads[0][0] - reply.asked) * 1000 for reply in measured if reply.reads]
    per_token = 0.0
    if len(steady) == 2 and steady[1][0] - steady[0][0] > SHORTEST_STEADY:
        (start, cpu_start), (end, cpu_end) = steady
        streamed = sum(start <= at < end for at, _ in stamps)
        per_token = (cpu_end - cpu_start) / max(1, streamed) * 1e6
    return Row(
        name,
        history,
        replies,
        len(errors),
        len(stamps),
        per_token,
        used / max(1, len(stamps)) * 1e6,
        quantiles(first or [0, 0], n=20)[18],
        [lateness[49], lateness[94]],
    )


# Ours


def store_chats(data: Path, wanted: Mapping[int, int]) -> dict[int, list[tuple[str, str]]]:
    """Store conversations before the application starts: `wanted` says how many of each length of history.

    Each has another owner. Returns the owners' cookies and the conversations' ids, by the length of history.
    """
    identity = Identity(None, key=KEY.encode(), marks={})  # type: ignore[arg-type]
    cookie = cookie_name(KEY.encode())
    chats: dict[int, list[tuple[str, str]]] = {}
    data.mkdir(parents=True)
    (data / "secret_key").write_text(KEY)
    database = Database(data / "tech-assistant.db")

    def store(connection: Connection) -> None:
        now = datetime.now(UTC)
        for history, number in wanted.items():
            for _ in range(number):
                owner, chat = uuid_utils.uuid4().hex, str(uuid_utils.uuid7())
                ids = [str(uuid_utils.uuid7()) for _ in range(history)]
                new = {"id": chat, "owner": owner, "title": "A chat", "created_at": now, "updated_at": now}
                connection.execute(insert(conversations), {**new, "active_leaf_id": ids[-1] if ids else None})
                common = {"conversation_id": chat, "content": TEXT, "status": Status.DONE, "created_at": now}
                common |= {"provenance": {}}
                parents, roles = [None, *ids], [Role.USER, Role.ASSISTANT] * history
                rows = [
                    {**common, "id": message, "parent_id": parents[n], "position": n, "role": roles[n]}
                    for n, message in enumerate(ids)
                ]
                connection.execute(insert(messages), rows)
                chats.setdefault(history, []).append((f"{cookie}={identity.sign(owner)}", chat))

    asyncio.run(database.write(store))
    database.close()
    return chats


async def ask_ours(
    session: aiohttp.ClientSession, address: str, chats: list[tuple[str, str]], number: int, reply: Reply
) -> None:
    cookie, conversation = chats.pop()
    headers = {"Cookie": cookie}
    reply.asked = time.monotonic()
    url = f"{address}/api/conversations/{conversation}/messages"
    async with session.post(url, json={"text": "What time is it?"}, headers=headers) as response:
        if response.status != 202:
            reply.error = f"{response.status} {await response.text()}"
            return
        asked = json.loads(await response.read())
    async with session.get(f"{address}/api/replies/{asked['reply_id']}/events", headers=headers) as response:
        end = b""
        async for data in response.content.iter_any():
            if b"event: delta" in data:
                reply.reads.append((time.monotonic(), data))
            end = data
        if b"event: done" not in end:
            reply.error = f"ended with {end!r}"


# The peer


async def ask_peer(
    session: aiohttp.ClientSession, address: str, history: int, number: int, reply: Reply
) -> None:
    """Send the requests of the peer's page: three calls and a stream (function numbers of Gradio 6.31)."""
    key = f"session{time.monotonic_ns()}{number}"
    past = [
        {"role": ("user", "assistant")[n % 2], "content": [{"type": "text", "text": TEXT}], "metadata": None}
        for n in range(history)
    ]

    async def call(fn_index: int, data: list[Any]) -> Any:
        body = {"fn_index": fn_index, "data": data, "session_hash": key}
        async with session.post(f"{address}/gradio_api/run/predict", json=body) as response:
            response.raise_for_status()
            return json.loads(await response.read())

    await call(27, [past])  # set the history of the session
    reply.asked = time.monotonic()
    await call(0, ["What time is it?"])
    await call(1, [None, past])
    body = {"fn_index": 2, "data": [None, None], "session_hash": key}
    async with session.post(f"{address}/gradio_api/queue/join", json=body) as response:
        if response.status != 200:
            reply.error = f"{response.status} {await response.text()}"
            return
    waiting = b""
    async with session.get(f"{address}/gradio_api/queue/data?session_hash={key}") as response:
        async for data in response.content.iter_any():
            *messages, waiting = (waiting + data).split(b"\n\n")
            for message in messages:
                if b'"process_generating"' in message and (found := STAMP.findall(message + b" ")):
                    reply.reads.append((time.monotonic(), found[-1]))
                elif b'"process_completed"' in message:
                    if b'"success":true' not in message.replace(b" ", b""):
                        reply.error = message.decode()[:300]
                    return


async def run(options: argparse.Namespace) -> None:
    few = [(history, options.few) for history in options.history]
    runs = few + [(history, options.many) for history in options.history]
    rows: list[Row] = []
    print(f"{options.tokens} tokens per reply, {options.rate:g} per second\n\n{HEAD}", flush=True)
    clock = ("-m", "tests.support.fake_upstream", "--clock", str(options.tokens), "--rate", str(options.rate))
    with tempfile.TemporaryDirectory() as folder, program(*clock) as (upstream, _):
        data = Path(folder) / "data"
        wanted: Counter[int] = Counter()
        for history, replies in runs:
            wanted[history] += replies
        chats = await asyncio.to_thread(store_chats, data, wanted)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=UNLIMITED
        ) as session:
            with running(data, "--upstream", upstream, fresh=True) as application:
                await asyncio.to_thread(application.wait_until, "ready")
                await asyncio.to_thread(application.wait_for_page)
                assert application.process is not None
                for history, replies in runs:
                    ask = functools.partial(ask_ours, session, application.address, chats[history])
                    pids = [application.process.pid, *children(application.process.pid)]
                    rows.append(await measure("Tech Assistant", history, replies, pids, ask))
                    print(rows[-1], flush=True)
            if not options.no_peer:
                with program("-m", "benchmarks.chat_interface", upstream) as (address, pid):
                    # Skip the longer histories: the peer is far behind already.
                    for history, replies in [*few, (options.history[0], options.many)]:
                        ask = functools.partial(ask_peer, session, address, history)
                        rows.append(await measure("gr.ChatInterface", history, replies, [pid], ask))
                        print(rows[-1], flush=True)
    print("\n" + "\n".join(ratios(rows)))


def ratios(rows: list[Row]) -> Iterator[str]:
    """The cost of a long history, and of the peer, as sentences."""
    by_run: dict[tuple[int, int], list[Row]] = {}
    for (name, replies), group in itertools.groupby(rows, key=lambda row: (row.name, row.replies)):
        same = list(group)
        first, last = same[0], same[-1]
        if first.whole and last.history > first.history:
            times = [f"{last.whole / first.whole:.2f} times (whole)"]
            if first.steady and last.steady:
                times.append(f"{last.steady / first.steady:.2f} times (steady)")
            yield (
                f"{name}, {replies} replies at once: a token with a history of {last.history} messages takes "
                f"{', '.join(times)} the CPU time of one with {first.history}"
            )
        for row in same:
            by_run.setdefault((row.history, row.replies), []).append(row)
    for (history, replies), pair in by_run.items():
        ours, theirs = pair[0], pair[-1]
        if ours.name != theirs.name and ours.whole:
            yield (
                f"{replies} replies at once, {history} messages of history: the peer takes "
                f"{theirs.whole / ours.whole:.1f} times our CPU time per token, and "
                f"{theirs.first / ours.first:.1f} times our time to the first piece"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--tokens", type=int, default=200, help="length of a reply")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens per second of a reply")
    parser.add_argument("--few", type=int, default=50, help="replies at once in the first run")
    parser.add_argument("--many", type=int, default=200, help="replies at once in the second run")
    parser.add_argument(
        "--history", type=int, nargs="*", default=[2, 50, 200], help="lengths of the history, in messages"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave gr.ChatInterface out")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
