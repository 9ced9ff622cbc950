"""The values of a chat: roles, statuses, messages, conversations.

Knows the words of the domain and nothing else: no storage, no HTTP, no prompt format. Every value is
frozen; identity and time are given by the store. Only the standard library is imported here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant.provenance import Provenance


class Role(enum.StrEnum):
    """Who speaks in a message."""

    USER = "user"
    ASSISTANT = "assistant"


class Status(enum.StrEnum):
    """Where a message stands. A user's message is always `DONE`; the last four are final."""

    PENDING = "pending"  # stored, nothing generated yet
    STREAMING = "streaming"  # text is arriving
    DONE = "done"  # the engine ended the text
    STOPPED = "stopped"  # a person ended it
    FAILED = "failed"  # the engine or the way to it failed; the text so far is kept
    INTERRUPTED = "interrupted"  # the application ended in mid-answer; the text so far is kept

    @property
    def is_final(self) -> bool:
        return self not in (Status.PENDING, Status.STREAMING)


class FinishReason(enum.StrEnum):
    """Why the engine ended a text, in the words of the TGI protocol."""

    LENGTH = "length"
    EOS_TOKEN = "eos_token"
    STOP_SEQUENCE = "stop_sequence"


@dataclass(frozen=True, slots=True)
class Turn:
    """What a prompt needs to know of a message: who said what."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a reply failed: a machine-readable type and a sentence for people."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """A piece of documentation that a reply quotes or was written from, and where it stands."""

    name: str
    title: str
    package: str
    version: str
    licence: str
    location: str
    url: str
    quote: str  # word for word


@dataclass(frozen=True, slots=True)
class Message:
    """One node of a conversation's message tree, the `position`th that was stored of it, from 0 on."""

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

    @property
    def turn(self) -> Turn:
        return Turn(self.role, self.content)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A tree of messages that belongs to one owner; `active_leaf_id` ends the branch on show."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    active_leaf_id: str | None = None
    model: str | None = None
    grounding: bool = True  # whether documentation is looked up for a model's answers
