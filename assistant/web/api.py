"""The HTTP API: the routes of all resources under `/api`.

The OpenAPI document at `/api/openapi.json` describes them. Errors are problem documents (`problems.py`).
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.routing import Match

from assistant.chats import Chats
from assistant.replies import Replies
from assistant.web.problems import Problem
from assistant.web.routes.conversations import add_conversation_routes
from assistant.web.routes.engine import add_engine_routes
from assistant.web.routes.me import add_owner_routes
from assistant.web.routes.replies import add_reply_routes

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def api_routes(replies: Replies, chats: Chats, *, may_manage: bool) -> APIRouter:
    """All routes. With `may_manage`, a request from this machine counts as the operator's."""
    api = APIRouter(prefix="/api")
    add_engine_routes(api, replies, may_manage=may_manage)
    add_conversation_routes(api, chats)
    add_reply_routes(api, replies, chats)
    add_owner_routes(api, chats)
    known = list(api.routes)

    @api.api_route("/{path:path}", methods=METHODS, include_in_schema=False)
    async def unknown(request: Request, path: str) -> Response:
        """The last route, so that no request under `/api` reaches the page."""
        allowed = sorted(
            {
                method
                for route in known
                if route.matches(dict(request.scope))[0] is Match.PARTIAL
                for method in getattr(route, "methods", None) or ()
            }
        )
        if allowed:
            detail = f"{request.method} is not allowed here, only {', '.join(allowed)}."
            return Problem(405, "method_not_allowed", detail, headers={"Allow": ", ".join(allowed)})
        return Problem(404, "not_found", f"There is nothing at /api/{path}.")

    return api
