"""Identifies the owner of a request by a signed cookie. Owners are anonymous.

The page and the API give the cookie on first contact. It holds a random owner id, a mark, and a signature
with a time, and no personal data. Its name is derived from the key, because cookies do not distinguish ports:
two installations on one host must not overwrite each other's cookie. Under HTTPS the name begins with
`__Host-`, which browsers accept only from this host. No other name is read then, because another host of the
domain, or somebody on the network, could have planted the cookie.

A cookie is valid for `COOKIE_KEPT` since its last renewal. After an owner has revoked their cookies, only
cookies with the mark of that revocation are valid.
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

from assistant.accounts import Account, KeyScope
from assistant.chats import COOKIE_KEPT
from assistant.web.cookies import Cookies, is_https, sent_name

KEPT_SECONDS = int(COOKIE_KEPT.total_seconds())
RENEWED_AFTER_SECONDS = 7 * 24 * 3600
MOST_REMEMBERED = 4096  # cookies whose checked signatures are cached
LONGEST_COOKIE = 200  # characters
MOST_TRIED = 4  # cookies of one name that are tried until one is valid
SHORTEST_SESSION = 32  # characters: Gradio's client uses a UUID, its page a shorter name that can be guessed


@dataclass(frozen=True, slots=True)
class _Cookie:
    """The content of a cookie with a valid signature."""

    owner: str
    mark: str  # empty before the owner's first revocation
    given: float  # seconds since the epoch
    is_old_key: bool


class Identity:
    """Middleware that sets `scope["state"]["owner"]`, and gives a cookie to a client that has none.

    A cookie signed with one of `older_keys` is replaced by one signed with `key`. `marks` holds the mark of
    each owner's last revocation.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: bytes,
        older_keys: Sequence[bytes] = (),
        marks: Mapping[str, str],
        cookies: Cookies | None = None,
    ) -> None:
        self.app = app
        self._cookies = cookies or Cookies()
        self._marks = marks
        keys = (key, *older_keys)
        self._names = [cookie_name(key) for key in keys]
        self._signers = [TimestampSigner(key, salt="owner", digest_method=hashlib.sha256) for key in keys]
        # A page sends its cookie with each request, so most cookies were checked a moment ago.
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
        """Mark an answer as private, so that no cache stores it, and add the cookie if it is due."""
        state = scope["state"]
        mark = "" if cookie is None else cookie.mark
        is_due = is_given and (cookie is None or _is_due(cookie))

        async def private(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store, private"
                now = self._marks.get(owner, mark)
                # A cookie that was revoked meanwhile is not renewed, except by the request that revoked it.
                if state.get("is_given_anew") or (is_due and now == mark):
                    for line in self._lines(owner, now, cookie, is_https=is_https(scope)):
                        headers.append("Set-Cookie", line)
            await send(message)

        return private

    def _read(self, scope: Scope) -> _Cookie | None:
        """The first valid cookie of ours in a request."""
        sent = [value for name, value in scope["headers"] if name == b"cookie"]
        if not sent:
            return None
        for number, name in enumerate(self._names):
            for value in values_of(sent_name(name, is_https=is_https(scope)).encode(), sent):
                try:
                    cookie = self._unsign(number, value)
                except BadSignature:
                    continue
                if self._is_valid(cookie):
                    return cookie
        return None

    def _check(self, number: int, value: bytes) -> _Cookie:
        """The cookie in a value that is signed with key `number`. Raises `BadSignature`."""
        if len(value) > LONGEST_COOKIE:  # since it is cached
            raise BadSignature("is too long")
        signed, given = self._signers[number].unsign(value, return_timestamp=True)
        owner, _, mark = signed.decode().partition(".")
        return _Cookie(owner, mark, given.timestamp(), is_old_key=number > 0)

    def _is_valid(self, cookie: _Cookie) -> bool:
        # A time in the future means that the clock was set back since.
        is_kept = abs(time.time() - cookie.given) <= KEPT_SECONDS
        return is_kept and self._marks.get(cookie.owner, cookie.mark) == cookie.mark

    def _lines(self, owner: str, mark: str, cookie: _Cookie | None, *, is_https: bool) -> Iterable[str]:
        """The `Set-Cookie` values that give a cookie and remove one that an older key signed."""
        value = self.sign(owner, mark)
        yield self._cookies.line(self._names[0], value, seconds=KEPT_SECONDS, is_https=is_https)
        if cookie is not None and cookie.is_old_key:
            for name in self._names[1:]:
                yield self._cookies.line(name, "", seconds=0, is_https=is_https)

    def sign(self, owner: str, mark: str = "") -> str:
        """The value of an owner's cookie, signed."""
        return self._signers[0].sign(f"{owner}.{mark}" if mark else owner).decode()


def cookie_name(key: bytes) -> str:
    """The name of the cookie that a key signs, without the `__Host-` that HTTPS puts before it."""
    return "tech_assistant_" + hashlib.sha256(b"cookie name" + key).hexdigest()[:8]


def values_of(name: bytes, headers: Iterable[bytes]) -> list[bytes]:
    """The values of the first `MOST_TRIED` cookies of a name. Nothing else in the headers is parsed."""
    pairs = b";" + b";".join(headers).replace(b"; ", b";")
    found = pairs.split(b";" + name + b"=", MOST_TRIED)[1:]
    return [value.partition(b";")[0] for value in found]


def _is_due(cookie: _Cookie) -> bool:
    """Whether to renew the cookie."""
    return cookie.is_old_key or not 0 <= time.time() - cookie.given < RENEWED_AFTER_SECONDS


def owner_of(connection: HTTPConnection) -> str:
    """The owner of this request."""
    return str(connection.scope["state"]["owner"])


def is_known(connection: HTTPConnection) -> bool:
    """Whether the request had a valid cookie. Otherwise its owner is new."""
    return bool(connection.scope["state"]["is_known"])


def account_of(connection: HTTPConnection) -> Account | None:
    """The account that has signed in, or for which a program acts with a personal key. None for a visitor."""
    account: Account | None = connection.scope["state"].get("account")
    return account


def scopes_of(connection: HTTPConnection) -> frozenset[KeyScope] | None:
    """What a personal key allows. None without such a key, when all is allowed that the owner may do."""
    scopes: frozenset[KeyScope] | None = connection.scope["state"].get("scopes")
    return scopes


def give_anew(connection: HTTPConnection) -> None:
    """Give the owner a cookie with their newest mark in the answer to this request."""
    connection.scope["state"]["is_given_anew"] = True


def owner_of_session(connection: HTTPConnection, session: str | None) -> str:
    """The owner of a program that names its session and keeps no cookies, such as Gradio's client.

    A cookie takes precedence. A session name is used only if it is too long to guess.
    """
    if is_known(connection) or len(session or "") < SHORTEST_SESSION:
        return owner_of(connection)
    return hashlib.sha256(b"session" + str(session).encode()).hexdigest()[:32]
