"""The queue for llama.cpp's slots and for the tokens of its context, which all generations share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator


class Slots:
    """Generations wait here, not inside llama.cpp: that gives each slot as much of the context as it asks for
    and fails all of them when the context runs out, and a request that waits there occupies one of its HTTP
    threads. The queue is first come, first served, so that a long conversation gets its turn."""

    def __init__(self, slots: int, tokens: int) -> None:
        self._slots = slots
        self._tokens = tokens
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def take(self, tokens: int) -> AsyncGenerator[None]:
        """Hold a slot and `tokens` of the context, which must not be more than all of it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = (tokens, turn)
        self._queue.append(ticket)
        self._admit()
        try:
            await turn
            yield
        finally:
            if ticket in self._queue:
                self._queue.remove(ticket)
            elif not turn.cancelled():
                self._slots += 1
                self._tokens += tokens
            self._admit()

    def _admit(self) -> None:
        while self._queue and self._slots and self._queue[0][0] <= self._tokens:
            tokens, turn = self._queue.popleft()
            if turn.cancelled():
                continue
            self._slots -= 1
            self._tokens -= tokens
            turn.set_result(None)
