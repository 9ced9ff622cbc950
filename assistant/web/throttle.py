"""Slows down clients that guess keys or secrets, by their address."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

WRONG_KEYS = 10  # from one address before it must wait
WRONG_KEY_SECONDS = 60.0  # how long it waits, and how long a wrong key counts
KNOWN_SECONDS = 3600.0  # how long an address that sent the right key never waits
MOST_ADDRESSES = 4096  # that are remembered


class Throttle:
    """Slows down the guessing of keys: after some wrong keys, an address must wait.

    An address that sent the right key in the last hour never waits. Otherwise one program with an old key, or
    an attacker behind the same router, could lock out the others. Where there are several doors with a key
    each, that counts for the door alone, and wrong keys count for all doors together.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()  # the times of wrong keys
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()  # the time of the last right key

    def seconds(self, address: str, door: str = "") -> float:
        """How long this address must wait, or 0 if its key may be checked."""
        now, wrong = self._clock(), self._wrong.get(address, [])
        if len(wrong) < WRONG_KEYS or now - self._known.get((address, door), -math.inf) < KNOWN_SECONDS:
            return 0
        return max(wrong[-1] + WRONG_KEY_SECONDS - now, 0)

    def admits(self, address: str, door: str = "", *, is_right: bool) -> bool:
        """Remember whether this address's key was right, and return it."""
        now = self._clock()
        if is_right:
            _remember(self._known, (address, door), now)
        else:
            recent = [when for when in self._wrong.get(address, []) if now - when < WRONG_KEY_SECONDS]
            _remember(self._wrong, address, [*recent, now][-WRONG_KEYS:])
        return is_right


def _remember(remembered: OrderedDict[Any, Any], key: object, value: object) -> None:
    remembered[key] = value
    remembered.move_to_end(key)
    if len(remembered) > MOST_ADDRESSES:
        remembered.popitem(last=False)
