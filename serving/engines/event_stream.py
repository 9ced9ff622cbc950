"""Reads Server-Sent Events from an engine's HTTP response, within limits of size and time.

The response arrives in pieces that may be cut anywhere, even inside a character. Engines write the data of
each event on one line, so we only have to join the pieces of a line.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import aiohttp

from serving.engine import IncompleteGeneration

LONGEST_LINE = 1 << 20  # bytes


async def read_data(
    content: aiohttp.StreamReader,
    *,
    first_seconds: float,
    between_seconds: float,
    begun: float | None = None,
    comments_count: bool = True,
) -> AsyncGenerator[bytes]:
    """The data of each event. Raises `IncompleteGeneration` if the stream stalls, breaks off or has a line
    that is too long.

    `first_seconds` limits the time from `begun` (by the clock of the loop) to the first event, and
    `between_seconds` the time from one event to the next; the time that the caller takes does not count. With
    `comments_count`, a comment counts as an event.
    """
    now = asyncio.get_running_loop().time
    alarm = _Alarm()
    rest = bytearray()
    begun = now() if begun is None else begun
    seconds, until = first_seconds, begun + first_seconds
    try:
        while True:
            try:
                piece = await alarm.wait(content.readany(), until)
            except TimeoutError:
                raise IncompleteGeneration(f"The engine has sent nothing for {seconds:g} seconds.") from None
            except (aiohttp.ClientError, OSError) as error:
                raise IncompleteGeneration("The connection to the engine broke off.") from error
            if piece and b"\n" not in piece:  # do not search `rest` again for each small piece
                rest += piece
                lines = []
            else:
                lines = bytes(rest + piece).split(b"\n")
                rest = bytearray(lines.pop() if piece else b"")
            if len(rest) > LONGEST_LINE:
                raise IncompleteGeneration("The engine has sent an event that is too long.")
            counts = comments_count
            for line in lines:
                if line.startswith(b"data:"):
                    counts = True
                    yield line[5:].strip()
            if not piece:
                return
            if counts:
                seconds, until = between_seconds, now() + between_seconds
    finally:
        alarm.close()


class _Alarm:
    """A time limit like `asyncio.timeout_at`, but cheaper for many short waits: they share one timer, which
    is set again if it rings too early."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None  # the task that waits
        self._until = self._set_for = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._rang = False

    async def wait(self, waiting: Awaitable[bytes], until: float) -> bytes:
        """Raises TimeoutError at the time `until`."""
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._task, self._until, self._rang = task, until, False
        if until < self._set_for:
            self._set(until)
        try:
            return await waiting
        except asyncio.CancelledError:
            if self._rang and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._task = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, when: float) -> None:
        self.close()
        self._set_for = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._set_for = math.inf
        if self._task is None:
            return  # the next wait sets it again
        if self._loop.time() < self._until:
            self._set(self._until)
        else:
            self._rang = True
            self._task.cancel()
