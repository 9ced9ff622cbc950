"""The widget that other sites embed: its loader, the page in its frame, and the tokens of its visitors.

No answer here can be read by a page of another site, but for the loader, which is the same for everybody.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response

from assistant.chats import Chats
from assistant.errors import BadIdentity
from assistant.host_users import host_user
from assistant.replies import Answers, Replies
from assistant.sites import Site, Sites
from assistant.web.identity import values_of
from assistant.web.problems import Problem
from assistant.web.routes.values import Body, Text
from assistant.web.security import LOADER, PERMISSIONS, PERMISSIONS_POLICY, RESOURCE_POLICY, is_this_machine
from assistant.web.static_files import accepts_gzip, gzipped
from assistant.web.widget.loader import FILES, compressed_loader, loader_source
from assistant.web.widget.tokens import (
    COOKIE_SECONDS,
    VALID_SECONDS,
    Pass,
    SiteTokens,
    cookie_name,
    new_visitor,
)

LOADER_SECONDS = 3600  # how long browsers keep the loader
SETTINGS = "<!--SETTINGS-->"  # in frame.html
FRAME_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}"
)
UNKNOWN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Unknown site</title></head>
<body><main><h1>Unknown site</h1><p>There is no site with this key here. If this is your site, compare the key
with the one that <code>python -m assistant site list</code> shows.</p></main></body></html>
"""
UNKNOWN_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors *"


class TokenRequest(Body):
    origin: Annotated[Text, StringConstraints(max_length=300)] = Field(
        description="the origin of the page around the frame"
    )
    token: Annotated[Text, StringConstraints(max_length=1000)] | None = Field(
        None, description="an earlier token, which may have ended less than a day ago"
    )
    identity: Annotated[Text, StringConstraints(max_length=4096)] | None = Field(
        None, description="a JWT with which the site names its user"
    )


class TokenOut(BaseModel):
    token: str
    expires_in: int
    visitor: str
    conversation_id: str | None
    running_reply_id: str | None


def add_widget_routes(app: FastAPI, replies: Replies, chats: Chats, sites: Sites, tokens: SiteTokens) -> None:
    @app.api_route(LOADER, methods=["GET", "HEAD"], include_in_schema=False)
    async def loader(request: Request) -> Response:
        source = loader_source()
        etag = f'"{hashlib.sha256(source).hexdigest()[:32]}"'
        headers = {
            "Access-Control-Allow-Origin": "*",
            RESOURCE_POLICY: "cross-origin",
            "Cache-Control": f"public, max-age={LOADER_SECONDS}",
            "ETag": etag,
            "Vary": "Accept-Encoding",
        }
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if accepts_gzip(Headers(scope=request.scope)):
            source = compressed_loader()
            headers["Content-Encoding"] = "gzip"
        return Response(source, headers=headers, media_type="text/javascript")

    @app.api_route("/widget/{key}", methods=["GET", "HEAD"], include_in_schema=False)
    async def frame(request: Request, key: str) -> Response:
        if (site := sites.get(key)) is None:
            return HTMLResponse(UNKNOWN, 404, {"Content-Security-Policy": UNKNOWN_POLICY})
        page = (FILES / "frame.html").read_text(encoding="utf-8")
        shown = page.replace(SETTINGS, await _settings(site, replies), 1)
        headers = {**_frame_headers(site), "Vary": "Accept-Encoding"}
        if not accepts_gzip(Headers(scope=request.scope)):
            return HTMLResponse(shown, headers=headers)
        # The page is the same for every visitor, so the length of it tells nothing about one.
        return HTMLResponse(gzipped(shown.encode()), headers={**headers, "Content-Encoding": "gzip"})

    @app.post("/widget/{key}/token", include_in_schema=False)
    async def token(request: Request, key: str, body: TokenRequest) -> Response:
        if (site := sites.get(key)) is None:
            return Problem(404, "not_found", "There is no site with this key.")
        if not site.is_listed(body.origin):
            detail = "The owner of this site has not listed the page that embeds the widget."
            return Problem(403, "unlisted_origin", detail)
        shown = None if body.token is None else tokens.renewable(body.token, site, body.origin)
        if shown is None and (visitor := _visitor_of_cookie(request, site, tokens)) is not None:
            shown = Pass(site.key, body.origin, visitor)
        is_known = shown is not None
        shown = shown or Pass(site.key, body.origin, new_visitor())
        if body.identity is not None:
            try:
                shown = await _signed_in(site, shown, body.identity, chats)
            except BadIdentity as error:
                return Problem(403, error.type, str(error))
        conversation_id, reply_id = await chats.latest(shown.owner)
        answer = TokenOut(
            token=tokens.sign(shown),
            expires_in=VALID_SECONDS,
            visitor="known" if is_known else "new",
            conversation_id=conversation_id,
            running_reply_id=reply_id,
        )
        response = JSONResponse(answer.model_dump(), headers={"Cache-Control": "no-store, private"})
        if _keeps_secure_cookies(request):
            response.headers.append("Set-Cookie", _cookie(site, tokens.cookie(site, shown.visitor)))
        return response


async def _signed_in(site: Site, shown: Pass, identity: str, chats: Chats) -> Pass:
    """The same visitor as the user whom the site names, who takes over what the visitor has asked at this
    site. Raises `BadIdentity`."""
    named = host_user(site, identity)
    if not await chats.use_identity(site.key, named.digest, named.ends_at):
        raise BadIdentity("The JWT was used before. Sign a new one for each page.")
    anonymous = Pass(site.key, shown.origin, shown.visitor)
    user = replace(anonymous, user=named.user, named_at=int(time.time()))
    await chats.take_over(site.key, anonymous.owner, user.owner)
    return user


async def _settings(site: Site, replies: Replies) -> str:
    """What the frame has to know of its site, as a script that is only data."""
    settings: dict[str, Any] = {
        **{name: getattr(site, name) for name in ("key", "name", "origins", "greeting", "suggestions")},
        **{name: getattr(site, name) for name in ("colour", "position", "language", "texts")},
        "answers": await replies.answers_at(site) or Answers.DOCUMENTATION,
    }
    data = json.dumps(settings).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="settings">{data}</script>'


def _frame_headers(site: Site) -> dict[str, str]:
    return {
        "Content-Security-Policy": FRAME_POLICY.format(" ".join(site.origins) or "'none'"),
        PERMISSIONS_POLICY: f"{PERMISSIONS}, clipboard-write=(self)",
        "Cache-Control": "no-cache",
    }


def _visitor_of_cookie(request: Request, site: Site, tokens: SiteTokens) -> str | None:
    sent = [value for name, value in request.scope["headers"] if name == b"cookie"]
    found = values_of(cookie_name(site).encode(), sent) if sent else []
    visitors = (tokens.visitor_of(site, value.decode("latin-1")) for value in found)
    return next(filter(None, visitors), None)


def _keeps_secure_cookies(request: Request) -> bool:
    """Whether a browser keeps a `Secure` cookie of this address: HTTPS, or the name localhost."""
    host = request.headers.get("host", "")
    is_name = not host.startswith("[") and host[:1].isalpha()
    return request.url.scheme == "https" or (is_name and is_this_machine(host))


def _cookie(site: Site, value: str) -> str:
    """A cookie that only the frame in this top-level site gets back, where other cookies are blocked."""
    return (
        f"{cookie_name(site)}={value}; Max-Age={COOKIE_SECONDS}; Path=/; Secure; HttpOnly; SameSite=None; "
        "Partitioned"
    )
