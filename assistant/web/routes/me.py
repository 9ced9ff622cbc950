"""The owner's own data: export it, erase it, revoke its cookies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from assistant.chats import Chats
from assistant.conversation import Conversation
from assistant.web.identity import give_anew, is_known, owner_of
from assistant.web.routes.values import Body, ConversationOut, MessageOut, Owner, rfc3339
from storage.errors import DatabaseUnavailable


class Erasure(Body):
    confirm: Literal["erase everything"]


def add_owner_routes(api: APIRouter, chats: Chats) -> None:
    @api.post("/me/revoke", status_code=204)
    async def revoke(request: Request, owner: Owner) -> None:
        """Sign out everywhere else: all your earlier cookies become invalid, and this answer gives you a new
        one. Your chats stay."""
        await _revoke(chats, request)

    @api.get("/me/export", response_class=JSONResponse)
    async def export(owner: Owner) -> Response:
        """Everything that is stored about you, as one JSON document."""
        return StreamingResponse(
            await _with_first(_export(chats, owner)),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="tech-assistant-export.json"'},
        )

    @api.post("/me/erase", status_code=204)
    async def erase(request: Request, owner: Owner, body: Erasure) -> None:
        """Erase everything that is stored about you, at once and for good. All your earlier cookies become
        invalid, and this answer gives you a new one."""
        await _revoke(chats, request)
        await chats.erase(owner)


async def _revoke(chats: Chats, request: Request) -> None:
    if is_known(request):  # a new owner has no cookies to revoke
        await chats.revoke(owner_of(request))
    give_anew(request)


async def _export(chats: Chats, owner: str) -> AsyncIterator[str]:
    """The document in pieces, so that at most one page of messages is in memory.

    A failure before the first piece is raised. After that, `error` at the end says why it is incomplete.
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
                conversation = json.dumps(ConversationOut.of(one).model_dump())
                yield (f"{end}, " if end else "") + conversation[:-1] + ', "messages": ['
                end, between = "]}", ""
            else:
                yield between + MessageOut.of(one).model_dump_json()
                between = ", "
    except DatabaseUnavailable as unavailable:
        error = {"type": "storage", "message": str(unavailable)}
    yield f'{end}], "error": {json.dumps(error)}}}'


async def _with_first(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """The same pieces, the first of which is made at once, so that its failure is raised here."""
    first = await anext(pieces)

    async def all_of_them() -> AsyncIterator[str]:
        yield first
        async for piece in pieces:
            yield piece

    return all_of_them()
