"""The values of a chat: roles, statuses, messages, conversations.

Every value is frozen. The store assigns ids and times. This module imports only the standard library.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant.provenance import Provenance


class Role(enum.StrEnum):
    """The author of a message."""

    USER = "user"
    ASSISTANT = "assistant"


class Status(enum.StrEnum):
    """The state of a message. A user's message is always `DONE`. The last four are final.

    A reply that ends early keeps its text so far.
    """

    PENDING = "pending"  # stored, without text yet
    STREAMING = "streaming"  # text is arriving
    DONE = "done"  # the text is complete
    STOPPED = "stopped"  # the user stopped it
    FAILED = "failed"  # the engine or the connection to it failed
    INTERRUPTED = "interrupted"  # the application ended

    @property
    def is_final(self) -> bool:
        return self not in (Status.PENDING, Status.STREAMING)


class FinishReason(enum.StrEnum):
    """Why the engine ended a text, by the names of the TGI protocol."""

    LENGTH = "length"
    EOS_TOKEN = "eos_token"
    STOP_SEQUENCE = "stop_sequence"


@dataclass(frozen=True, slots=True)
class Turn:
    """The part of a message that a prompt contains."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a reply failed: a type for programs and a sentence for the reader."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """A passage of documentation that a reply quotes or that its model was given, and where it comes from."""

    name: str
    title: str
    package: str
    version: str
    licence: str
    location: str
    url: str
    quote: str  # verbatim
    cited: bool = True  # whether the text of the reply cites or quotes it


class Rating(enum.StrEnum):
    """What a reader thinks of a reply."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the owner of a reply says of it."""

    rating: Rating
    text: str | None  # the reader's own words
    given_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A node of a conversation's tree of messages. `position` counts in the order of storing, from 0 on."""

    id: str
    conversation_id: str
    parent_id: str | None
    position: int
    role: Role
    content: str
    status: Status
    created_at: datetime
    provenance: Provenance
    finish_reason: FinishReason | None = None
    failure: Failure | None = None
    sources: tuple[Source, ...] = ()  # best first
    feedback: Feedback | None = None  # on a reply

    @property
    def turn(self) -> Turn:
        return Turn(self.role, self.content)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A tree of messages that belongs to one owner. The page shows the branch to `active_leaf_id`."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    active_leaf_id: str | None = None
    model: str | None = None
    grounding: bool = True  # whether a model's answers use documentation
