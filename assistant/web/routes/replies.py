"""Questions and their replies: ask, follow, stop and retry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from starlette.responses import Response

from assistant.chats import Chats
from assistant.errors import EmptyText, QuestionTooLarge
from assistant.replies import Replies
from assistant.web.events import EventStream, position_of
from assistant.web.openapi import ANSWERING, raises
from assistant.web.routes.values import AtSite, Body, MessageOut, Out, Owner, Text, storable
from storage.errors import ClientIdReused, StillAnswering, UnknownParent
from storage.store import LATEST

_Id = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(storable)]
ClientId = Annotated[
    _Id | None,
    Field(description="your own id for this question: if you send it again, it is not asked again"),
]

# The errors of every route that stores a question.
ASKING = (EmptyText, QuestionTooLarge, ClientIdReused, *ANSWERING)


class Question(Body):
    text: Text
    parent_id: Text | None = Field(
        None, description="the message before this one; absent: the active leaf; null: none, a new root"
    )
    client_id: ClientId = None


class FirstQuestion(Body):
    text: Text
    client_id: ClientId = None
    grounding: bool = Field(True, description="whether documentation is searched for answers")


class AskedOut(Out):
    conversation_id: str
    message_id: str
    reply_id: str


class StatusOut(BaseModel):
    status: str


def add_reply_routes(api: APIRouter, replies: Replies, chats: Chats) -> None:
    @api.post(
        "/conversations/{conversation_id}/messages",
        status_code=202,
        responses=raises(
            EmptyText, QuestionTooLarge, UnknownParent, ClientIdReused, StillAnswering, *ANSWERING
        ),
    )
    async def ask(owner: Owner, at: AtSite, conversation_id: str, body: Question) -> AskedOut:
        """Store a question and begin to answer it. The events of the reply carry the answer."""
        parent = body.parent_id if "parent_id" in body.model_fields_set else LATEST
        stored = await replies.ask(
            owner, conversation_id, body.text, parent_id=parent, client_id=body.client_id, visitor=at
        )
        return AskedOut.of(stored)

    @api.post(
        "/messages",
        status_code=202,
        responses=raises(*ASKING),
    )
    async def begin(owner: Owner, at: AtSite, body: FirstQuestion) -> AskedOut:
        """Begin a conversation with a question. Either both are stored or neither."""
        stored = await replies.ask(
            owner, None, body.text, client_id=body.client_id, grounding=body.grounding, visitor=at
        )
        return AskedOut.of(stored)

    @api.get("/replies/{reply_id}")
    async def reply(owner: Owner, reply_id: str) -> MessageOut:
        """A reply as it is stored now, finished or not."""
        return MessageOut.of(await chats.reply(owner, reply_id))

    @api.get("/replies/{reply_id}/events", status_code=200, response_class=EventStream)
    async def events(
        request: Request, owner: Owner, reply_id: str, last_event_id: str | None = None
    ) -> Response:
        """The Server-Sent Events of a reply, after `Last-Event-ID` (or `?last_event_id=`) if it is given."""
        after = position_of(request.headers.get("last-event-id", last_event_id))
        return EventStream(await replies.follow(owner, reply_id, after))

    @api.post("/replies/{reply_id}/stop")
    async def stop(owner: Owner, reply_id: str) -> StatusOut:
        """Stop a reply. Its text is kept."""
        return StatusOut(status=await replies.stop(owner, reply_id))

    @api.post("/replies/{reply_id}/retry", status_code=202, responses=raises(StillAnswering, *ANSWERING))
    async def retry(owner: Owner, at: AtSite, reply_id: str) -> AskedOut:
        """Answer the same question again. The new reply is a sibling of the old one."""
        return AskedOut.of(await replies.retry(owner, reply_id, visitor=at))
