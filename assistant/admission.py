"""Who is answered now, who waits for a turn, and who is refused.

Knows owners and how many replies there may be; refuses to know what a reply does with its turn. A place is
taken at once or not at all, so that nobody who is refused waits for it.

Fair between owners, whoever asks most: the next turn goes to the owner of whom the fewest replies are under
way, in rotation among equals. And of the places that are left, no owner may have taken as many already: one
alone gets at most half of all, and however many crowd in, somebody new finds room.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable

from assistant.errors import QueueFull

LONGEST_RETRY_SECONDS = 60


class Place:
    """The place of one reply: it waits, has its turn, leaves. Made by `Admission.enter`."""

    def __init__(self, admission: Admission, owner: str) -> None:
        self.owner = owner
        self.is_waiting = True
        self._admission = admission
        self._began: float | None = None  # when it had its turn
        self._has_left = False

    async def turn(self) -> None:
        """Return when the turn has come."""
        while self.is_waiting:
            await self._admission._next_move()

    async def waits(self) -> AsyncIterator[int]:
        """How many others come first, told anew whenever that changes, until the turn has come."""
        told = -1
        while self.is_waiting:
            if (before := self._admission._before(self)) != told:
                told = before
                yield before
            else:
                await self._admission._next_move()

    def leave(self) -> None:
        """Give the place back, with the turn or without it."""
        self._admission._leave(self)


class Admission:
    """The places of all replies: `limit` of them, of which `running()` may have their turn at once.

    `running` is asked anew each time, since it may depend on the engine; `look_again` when it has grown.
    """

    def __init__(self, *, limit: int, running: Callable[[], int]) -> None:
        self._limit = limit
        self._most_running = running
        self._running: Counter[str] = Counter()  # by owner
        self._waiting: dict[str, deque[Place]] = {}  # by owner, in the order of their rotation
        self._taken = 0
        self._move: asyncio.Future[None] | None = None
        self._usual_seconds = 5.0  # that a reply takes: the mean of late

    def enter(self, owner: str) -> Place:
        """Take a place. Raises `QueueFull`, with the seconds after which there may be one."""
        left = self._limit - self._taken
        own = self._running[owner] + len(self._waiting.get(owner, ()))
        if own >= left:
            raise QueueFull(self._retry_after())
        self._taken += 1
        place = Place(self, owner)
        self._waiting.setdefault(owner, deque()).append(place)
        self.look_again()
        return place

    def look_again(self) -> None:
        """Give turns to those who wait, as many as there are."""
        while self._waiting and self._running.total() < max(1, self._most_running()):
            owner = min(self._waiting, key=lambda owner: self._running[owner])
            queue = self._waiting.pop(owner)
            place = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # at the end of the rotation
            self._running[owner] += 1
            place._began = time.monotonic()
            place.is_waiting = False
            self._moved()

    def _leave(self, place: Place) -> None:
        if place._has_left:
            return
        place._has_left = True
        owner = place.owner
        self._taken -= 1
        if place._began is None:
            place.is_waiting = False
            self._waiting[owner].remove(place)
            if not self._waiting[owner]:
                del self._waiting[owner]
        else:
            self._usual_seconds += (time.monotonic() - place._began - self._usual_seconds) / 16
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
        self._moved()
        self.look_again()

    def _before(self, place: Place) -> int:
        """How many of those who wait come before this one, if nobody new comes."""
        own = self._waiting[place.owner].index(place)
        before = own
        is_earlier = True
        for owner, queue in self._waiting.items():
            if owner == place.owner:
                is_earlier = False
            else:
                before += min(len(queue), own + is_earlier)
        return before

    def _retry_after(self) -> int:
        """Seconds until, on average, one of the replies under way has ended."""
        seconds = self._usual_seconds / max(1, self._running.total())
        return max(1, min(LONGEST_RETRY_SECONDS, round(seconds)))

    async def _next_move(self) -> None:
        """Return when somebody has had a turn or has left."""
        if self._move is None:
            self._move = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._move)

    def _moved(self) -> None:
        if self._move is not None:
            self._move.set_result(None)
            self._move = None
