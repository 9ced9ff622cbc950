"""The HTTP API: thin routes from JSON to `assistant`, and back.

Knows the shapes on the wire and whose request it is; decides nothing. The contract is in the OpenAPI
document at `/api/openapi.json`; errors are problem documents (`problems.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Match

from assistant.chats import Chats
from assistant.conversation import Conversation, Message, Source
from assistant.errors import EmptyText, NothingToFetch, NotTheOperator
from assistant.knowledge.documentation import DocumentationStatus
from assistant.replies import Replies
from assistant.web.events import EventStream, position_of
from assistant.web.identity import give_anew, is_known, owner_of
from assistant.web.openapi import ANSWERING, raises
from assistant.web.problems import Problem
from assistant.web.security import is_this_machine
from storage.errors import (
    ClientIdReused,
    DatabaseUnavailable,
    StillAnswering,
    UnknownMessage,
    UnknownParent,
)
from storage.store import LATEST, MOST_MESSAGES, MOST_POSITION, BadCursor, StoredQuestion

UNTITLED = "New chat"
# What proxies add: who comes through one is not at this machine.
FORWARDED = re.compile(r"forwarded|x-forwarded-\w+|via|x-real-ip|(true|cf)-(client|connecting)-ip")
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


async def _owner(request: Request) -> str:
    return owner_of(request)  # asynchronous, or FastAPI would ask a thread for it


Owner = Annotated[str, Depends(_owner)]


def _storable(text: str) -> str:
    """Refuse what no database keeps as it is: half a surrogate pair, a NUL character."""
    if "\0" in text:
        raise ValueError("contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("contains half of a character (a lone surrogate)") from error
    return text


Text = Annotated[str, AfterValidator(_storable)]
Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_storable)
]
ClientId = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewConversation(Body):
    title: Title | None = None
    grounding: bool = True


class Change(Body):
    title: Title | None = None
    active_leaf_id: Text | None = Field(None, description="the message that ends the branch on show")
    grounding: bool | None = Field(None, description="whether documentation is looked up for answers")

    @model_validator(mode="after")
    def _something(self) -> Change:
        if self.title is None and self.active_leaf_id is None and self.grounding is None:
            raise ValueError("nothing to change: give a title, an active_leaf_id or grounding")
        return self


class Question(Body):
    text: Text
    parent_id: Text | None = Field(
        None, description="the message this one follows; absent: the active leaf; null: a new root"
    )
    client_id: ClientId | None = Field(
        None, description="your own id for this message: sent again, it is not asked again"
    )


class FirstQuestion(Body):
    text: Text
    client_id: ClientId | None = Field(
        None, description="your own id for this message: sent again, it is not asked again"
    )
    grounding: bool = Field(True, description="whether documentation is looked up for answers")


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
        return cls(**_conversation(conversation))


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


class ConversationWithMessages(ConversationOut):
    messages: list[MessageOut]
    older: int | None


class ConversationPage(BaseModel):
    conversations: list[ConversationOut]
    next: str | None


class Erasure(Body):
    confirm: Literal["erase everything"]


class AskedOut(BaseModel):
    conversation_id: str
    message_id: str
    reply_id: str

    @classmethod
    def of(cls, asked: StoredQuestion) -> AskedOut:
        return cls(
            conversation_id=asked.conversation_id, message_id=asked.message_id, reply_id=asked.reply_id
        )


class StatusOut(BaseModel):
    status: str


class DownloadOut(BaseModel):
    state: str
    model: str
    repo: str
    file: str
    licence: str | None
    bytes: int | None
    received: int
    may_change: bool


class LicenceOut(BaseModel):
    id: str
    name: str
    url: str
    accepted: bool


class EngineOut(BaseModel):
    state: str
    model: str | None
    detail: str | None
    answers: str | None
    download: DownloadOut | None
    documentation: DocumentationStatus
    licence: LicenceOut | None


def api_routes(replies: Replies, chats: Chats, *, may_manage: bool) -> APIRouter:
    """Everything under `/api`. With `may_manage`, people here run the application too."""
    api = APIRouter(prefix="/api")

    def is_operator(request: Request) -> bool:
        headers = request.headers
        is_here = may_manage and is_this_machine(headers.get("host", ""))
        return is_here and not any(FORWARDED.fullmatch(name) for name in headers)

    @api.get("/engine")
    async def engine(request: Request, owner: Owner) -> EngineOut:
        """The engine's state, its model and a sentence; who answers; how far documentation has been read."""
        status = replies.served.status
        download, licence = status.download, status.licence
        return EngineOut(
            state=status.state,
            model=status.model,
            detail=(is_operator(request) and status.cause) or status.detail,
            answers=replies.answers,
            download=None
            if download is None
            else DownloadOut(**asdict(download), may_change=is_operator(request)),
            documentation=replies.documentation.status,
            licence=None
            if licence is None
            else LicenceOut(
                id=licence.id,
                name=licence.name,
                url=licence.url,
                accepted=await replies.licences.may_use(owner, licence),
            ),
        )

    @api.post("/engine/download", status_code=202, responses=raises(NotTheOperator, NothingToFetch))
    async def begin_download(request: Request) -> None:
        """Fetch the model that is offered, or go on with it; `GET /api/engine` tells how far it is."""
        _refuse_unless(is_operator(request))
        await replies.served.begin_download()

    @api.delete("/engine/download", status_code=204, responses=raises(NotTheOperator, NothingToFetch))
    async def decline_download(request: Request) -> None:
        """Do not fetch the model, or no further; remembered at the next start."""
        _refuse_unless(is_operator(request))
        await replies.served.decline_download()

    @api.put("/licences/{licence_id:path}", status_code=204)  # some are called by an address
    async def accept_licence(owner: Owner, licence_id: Text) -> None:
        """Accept the terms of the licence under which the model comes."""
        await replies.licences.accept(owner, licence_id)

    @api.post("/conversations", status_code=201)
    async def create(owner: Owner, body: NewConversation | None = None) -> ConversationOut:
        body = body or NewConversation()
        return ConversationOut.of(await chats.create(owner, body.title, grounding=body.grounding))

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
        """A conversation with its newest messages, in the order in which they were stored: a tree. `older`,
        if it is not null, asks as `before` for those before them.
        """
        found, messages = await chats.conversation(owner, conversation_id, limit=limit, before=before)
        return ConversationWithMessages(
            **_conversation(found),
            messages=[_message(message) for message in messages],
            older=messages[0].position or None if messages else None,
        )

    @api.patch("/conversations/{conversation_id}", responses=raises(UnknownMessage))
    async def change(owner: Owner, conversation_id: str, body: Change) -> ConversationOut:
        """Rename a conversation, choose the branch on show, or whether documentation is looked up."""
        changed = await chats.change(
            owner,
            conversation_id,
            title=body.title,
            active_leaf_id=body.active_leaf_id,
            grounding=body.grounding,
        )
        return ConversationOut.of(changed)

    @api.delete("/conversations/{conversation_id}", status_code=204)
    async def delete(owner: Owner, conversation_id: str) -> None:
        """Delete a conversation; within a minute it can be restored."""
        await chats.delete(owner, conversation_id)

    @api.post("/conversations/{conversation_id}/restore")
    async def restore(owner: Owner, conversation_id: str) -> ConversationOut:
        """Bring a conversation back that was deleted a moment ago."""
        return ConversationOut.of(await chats.restore(owner, conversation_id))

    @api.post(
        "/conversations/{conversation_id}/messages",
        status_code=202,
        responses=raises(EmptyText, UnknownParent, ClientIdReused, StillAnswering, *ANSWERING),
    )
    async def ask(owner: Owner, conversation_id: str, body: Question) -> AskedOut:
        """Store a question and begin to answer it; the reply's events tell the answer."""
        parent = body.parent_id if "parent_id" in body.model_fields_set else LATEST
        asked = await replies.ask(
            owner, conversation_id, body.text, parent_id=parent, client_id=body.client_id
        )
        return AskedOut.of(asked)

    @api.post("/messages", status_code=202, responses=raises(EmptyText, ClientIdReused, *ANSWERING))
    async def begin(owner: Owner, body: FirstQuestion) -> AskedOut:
        """Begin a conversation with a question: both are stored together, or neither is."""
        asked = await replies.ask(owner, None, body.text, client_id=body.client_id, grounding=body.grounding)
        return AskedOut.of(asked)

    @api.get("/replies/{reply_id}")
    async def reply(owner: Owner, reply_id: str) -> MessageOut:
        """A reply as it is stored now, finished or not."""
        return _message(await chats.reply(owner, reply_id))

    @api.get("/replies/{reply_id}/events", status_code=200, response_class=EventStream)
    async def events(
        request: Request, owner: Owner, reply_id: str, last_event_id: str | None = None
    ) -> Response:
        """Server-Sent Events of a reply; resumes after `Last-Event-ID` (or `?last_event_id=`)."""
        after = position_of(request.headers.get("last-event-id", last_event_id))
        return EventStream(await replies.follow(owner, reply_id, after))

    @api.post("/replies/{reply_id}/stop")
    async def stop(owner: Owner, reply_id: str) -> StatusOut:
        """End a reply; its text is kept."""
        return StatusOut(status=await replies.stop(owner, reply_id))

    @api.post("/replies/{reply_id}/retry", status_code=202, responses=raises(StillAnswering, *ANSWERING))
    async def retry(owner: Owner, reply_id: str) -> AskedOut:
        """Answer the same question again; the new reply is a sibling."""
        return AskedOut.of(await replies.retry(owner, reply_id))

    @api.post("/me/revoke", status_code=204)
    async def revoke(request: Request, owner: Owner) -> None:
        """Sign out everywhere else: all cookies that were given to you until now are invalid, and this answer
        gives you a new one. Your chats stay."""
        await _revoke(chats, request)

    @api.get("/me/export", response_class=JSONResponse)
    async def export(owner: Owner) -> Response:
        """Everything that is stored of you, as one JSON document."""
        return StreamingResponse(
            await _from_first(_export(chats, owner)),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="tech-assistant-export.json"'},
        )

    @api.post("/me/erase", status_code=204)
    async def erase(request: Request, owner: Owner, body: Erasure) -> None:
        """Remove everything that is stored of you, at once and for good. Cookies that were given to you until
        now are invalid, and this answer gives you a new one."""
        await _revoke(chats, request)
        await chats.erase(owner)

    @api.api_route("/{path:path}", methods=METHODS, include_in_schema=False)
    async def unknown(request: Request, path: str) -> Response:
        """The last route: so that no page is ever asked for what begins with `/api`."""
        allowed = sorted(
            {
                method
                for route in api.routes
                if getattr(route, "endpoint", None) is not unknown
                and route.matches(dict(request.scope))[0] is Match.PARTIAL
                for method in getattr(route, "methods", None) or ()
            }
        )
        if allowed:
            detail = f"{request.method} is not possible here; {', '.join(allowed)} is."
            return Problem(405, "method_not_allowed", detail, headers={"Allow": ", ".join(allowed)})
        return Problem(404, "not_found", f"There is nothing at /api/{path}.")

    return api


async def _revoke(chats: Chats, request: Request) -> None:
    if is_known(request):  # who has just come has nothing to revoke
        await chats.revoke(owner_of(request))
    give_anew(request)


def _refuse_unless(is_operator: bool) -> None:
    if not is_operator:
        raise NotTheOperator("Only who runs the application may do this: its options say what is fetched.")


async def _export(chats: Chats, owner: str) -> AsyncIterator[str]:
    """The document piece by piece, so that no more than a page of messages is in memory. Until the first
    piece it can be refused; later, `error` at its end says why it is not whole.
    """
    accepted = await chats.acceptances(owner)
    head = {
        "exported_at": rfc3339(datetime.now(UTC)),
        "licences": [{"id": licence, "accepted_at": rfc3339(when)} for licence, when in accepted.items()],
    }
    yield json.dumps(head)[:-1] + ', "conversations": ['
    end = between = ""
    error = None
    try:
        async for one in chats.export(owner):
            if isinstance(one, Conversation):
                yield (f"{end}, " if end else "") + json.dumps(_conversation(one))[:-1] + ', "messages": ['
                end, between = "]}", ""
            else:
                yield between + _message(one).model_dump_json()
                between = ", "
    except DatabaseUnavailable as unavailable:
        error = {"type": "storage", "message": str(unavailable)}
    yield f'{end}], "error": {json.dumps(error)}}}'


async def _from_first(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """The same pieces, the first of which is there already. Raises what making that raises."""
    first = await anext(pieces)

    async def all_of_them() -> AsyncIterator[str]:
        yield first
        async for piece in pieces:
            yield piece

    return all_of_them()


def _conversation(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "title": conversation.title or UNTITLED,
        "model": conversation.model,
        "active_leaf_id": conversation.active_leaf_id,
        "grounding": conversation.grounding,
        "created_at": rfc3339(conversation.created_at),
        "updated_at": rfc3339(conversation.updated_at),
    }


def _message(message: Message) -> MessageOut:
    failure = message.failure
    return MessageOut(
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
    """A time in UTC, to the microsecond: 2026-01-31T12:00:00.000000Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
