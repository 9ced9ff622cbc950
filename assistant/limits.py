"""Limits on how often something is done: so much at once, and so much in a time, for each name.

A limit is a bucket that leaks. It holds `most` and empties evenly in `seconds`: whoever has done nothing for
so long may do `most` at once, and afterwards one each `seconds / most`. So a name needs one number, the time
at which its bucket is empty. An empty bucket is forgotten.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assistant.errors import LimitReached

MOST_NAMES = 200_000  # buckets that are remembered; beyond that, those that are empty soonest are forgotten
FEW_NAMES = 1000  # that are never swept


@dataclass(frozen=True, slots=True)
class Limit:
    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Use:
    """Something that counts for a name. `who` says in words who has used up the limit."""

    name: str
    limit: Limit
    who: str
    amount: float = 1.0  # 0 asks only whether anything is left


class Limits:
    def __init__(self, *, most_names: int = MOST_NAMES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_names = most_names
        self._clock = clock
        self._empty_at: dict[str, float] = {}  # by name
        self._sweep_at = FEW_NAMES  # at so many names

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._empty_at)

    def take(self, uses: Sequence[Use]) -> None:
        """Count all of these uses, or none. Raises `LimitReached` if one of them exceeds its limit."""
        now = self._clock()
        late, use = max(((self._late(use, now), use) for use in uses), key=lambda each: each[0])
        if late > 0:
            raise LimitReached(use.who, math.ceil(late))
        for use in uses:
            self._count(use, now)

    def add(self, use: Use) -> None:
        """Count a use that has happened, even if it exceeds the limit."""
        self._count(use, self._clock())

    def _late(self, use: Use, now: float) -> float:
        """How many seconds too early a use is; 0 if it is within its limit."""
        if not use.limit.most:
            return use.limit.seconds
        full = self._level(use, now) + use.amount * use.limit.seconds / use.limit.most - use.limit.seconds
        if use.amount:
            return full if full > 1e-6 else 0.0
        return max(full, 1.0) if full >= 0 else 0.0

    def _level(self, use: Use, now: float) -> float:
        """In how many seconds the bucket is empty."""
        return max(self._empty_at.get(use.name, now) - now, 0.0)

    def _count(self, use: Use, now: float) -> None:
        if use.amount and use.limit.most:
            cost = use.amount * use.limit.seconds / use.limit.most
            self._empty_at[use.name] = now + self._level(use, now) + cost
            if len(self._empty_at) > min(self._sweep_at, self._most_names):
                self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Forget what is empty, so seldom that it costs each use next to nothing."""
        self._empty_at = {name: empty_at for name, empty_at in self._empty_at.items() if empty_at > now}
        if len(self._empty_at) > self._most_names:
            by_time = sorted(self._empty_at.items(), key=lambda each: each[1])
            self._empty_at = dict(by_time[len(by_time) // 2 :])
        self._sweep_at = max(2 * len(self._empty_at), FEW_NAMES)
