"""The request and response values that several resources share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict

from assistant.conversation import Conversation, Message, Source
from assistant.web.identity import owner_of

UNTITLED = "New chat"


async def _owner(request: Request) -> str:
    return owner_of(request)  # `async`, because FastAPI runs other functions in a thread


Owner = Annotated[str, Depends(_owner)]


def storable(text: str) -> str:
    """Refuse text that no database stores unchanged: a NUL character, or half of a surrogate pair."""
    if "\0" in text:
        raise ValueError("contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("contains half of a character (a lone surrogate)") from error
    return text


Text = Annotated[str, AfterValidator(storable)]


class Body(BaseModel):
    """The body of a request. Unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")


class ConversationOut(BaseModel):
    id: str
    title: str
    model: str | None
    active_leaf_id: str | None
    grounding: bool
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, conversation: Conversation) -> ConversationOut:
        return ConversationOut(
            id=conversation.id,
            title=conversation.title or UNTITLED,
            model=conversation.model,
            active_leaf_id=conversation.active_leaf_id,
            grounding=conversation.grounding,
            created_at=rfc3339(conversation.created_at),
            updated_at=rfc3339(conversation.updated_at),
        )


class ErrorOut(BaseModel):
    type: str
    message: str


class MessageOut(BaseModel):
    id: str
    parent_id: str | None
    role: str
    content: str
    status: str
    finish_reason: str | None
    error: ErrorOut | None
    provenance: dict[str, Any]
    sources: list[Source]
    created_at: str

    @classmethod
    def of(cls, message: Message) -> MessageOut:
        failure = message.failure
        return cls(
            id=message.id,
            parent_id=message.parent_id,
            role=message.role,
            content=message.content,
            status=message.status,
            finish_reason=message.finish_reason,
            error=None if failure is None else ErrorOut(type=failure.type, message=failure.message),
            provenance=message.provenance.as_json(),
            sources=list(message.sources),
            created_at=rfc3339(message.created_at),
        )


def rfc3339(moment: datetime) -> str:
    """A time in UTC with microseconds: 2026-01-31T12:00:00.000000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
