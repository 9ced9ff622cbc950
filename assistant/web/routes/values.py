"""The request and response values that several resources share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from assistant.conversation import Source
from assistant.provenance import Provenance
from assistant.titles import UNTITLED
from assistant.visitors import Visitor
from assistant.web.identity import owner_of


async def _owner(request: Request) -> str:
    return owner_of(request)  # `async`, because FastAPI runs other functions in a thread


async def _visitor(request: Request) -> Visitor | None:
    visitor: Visitor | None = request.scope["state"].get("visitor")
    return visitor


Owner = Annotated[str, Depends(_owner)]
AtSite = Annotated[Visitor | None, Depends(_visitor)]  # None in the chat itself


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


class Out(BaseModel):
    """The body of an answer, made from a value with the same fields."""

    @classmethod
    def of(cls, value: object) -> Self:
        return cls.model_validate(value, from_attributes=True)


def rfc3339(moment: datetime) -> str:
    """A time in UTC with microseconds: 2026-01-31T12:00:00.000000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Time = Annotated[str, BeforeValidator(rfc3339)]


class ConversationOut(Out):
    id: str
    title: Annotated[str, AfterValidator(lambda title: title or UNTITLED)]
    model: str | None
    active_leaf_id: str | None
    grounding: bool
    created_at: Time
    updated_at: Time


class ErrorOut(BaseModel):
    type: str
    message: str


class MessageOut(Out):
    id: str
    parent_id: str | None
    role: str
    content: str
    status: str
    finish_reason: str | None
    error: ErrorOut | None = Field(validation_alias="failure")
    provenance: Annotated[dict[str, Any], BeforeValidator(Provenance.as_json)]
    sources: list[Source]
    created_at: Time
