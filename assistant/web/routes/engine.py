"""The engine: its state, the download of its model, and the licence of the model."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from pydantic import BaseModel

from assistant.errors import NothingToFetch, NotTheOperator
from assistant.knowledge.documentation import DocumentationStatus
from assistant.replies import Replies
from assistant.web.openapi import raises
from assistant.web.roles import is_operator
from assistant.web.routes.values import AtSite, Owner, Text


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
    cause: str | None
    answers: str | None
    download: DownloadOut | None
    documentation: DocumentationStatus
    licence: LicenceOut | None


def add_engine_routes(api: APIRouter, replies: Replies, *, may_manage: bool) -> None:
    """With `may_manage`, a request from this machine counts as the operator's."""

    def require_operator(request: Request) -> None:
        if not is_operator(request, may_manage=may_manage):
            raise NotTheOperator("Only the operator can do this. Choose the model with `--model`.")

    @api.get("/engine")
    async def engine(request: Request, owner: Owner, at: AtSite) -> EngineOut:
        """The engine's state, its model, what answers, and how much of the documentation has been read."""
        status = replies.served.status
        download = licence = None
        if at is not None:  # what the operator and the owners of the chat itself decide is left out
            return EngineOut(
                state=status.state,
                model=status.model if at.site.uses_model else None,
                detail=None,
                cause=None,
                answers=await replies.answers_at(at.site),
                download=None,
                documentation=(await replies.documentation_at(at.site.key)).status,
                licence=None,
            )
        if status.download is not None:
            download = DownloadOut(
                **asdict(status.download), may_change=is_operator(request, may_manage=may_manage)
            )
        if (its := status.licence) is not None:
            accepted = await replies.licences.may_use(owner, its)
            licence = LicenceOut(id=its.id, name=its.name, url=its.url, accepted=accepted)
        return EngineOut(
            state=status.state,
            model=status.model,
            detail=status.detail,
            cause=status.cause if is_operator(request, may_manage=may_manage) else None,
            answers=replies.answers,
            download=download,
            documentation=replies.documentation.status,
            licence=licence,
        )

    @api.post("/engine/download", status_code=202, responses=raises(NotTheOperator, NothingToFetch))
    async def begin_download(request: Request) -> None:
        """Start or resume the download of the offered model. `GET /api/engine` reports its progress."""
        require_operator(request)
        await replies.served.begin_download()

    @api.delete("/engine/download", status_code=204, responses=raises(NotTheOperator, NothingToFetch))
    async def decline_download(request: Request) -> None:
        """Stop or decline the download of the model. The decision is remembered at the next start."""
        require_operator(request)
        await replies.served.decline_download()

    @api.put("/licences/{licence_id:path}", status_code=204)  # the id of some licences is a URL
    async def accept_licence(owner: Owner, licence_id: Text) -> None:
        """Accept the licence of the model."""
        await replies.licences.accept(owner, licence_id)
