"""What the listeners of a reply get: small frozen values, from its place in the queue to its end.

A `position` counts code points from the start of the reply's text, so it means the same in every process and
after every restart.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.conversation import Failure, FinishReason, Source, Status


@dataclass(frozen=True, slots=True)
class Waiting:
    """The reply waits in the queue behind `before` others."""

    before: int


@dataclass(frozen=True, slots=True)
class Cited:
    """The sources of the reply, best first. They replace the sources of an earlier `Cited`."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """New text; `position` is where it ends."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Reset:
    """All text so far, for a listener who asked for a position that the reply has not reached."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class End:
    """How the reply ended. Nothing comes after it."""

    status: Status
    finish_reason: FinishReason | None
    failure: Failure | None
    position: int


ReplyEvent = Waiting | Cited | Delta | Reset | End
