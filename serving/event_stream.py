"""Read Server-Sent Events from an engine's HTTP response: fast, bounded, and never waiting for ever.

Knows bytes, lines and time limits; refuses to know what the data means. Engines put each event's data on
one line, so a line is all that has to be put together again from pieces cut anywhere, within characters too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import aiohttp

from serving.engine import IncompleteGeneration

LONGEST_LINE = 1 << 20  # bytes


async def read_data(
    content: aiohttp.StreamReader, *, first_seconds: float, between_seconds: float
) -> AsyncGenerator[bytes]:
    """The data of each event. Raises `IncompleteGeneration` when the stream stalls, breaks or overflows.

    `first_seconds` is the limit until anything arrives, `between_seconds` from then on; a comment counts.
    """
    rest = bytearray()
    seconds = first_seconds
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await content.readany()
        except TimeoutError:
            raise IncompleteGeneration(f"The engine has sent nothing for {seconds:g} seconds.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise IncompleteGeneration("The connection to the engine broke off.") from error
        seconds = between_seconds
        if piece and b"\n" not in piece:  # never search the rest twice, however small the pieces are
            rest += piece
            lines = []
        else:
            lines = bytes(rest + piece).split(b"\n")
            rest = bytearray(lines.pop() if piece else b"")
        if len(rest) > LONGEST_LINE:
            raise IncompleteGeneration("The engine has sent an event that is too long.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if not piece:
            return
