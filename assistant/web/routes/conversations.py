"""Conversations: create, list, read, change, delete and restore them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from assistant.chats import Chats
from assistant.web.openapi import raises
from assistant.web.routes.values import AtSite, Body, ConversationOut, MessageOut, Owner, Text, storable
from storage.errors import UnknownMessage
from storage.store import MOST_MESSAGES, MOST_POSITION, BadCursor

Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(storable)
]


class NewConversation(Body):
    title: Title | None = None
    grounding: bool = True


class Change(Body):
    title: Title | None = None
    active_leaf_id: Text | None = Field(None, description="the last message of the branch to show")
    grounding: bool | None = Field(None, description="whether documentation is searched for answers")

    @model_validator(mode="after")
    def _something(self) -> Change:
        if self.title is None and self.active_leaf_id is None and self.grounding is None:
            raise ValueError("nothing to change: give a title, an active_leaf_id or grounding")
        return self


class ConversationWithMessages(ConversationOut):
    messages: list[MessageOut]
    older: int | None


class ConversationPage(BaseModel):
    conversations: list[ConversationOut]
    next: str | None


def add_conversation_routes(api: APIRouter, chats: Chats) -> None:
    @api.post("/conversations", status_code=201)
    async def create(owner: Owner, at: AtSite, body: NewConversation | None = None) -> ConversationOut:
        body = body or NewConversation()
        site = None if at is None else at.site.key
        return ConversationOut.of(await chats.create(owner, body.title, grounding=body.grounding, site=site))

    @api.get("/conversations", responses=raises(BadCursor))
    async def conversations(
        owner: Owner,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> ConversationPage:
        """A page of conversations, newest update first."""
        page, following = await chats.page(owner, limit=limit, cursor=cursor or None)
        return ConversationPage(conversations=[ConversationOut.of(one) for one in page], next=following)

    @api.get("/conversations/{conversation_id}")
    async def conversation(
        owner: Owner,
        conversation_id: str,
        limit: Annotated[int, Query(ge=1, le=MOST_MESSAGES)] = MOST_MESSAGES,
        before: Annotated[int | None, Query(ge=1, le=MOST_POSITION)] = None,
    ) -> ConversationWithMessages:
        """A conversation with its newest messages, oldest first. They form a tree by their `parent_id`. If
        `older` is not null, send it as `before` to get the messages before these.
        """
        found, messages = await chats.conversation(owner, conversation_id, limit=limit, before=before)
        return ConversationWithMessages.model_construct(
            **vars(ConversationOut.of(found)),
            messages=[MessageOut.of(message) for message in messages],
            older=messages[0].position or None if messages else None,
        )

    @api.patch("/conversations/{conversation_id}", responses=raises(UnknownMessage))
    async def change(owner: Owner, conversation_id: str, body: Change) -> ConversationOut:
        """Change a conversation's title, the branch to show, or whether documentation is searched."""
        return ConversationOut.of(await chats.change(owner, conversation_id, **vars(body)))

    @api.delete("/conversations/{conversation_id}", status_code=204)
    async def delete(owner: Owner, conversation_id: str) -> None:
        """Delete a conversation. It can be restored within a minute."""
        await chats.delete(owner, conversation_id)

    @api.post("/conversations/{conversation_id}/restore")
    async def restore(owner: Owner, conversation_id: str) -> ConversationOut:
        """Restore a conversation that was deleted less than a minute ago."""
        return ConversationOut.of(await chats.restore(owner, conversation_id))
