"""Whose request it is: an anonymous owner, told by a signed cookie that is given on first contact.

The cookie holds a random id, a mark and a signature with its time, nothing of the person. It is given with
the page and the API alone. Its name is told from the key, so that two installations on one host (cookies do
not know ports) do not take each other's owners away. Under HTTPS the name begins with `__Host-`, which
browsers take from this very host alone, and no other name is read: a cookie without it may have been planted
by whoever owns another name of the domain, or the network.

A cookie is valid for `COOKIE_KEPT` since it was last renewed, and only with the mark that its owner's last
revocation made, if there was one.
"""

from __future__ import annotations

import functools
import hashlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.chats import COOKIE_KEPT

KEPT_SECONDS = int(COOKIE_KEPT.total_seconds())
RENEWED_AFTER_SECONDS = 7 * 24 * 3600
MOST_REMEMBERED = 4096  # cookies whose signature is not checked again
LONGEST_COOKIE = 200  # characters
MOST_TRIED = 4  # cookies of one name: of several, the first that is valid counts
SHORTEST_SESSION = 32  # characters; Gradio's client takes a UUID, its page something that can be guessed


@dataclass(frozen=True, slots=True)
class _Cookie:
    """What a cookie with a good signature says."""

    owner: str
    mark: str  # empty before the owner's first revocation
    given: float  # seconds since the epoch
    is_old_key: bool


class Identity:
    """Sets `scope["state"]["owner"]` for each request, and the cookie where there is none yet.

    `older_keys` verify what `key` then signs anew. `marks` are those that owners' revocations have made.
    """

    def __init__(
        self, app: ASGIApp, *, key: bytes, older_keys: Sequence[bytes] = (), marks: Mapping[str, str]
    ) -> None:
        self.app = app
        self._marks = marks
        keys = (key, *older_keys)
        self._names = [cookie_name(key) for key in keys]
        self._signers = [TimestampSigner(key, salt="owner", digest_method=hashlib.sha256) for key in keys]
        # A page sends its cookie with each request: most have been looked at a moment ago.
        self._unsign = functools.lru_cache(MOST_REMEMBERED)(self._check)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cookie = self._read(scope)
        owner = uuid.uuid4().hex if cookie is None else cookie.owner
        scope.setdefault("state", {}).update(owner=owner, is_known=cookie is not None)
        path: str = scope["path"]
        if path == "/" or path.startswith(("/api/", "/gradio_api/")):
            is_given = not path.startswith("/gradio_api/")
            send = self._private(scope, owner, cookie, send, is_given=is_given)
        await self.app(scope, receive, send)

    def _private(
        self, scope: Scope, owner: str, cookie: _Cookie | None, send: Send, *, is_given: bool
    ) -> Send:
        """For an answer that is somebody's: kept by nobody else, and with the cookie where that is due."""
        state = scope["state"]
        mark = "" if cookie is None else cookie.mark
        is_due = is_given and (cookie is None or _is_due(cookie))

        async def private(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store, private"
                now = self._marks.get(owner, mark)
                # What was asked with a cookie that was revoked meanwhile gets none, but for who revoked it.
                if state.get("is_given_anew") or (is_due and now == mark):
                    for line in self._lines(owner, now, cookie, is_https=_is_https(scope)):
                        headers.append("Set-Cookie", line)
            await send(message)

        return private

    def _read(self, scope: Scope) -> _Cookie | None:
        """What the first valid cookie of ours says."""
        sent = [value for name, value in scope["headers"] if name == b"cookie"]
        if not sent:
            return None
        prefix = "__Host-" if _is_https(scope) else ""
        for number, name in enumerate(self._names):
            for value in values_of((prefix + name).encode(), sent):
                try:
                    cookie = self._unsign(number, value)
                except BadSignature:
                    continue
                if self._is_valid(cookie):
                    return cookie
        return None

    def _check(self, number: int, value: bytes) -> _Cookie:
        """What a value says that was signed with the key of that number. Raises `BadSignature`."""
        if len(value) > LONGEST_COOKIE:  # as it is remembered
            raise BadSignature("is too long")
        signed, given = self._signers[number].unsign(value, return_timestamp=True)
        owner, _, mark = signed.decode().partition(".")
        return _Cookie(owner, mark, given.timestamp(), is_old_key=number > 0)

    def _is_valid(self, cookie: _Cookie) -> bool:
        # What seems to come from the future was given before the clock was set back.
        is_kept = abs(time.time() - cookie.given) <= KEPT_SECONDS
        return is_kept and self._marks.get(cookie.owner, cookie.mark) == cookie.mark

    def _lines(self, owner: str, mark: str, cookie: _Cookie | None, *, is_https: bool) -> Iterable[str]:
        """The lines that give a cookie, and take away what older keys have signed."""
        prefix, end = ("__Host-", "; Secure") if is_https else ("", "")
        end = f"; Path=/; HttpOnly; SameSite=Lax{end}"
        yield f"{prefix}{self._names[0]}={self.sign(owner, mark)}; Max-Age={KEPT_SECONDS}{end}"
        if cookie is not None and cookie.is_old_key:
            yield from (f"{prefix}{name}=; Max-Age=0{end}" for name in self._names[1:])

    def sign(self, owner: str, mark: str = "") -> str:
        """The value of an owner's cookie."""
        return self._signers[0].sign(f"{owner}.{mark}" if mark else owner).decode()


def cookie_name(key: bytes) -> str:
    """The name of the cookie that a key signs; under HTTPS, `__Host-` comes before it."""
    return "tech_assistant_" + hashlib.sha256(b"cookie name" + key).hexdigest()[:8]


def values_of(name: bytes, headers: Iterable[bytes]) -> list[bytes]:
    """The values of the first `MOST_TRIED` cookies of a name. Nothing else of the headers is parsed."""
    pairs = b";" + b";".join(headers).replace(b"; ", b";")
    found = pairs.split(b";" + name + b"=", MOST_TRIED)[1:]
    return [value.partition(b";")[0] for value in found]


def _is_due(cookie: _Cookie) -> bool:
    """Whether to give it anew."""
    return cookie.is_old_key or not 0 <= time.time() - cookie.given < RENEWED_AFTER_SECONDS


def _is_https(scope: Scope) -> bool:
    return bool(scope["scheme"] == "https")


def owner_of(connection: HTTPConnection) -> str:
    """The owner whose request this is."""
    return str(connection.scope["state"]["owner"])


def is_known(connection: HTTPConnection) -> bool:
    """Whether the owner came with a cookie, and is not just made up for this request."""
    return bool(connection.scope["state"]["is_known"])


def give_anew(connection: HTTPConnection) -> None:
    """Have the answer give the owner's cookie with their newest mark."""
    connection.scope["state"]["is_given_anew"] = True


def owner_of_session(connection: HTTPConnection, session: str | None) -> str:
    """The owner of a program that names its session and keeps no cookies, as Gradio's client does.

    A cookie that it was given comes first. A session's name tells its owner only if nobody guesses it.
    """
    if is_known(connection) or len(session or "") < SHORTEST_SESSION:
        return owner_of(connection)
    return hashlib.sha256(b"session" + str(session).encode()).hexdigest()[:32]
