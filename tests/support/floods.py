"""Floods a running application with many connections, or with few that send much.

    python -m tests.support.floods KIND ADDRESS [COOKIE PATH]

It floods until it is killed, and prints as JSON how its connections have fared so far. All connections of a
flood do the same; each is opened again half a second after it was refused or cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

POST = b"POST /api/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /api/engine HTTP/1.1\r\nHost: localhost\r\n"
COOKIES = b"; ".join(b"c%d=%d" % (number, number) for number in range(2000))
MEGABYTE = b"x" * (1 << 20)


@dataclass
class Flood:
    """`number` connections that send `opening`, then `drip` each second."""

    number: int
    opening: Sequence[bytes]
    drip: bytes = b""
    outcomes: Counter[str] = field(default_factory=Counter)  # begun, reset, cut, or the status of an answer

    async def run(self, address: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        await asyncio.gather(*(self._again_and_again(host, int(port)) for _ in range(self.number)))

    async def _again_and_again(self, host: str, port: int) -> None:
        while True:
            try:
                await self._once(host, port)
            except OSError:
                self.outcomes["reset"] += 1
            await asyncio.sleep(0.5)

    async def _once(self, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        self.outcomes["begun"] += 1
        try:
            reading = asyncio.create_task(self._read(reader))
            with contextlib.suppress(OSError):
                for piece in self.opening:
                    writer.write(piece)
                    await writer.drain()
                while not reading.done():
                    await asyncio.wait([reading], timeout=1 if self.drip else None)
                    writer.write(self.drip)
            await reading
        finally:
            reading.cancel()
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Count the status of the answer, then read to its end."""
        line = await reader.readline()
        self.outcomes[line[9:12].decode() or "cut"] += 1
        while await reader.read(1 << 16):
            pass


def flood(kind: str, cookie: str = "", path: str = "") -> Flood:
    match kind:
        case "large headers":  # 8 MB
            return Flood(16, [GET + b"Cookie: ", *[MEGABYTE] * 8])
        case "many cookies":  # as many as a header may have
            return Flood(16, [GET + b"Cookie: " + COOKIES + b"\r\nConnection: close\r\n\r\n"])
        case "large bodies":
            return Flood(16, [POST + b"Content-Length: 8388608\r\n\r\n", *[MEGABYTE] * 8])
        case "tiny chunks":
            return Flood(16, [POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n" * 10_000] * 50])
        case "pipelined":
            return Flood(16, [(GET + b"\r\n") * 10_000])
        case "silent":
            return Flood(2000, [])
        case "half headers":
            return Flood(2000, [GET + b"Cookie: a"], drip=b"a")
        case "half bodies":
            return Flood(1000, [POST + b"Content-Length: 200000\r\n\r\n" + b" " * 100_000], drip=b" ")
        case "idle":
            return Flood(1000, [GET + b"\r\n"])
        case "event streams":  # more of one owner than the application allows
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
            return Flood(500, [head.encode()])
    raise ValueError(kind)


KINDS = (
    *("large headers", "many cookies", "large bodies", "tiny chunks", "pipelined"),
    *("silent", "half headers", "half bodies", "idle", "event streams"),
)


async def main(kind: str, address: str, *more: str) -> None:
    attack = flood(kind, *more)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(attack.run(address))
        while True:
            await asyncio.sleep(0.2)
            print(json.dumps(attack.outcomes), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
