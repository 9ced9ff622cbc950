"""Cut a stream of text exactly before the first stop sequence in it.

Knows bytes and stop sequences, nothing else: not tokens, not models, not why a text ends.

The text is UTF-8, because tokens are made of bytes: one may hold a stop and half of the character after
it. No character's bytes begin inside another's, so to match bytes is to match characters.

It arrives in pieces, cut anywhere, and has to be shown while it grows. That is what makes this more
than a search: after `...\\nHum` nobody knows yet whether the stop `\\nHuman:` has begun or the word is
`Humble`. Those four characters must wait. Everything before them must not.

**The rule.** Of all matches the one that *completes* first wins; of those that complete at the same
byte, the longest. The text ends before it. How the text was cut into pieces never matters.

**The idea.** Draw the stops as a tree of bytes, so that shared beginnings are shared branches. For the
stops `\\nHuman:` and `man` (a dot is the start of the tree, brackets are complete stops):

    . ── \\n ── H ── u ── m ── a ── n ── : [\\nHuman:]
    └── m ── a ── n [man]

Walk the tree as the text is read. One sentence is kept true after each byte, and all else follows:

    **The place in the tree spells the longest end of the text that begins a stop.**

- What spells nothing can never become part of a stop: it is safe to show. What is spelled may: it waits.
  So what is held back is exactly as much as must be, and its length is the depth of the place.
- When the next byte is not on the branch, the sentence stays true by stepping back to the place that
  spells the next shorter end (from `\\nHum` to `m`, say) and trying again there. Each place knows its
  next shorter one beforehand, so nothing is ever read twice.
- A match completes when what is spelled *ends with* a stop. Mostly the place is itself the end of a
  branch; but at `\\nHuman` it is `man` that has completed, long before the other stop could.

Walking costs one step for each byte, and the steps back are paid for by the steps forward that went
before. Most text contains no byte that begins a stop; that is found by one search in C and passed on
whole. (The idea is due to Aho and Corasick, "Efficient string matching", 1975.)
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable, Iterable


class StopMatcher:
    """Finds the first stop sequence in one text that arrives in pieces.

    `feed` each piece and show what comes back, `flush` when no more pieces come. Once `matched` is set,
    the text has ended and what comes after is ignored. Raises ValueError for an empty stop sequence.
    """

    matched: str | None
    """The stop sequence that ended the text, if one did."""

    def __init__(self, stops: Iterable[str]) -> None:
        self.matched = None
        self._held = b""  # seen, not shown: always what `_place` spells
        self._start, self._find_beginning = _tree(tuple(stops))
        self._place = self._start

    def feed(self, piece: bytes) -> bytes:
        """Read a piece; returns the text that is now safe to show, which may be older than the piece."""
        start, place = self._start, self._place
        if place is start and not self._find_beginning(piece):
            return piece if self.matched is None else b""
        if self.matched is not None:
            return b""

        text = self._held + piece
        position = len(self._held)
        while position < len(text):
            if place is start:  # nothing has begun: jump to where something may
                beginning = self._find_beginning(text, position)
                if beginning is None:
                    break
                position = beginning.start()
            place = place.after(text[position])
            position += 1
            if place.completed is not None:
                self.matched, self._held, self._place = place.completed, b"", start
                return text[: position - place.completed_length]

        self._place = place
        safe = len(text) - place.depth
        self._held = text[safe:]
        return text[:safe]

    def flush(self) -> bytes:
        """The text has ended by itself: returns what was still held back."""
        held, self._held, self._place = self._held, b"", self._start
        return held


class _Place:
    """A place in the tree of stops. The way to it from the start spells the beginning of a stop."""

    __slots__ = ("completed", "completed_length", "depth", "onward", "shorter")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.onward: dict[int, _Place] = {}  # by the next byte of a stop
        self.shorter: _Place | None = None  # spells the next shorter end of the same text; none at the start
        self.completed: str | None = None  # the longest stop that what is spelled ends with
        self.completed_length = 0  # in bytes

    def after(self, byte: int) -> _Place:
        """The place that spells the longest end of the text, now that it is longer by a byte."""
        place = self
        while (onward := place.onward.get(byte)) is None:
            if place.shorter is None:
                return place  # not even this byte alone begins a stop
            place = place.shorter
        return onward


@functools.lru_cache(8)  # the largest that may be asked for take six megabytes each
def _tree(stops: tuple[str, ...]) -> tuple[_Place, Callable[..., re.Match[bytes] | None]]:
    """The start of the tree of these stops, and the search for a byte that begins one. They never change, so
    that all answers with the same stops share them."""
    start = _Place(0)
    for stop in stops:
        if not stop:
            raise ValueError("a stop sequence must not be empty: it would end every text before it begins")
        place = start
        for byte in stop.encode("utf-8", "surrogatepass"):
            place = place.onward.setdefault(byte, _Place(place.depth + 1))
        place.completed, place.completed_length = stop, place.depth

    # Level by level: a shorter end lies on a level above, so what is known of it is complete already.
    level_by_level = deque([start])
    while level_by_level:
        place = level_by_level.popleft()
        for byte, onward in place.onward.items():
            onward.shorter = place.shorter.after(byte) if place.shorter else start
            if onward.completed is None:  # else it is itself a stop, and longer than any that it ends with
                onward.completed = onward.shorter.completed
                onward.completed_length = onward.shorter.completed_length
            level_by_level.append(onward)
    # No stop at all: a pattern that is never found.
    beginnings = re.escape(bytes(start.onward))
    return start, re.compile(b"[%b]" % beginnings if beginnings else b"(?!)").search
