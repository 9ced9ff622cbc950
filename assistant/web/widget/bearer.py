"""Identifies the visitor of a site by the token in a request's `Authorization` header.

A request of the API with such a token belongs to the visitor of a site, whatever cookies come with it. It
gets no cookie, and reaches only what a widget needs.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.visitors import Visitor
from assistant.web.connections import address_of
from assistant.web.problems import Problem
from assistant.web.widget.tokens import PREFIX, SiteTokens

_ID = r"[^/]+"
OPEN = re.compile(
    rf"GET /api/engine|POST /api/messages|PUT /api/messages/{_ID}/feedback"
    rf"|(?:GET|POST) /api/conversations|(?:GET|PATCH|DELETE) /api/conversations/{_ID}"
    rf"|POST /api/conversations/{_ID}/(?:messages|restore)"
    rf"|GET /api/replies/{_ID}(?:/events)?|POST /api/replies/{_ID}/(?:stop|retry)"
    r"|POST /api/me/erase"
)


class SiteIdentity:
    """Middleware that sets `scope["state"]` for a visitor and calls `app`. Other requests of the API and of
    the page go to `identity`, which reads cookies; those of the widget go to `app` without an owner."""

    def __init__(self, app: ASGIApp, identity: ASGIApp, tokens: SiteTokens) -> None:
        self.app = app
        self._identity = identity
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] == "http" and path.startswith("/widget/"):
            await self.app(scope, receive, send)
            return
        token = _bearer(scope) if scope["type"] == "http" and path.startswith("/api/") else None
        if token is None:
            await self._identity(scope, receive, send)
            return
        answer = self._for_visitor(scope, token) or self.app
        await answer(scope, receive, _unstored(send))

    def _for_visitor(self, scope: Scope, token: str) -> Problem | None:
        """Make the request the visitor's, or refuse it."""
        if (read := self._tokens.read(token)) is None:
            detail = "This session of the widget has ended. Ask for a new token."
            return Problem(401, "site_token", detail, headers={"WWW-Authenticate": "Bearer"})
        shown, site = read
        if not OPEN.fullmatch(f"{scope['method']} {scope['path']}"):
            return Problem(403, "not_for_widgets", "A site's widget cannot do this.")
        client = scope["client"][0] if scope.get("client") else ""
        visitor = Visitor(site, shown.owner, address_of(client))
        scope.setdefault("state", {}).update(owner=shown.owner, is_known=False, visitor=visitor)
        return None


def _bearer(scope: Scope) -> str | None:
    """The site token of a request. Other keys, which programs have for other routes, are not ours to judge.
    Of several headers none is valid."""
    sent = [value.partition(" ") for value in Headers(scope=scope).getlist("authorization")]
    tokens = [token.strip() for scheme, _, token in sent if scheme.lower() == "bearer"]
    if not any(token.startswith(PREFIX) for token in tokens):
        return None
    return tokens[0] if len(sent) == 1 else ""


def _unstored(send: Send) -> Send:
    """Mark an answer as private, so that no cache stores it."""

    async def unstored(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Cache-Control"] = "no-store, private"
        await send(message)

    return unstored
