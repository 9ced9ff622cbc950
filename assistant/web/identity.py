"""Whose request it is: an anonymous owner, told by a signed cookie that is given on first contact.

The cookie holds a random id and its signature, nothing of the person. Its name is told from the key, so
that two installations on one host (cookies do not know ports) do not take each other's owners away.
"""

from __future__ import annotations

import functools
import hashlib
import time
import uuid
from http.cookies import CookieError, SimpleCookie

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT_SECONDS = 400 * 24 * 3600  # the longest that browsers keep a cookie
RENEWED_AFTER_SECONDS = 7 * 24 * 3600
MOST_REMEMBERED = 4096  # cookies whose signature is not checked again
SHORTEST_SESSION = 32  # characters; Gradio's client takes a UUID, its page something that can be guessed


class Identity:
    """Sets `scope["state"]["owner"]` for each request, and the cookie where there is none yet."""

    def __init__(self, app: ASGIApp, *, key: bytes) -> None:
        self.app = app
        self._signer = TimestampSigner(key, salt="owner", digest_method=hashlib.sha256)
        # A page sends its cookie with each request: most have been looked at a moment ago.
        self._unsign = functools.lru_cache(MOST_REMEMBERED)(self._check)
        self.cookie = "tech_assistant_" + hashlib.sha256(b"cookie name" + key).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        owner, age = self._read(Headers(scope=scope).get("cookie", ""))
        scope.setdefault("state", {})["is_known"] = owner is not None
        if owner is None:
            owner = uuid.uuid4().hex
        scope["state"]["owner"] = owner
        if age is not None and age < RENEWED_AFTER_SECONDS:
            await self.app(scope, receive, send)
            return
        cookie = self._write(owner, secure=scope["scheme"] in ("https", "wss"))

        async def giving(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Set-Cookie", cookie)
            await send(message)

        await self.app(scope, receive, giving)

    def _read(self, header: str) -> tuple[str | None, float | None]:
        """The owner whom the cookie names, and its age in seconds."""
        try:
            morsel = SimpleCookie(header).get(self.cookie)
            if morsel is None:
                return None, None
            owner, given = self._unsign(morsel.value)
        except (BadSignature, CookieError):
            return None, None
        return owner, time.time() - given

    def _check(self, value: str) -> tuple[str, float]:
        """The owner that the value names, and when it was given. Raises `BadSignature`."""
        owner, given = self._signer.unsign(value, return_timestamp=True)
        return owner.decode(), given.timestamp()

    def _write(self, owner: str, *, secure: bool) -> str:
        value = self._signer.sign(owner).decode()
        attributes = f"Max-Age={KEPT_SECONDS}; Path=/; HttpOnly; SameSite=Lax"
        return f"{self.cookie}={value}; {attributes}" + ("; Secure" if secure else "")


def owner_of(connection: HTTPConnection) -> str:
    """The owner whose request this is."""
    return str(connection.scope["state"]["owner"])


def owner_of_session(connection: HTTPConnection, session: str | None) -> str:
    """The owner of a program that names its session and keeps no cookies, as Gradio's client does.

    A cookie that it was given comes first. A session's name tells its owner only if nobody guesses it.
    """
    if connection.scope["state"]["is_known"] or len(session or "") < SHORTEST_SESSION:
        return owner_of(connection)
    return hashlib.sha256(b"session" + str(session).encode()).hexdigest()[:32]
