"""Cut a stream of text exactly before the first stop sequence in it.

A model streams its text in pieces, and readers watch the text grow. A stop sequence such as `\\nHuman:` must
end the text, but no part of it may be shown. After `...\\nHum` nobody can know whether the stop sequence has
begun or the word is `Humble`. These four characters must wait; everything before them must not.

**The rule.** The stop sequence that *completes* first wins. If several complete at the same byte, the longest
wins. The text ends before it. Where the text was cut into pieces makes no difference.

**The idea.** Put the stop sequences into a tree in which each edge is a byte (a trie), so that common
beginnings share a path. This is the tree of `\\nHuman:` and `man`. The dot is the root, and brackets mark a
complete stop sequence:

    . ── \\n ── H ── u ── m ── a ── n ── : [\\nHuman:]
    └── m ── a ── n [man]

The path from the root to a node spells the beginning of a stop sequence. Read the text byte by byte and move
from node to node, so that after each byte this is true:

    **The current node spells the longest suffix of the text that begins a stop sequence.**

Everything else follows from this invariant:

- Text before that suffix can never become part of a stop sequence, so it is safe to show. The suffix itself
  may become one, so it is held back, and nothing else is. Its length is the depth of the node.
- If the current node has no edge for the next byte, step back to the node that spells the next shorter suffix
  (from `\\nHum` to `m`, for example) and try again there. These links are computed in advance, so no byte of
  the text is ever read twice.
- A stop sequence is complete when the suffix *ends with* it. Usually that is at the end of a path. But at
  `\\nHuman` the text ends with `man`, which completes before `\\nHuman:` can.

This takes one step forward for each byte, and never more steps back than forward. Most pieces have no byte
that begins a stop sequence; a single search in C finds that out, and the piece passes unchanged. (The
algorithm is from Aho and Corasick, "Efficient string matching", 1975.)

Everything here works on bytes, because a token may hold a stop sequence and half of the next character.
Matching bytes is the same as matching characters: in UTF-8, no character begins inside another.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable, Iterable


class StopMatcher:
    """Finds the first stop sequence in one text that arrives in pieces.

    Call `feed` with each piece and show what it returns; call `flush` at the end of the text. Once `matched`
    is set, the text has ended and later pieces are ignored. Raises ValueError for an empty stop sequence.
    """

    matched: str | None
    """The stop sequence that ended the text, if any."""

    def __init__(self, stops: Iterable[str]) -> None:
        self.matched = None
        self._held = b""  # read but not yet shown: what `_node` spells
        self._root, self._find_beginning = _build_tree(tuple(stops))
        self._node = self._root

    def feed(self, piece: bytes) -> bytes:
        """Read a piece and return the text that is now safe to show, which may be from earlier pieces."""
        root, node = self._root, self._node
        if node is root and not self._find_beginning(piece):
            return piece if self.matched is None else b""
        if self.matched is not None:
            return b""

        text = self._held + piece
        position = len(self._held)
        while position < len(text):
            if node is root:  # no stop sequence has begun: jump to the next byte that may begin one
                beginning = self._find_beginning(text, position)
                if beginning is None:
                    break
                position = beginning.start()
            node = node.after(text[position])
            position += 1
            if node.completed is not None:
                self.matched, self._held, self._node = node.completed, b"", root
                return text[: position - node.completed_length]

        self._node = node
        safe = len(text) - node.depth
        self._held = text[safe:]
        return text[:safe]

    def flush(self) -> bytes:
        """Return the text that was held back, because the text has ended without a stop sequence."""
        held, self._held, self._node = self._held, b"", self._root
        return held


class _Node:
    """A node of the tree. The path to it from the root spells the beginning of a stop sequence."""

    __slots__ = ("children", "completed", "completed_length", "depth", "shorter")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.children: dict[int, _Node] = {}  # by the next byte
        self.shorter: _Node | None = None  # spells the next shorter suffix; None at the root
        self.completed: str | None = None  # the longest stop sequence that the spelled bytes end with
        self.completed_length = 0  # in bytes

    def after(self, byte: int) -> _Node:
        """The node that keeps the invariant once this byte has been read."""
        node = self
        while (child := node.children.get(byte)) is None:
            if node.shorter is None:
                return node  # not even this byte alone begins a stop sequence
            node = node.shorter
        return child


@functools.lru_cache(8)  # the largest tree that a request may ask for takes six megabytes
def _build_tree(stops: tuple[str, ...]) -> tuple[_Node, Callable[..., re.Match[bytes] | None]]:
    """The root of the tree, and a search for the next byte that begins a stop sequence. Neither ever changes,
    so all texts with the same stop sequences share them."""
    root = _Node(0)
    for stop in stops:
        if not stop:
            raise ValueError("a stop sequence must not be empty: it would end every text before it begins")
        node = root
        for byte in stop.encode("utf-8", "surrogatepass"):
            node = node.children.setdefault(byte, _Node(node.depth + 1))
        node.completed, node.completed_length = stop, node.depth

    # Breadth first: a shorter suffix is less deep in the tree, so its node is finished before it is needed.
    queue = deque([root])
    while queue:
        node = queue.popleft()
        for byte, child in node.children.items():
            child.shorter = node.shorter.after(byte) if node.shorter else root
            if child.completed is None:  # otherwise it is a stop sequence itself, which is longer
                child.completed = child.shorter.completed
                child.completed_length = child.shorter.completed_length
            queue.append(child)
    # Without stop sequences: a pattern that never matches.
    beginnings = re.escape(bytes(root.children))
    return root, re.compile(b"[%b]" % beginnings if beginnings else b"(?!)").search
