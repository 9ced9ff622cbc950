from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.engine import IncompleteGeneration
from serving.engines.event_stream import read_data

PATIENCE = 20.0
SHORT = 0.01


class Content:
    """What a response has to read: bytes, or an event to wait for first."""

    def __init__(self, *pieces: bytes | asyncio.Event) -> None:
        self._pieces = list(pieces)

    async def readany(self) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, bytes):
                return piece
            await piece.wait()
        return b""


async def read(content: Any, **limits: float) -> list[bytes]:
    seconds = {"first_seconds": PATIENCE, "between_seconds": PATIENCE, **limits}
    return [data async for data in read_data(content, **seconds)]


async def test_lines_may_be_cut_anywhere() -> None:
    content = Content(b"data: a\n\nda", b"ta: ", b"b", b"\n: a comment\n", b"data:c\n\n", b"data: half")
    assert await read(content) == [b"a", b"b", b"c", b"half"]


async def test_the_first_event_and_the_events_after_it_have_their_own_limits() -> None:
    never = asyncio.Event()
    with pytest.raises(IncompleteGeneration, match=r"nothing for 0\.01 seconds"):
        await read(Content(never), first_seconds=SHORT)
    with pytest.raises(IncompleteGeneration, match=r"nothing for 0\.01 seconds"):
        await read(Content(b"data: a\n\n", never), between_seconds=SHORT)


async def test_an_old_limit_does_not_end_a_later_wait() -> None:
    content, loop = Content(b"data: a\n\n", asyncio.Event()), asyncio.get_running_loop()
    events = read_data(content, first_seconds=SHORT, between_seconds=PATIENCE)  # type: ignore[arg-type]
    assert await anext(events) == b"a"
    later = asyncio.ensure_future(anext(events))
    rung = asyncio.Event()
    loop.call_later(3 * SHORT, rung.set)  # after the first limit
    await rung.wait()
    assert not later.done()
    later.cancel()
    with pytest.raises(asyncio.CancelledError):
        await later


async def test_a_cancelled_read_raises_no_timeout() -> None:
    reading = asyncio.ensure_future(read(Content(asyncio.Event())))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(IncompleteGeneration, match="too long"):
        await read(Content(*[b"x" * (1 << 18)] * 5))
