"""Decides which replies run now, which wait, and which are refused.

A new reply gets a ticket immediately, or is refused immediately.

It is fair between owners, however much each of them asks. The next reply to run belongs to the owner with the
fewest running replies, in rotation among equals. An owner gets another ticket only while the owner has fewer
tickets than are left. So a single owner gets at most half of all tickets, and a new owner always finds one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable

from assistant.errors import QueueFull

LONGEST_RETRY_SECONDS = 60


class Ticket:
    """Lets one reply wait, run and leave. Made by `Admission.enter`."""

    def __init__(self, admission: Admission, owner: str) -> None:
        self.owner = owner
        self.is_waiting = True
        self._admission = admission
        self._started: float | None = None
        self._has_left = False

    async def wait_to_start(self) -> None:
        """Return when the reply may run."""
        while self.is_waiting:
            await self._admission._next_change()

    async def positions(self) -> AsyncIterator[int]:
        """The number of replies that run before this one, at every change, until it may run."""
        last = -1
        while self.is_waiting:
            if (position := self._admission._position(self)) != last:
                last = position
                yield position
            else:
                await self._admission._next_change()

    def leave(self) -> None:
        """Return the ticket, whether or not the reply has run."""
        self._admission._leave(self)


class Admission:
    """Gives out at most `limit` tickets. At most `most_running()` of their replies run at the same time.

    `most_running` is called each time, because it may depend on the engine. Call `start_waiting` when its
    value has grown.
    """

    def __init__(self, *, limit: int, most_running: Callable[[], int]) -> None:
        self._limit = limit
        self._most_running = most_running
        self._running: Counter[str] = Counter()  # by owner
        self._waiting: dict[str, deque[Ticket]] = {}  # by owner, in the order of their rotation
        self._taken = 0
        self._change: asyncio.Future[None] | None = None
        self._usual_seconds = 5.0  # how long recent replies ran, on average

    def enter(self, owner: str) -> Ticket:
        """Take a ticket. Raises `QueueFull`, which says after how many seconds to try again."""
        left = self._limit - self._taken
        own = self._running[owner] + len(self._waiting.get(owner, ()))
        if own >= left:
            raise QueueFull(self._retry_after())
        self._taken += 1
        ticket = Ticket(self, owner)
        self._waiting.setdefault(owner, deque()).append(ticket)
        self.start_waiting()
        return ticket

    @contextlib.asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it within the `async with`. Raises `QueueFull`."""
        ticket = self.enter(owner)
        try:
            await ticket.wait_to_start()
            yield
        finally:
            ticket.leave()

    def start_waiting(self) -> None:
        """Let as many waiting replies run as possible."""
        while self._waiting and self._running.total() < max(1, self._most_running()):
            owner = min(self._waiting, key=lambda owner: self._running[owner])
            queue = self._waiting.pop(owner)
            ticket = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # at the end of the rotation
            self._running[owner] += 1
            ticket._started = time.monotonic()
            ticket.is_waiting = False
            self._changed()

    def _leave(self, ticket: Ticket) -> None:
        if ticket._has_left:
            return
        ticket._has_left = True
        owner = ticket.owner
        self._taken -= 1
        if ticket._started is None:
            ticket.is_waiting = False
            self._waiting[owner].remove(ticket)
            if not self._waiting[owner]:
                del self._waiting[owner]
        else:
            self._usual_seconds += (time.monotonic() - ticket._started - self._usual_seconds) / 16
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
        self._changed()
        self.start_waiting()

    def _position(self, ticket: Ticket) -> int:
        """How many waiting replies run before this one if no other arrives."""
        own = self._waiting[ticket.owner].index(ticket)
        position = own
        is_earlier = True
        for owner, queue in self._waiting.items():
            if owner == ticket.owner:
                is_earlier = False
            else:
                position += min(len(queue), own + is_earlier)
        return position

    def _retry_after(self) -> int:
        """Seconds until one of the running replies ends, on average."""
        seconds = self._usual_seconds / max(1, self._running.total())
        return max(1, min(LONGEST_RETRY_SECONDS, round(seconds)))

    async def _next_change(self) -> None:
        """Return when any reply starts or leaves."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def _changed(self) -> None:
        if self._change is not None:
            self._change.set_result(None)
            self._change = None
