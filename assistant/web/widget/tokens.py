"""Site tokens: what the frame of a site's widget shows to the API instead of a cookie.

A token names the site, the origin of the page around the frame, and the visitor. It is signed, valid for
`VALID_SECONDS`, and never part of a URL. Until a day after its end the frame may exchange it for a new one.
The site and its origins are looked up at each request, so a token ends with the site or with its origin.

A visitor is a random id. The site's own user (`assistant/host_users.py`) takes the visitor's place in a token
for `USER_SECONDS` after the host has named them.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer

from assistant.chats import COOKIE_KEPT
from assistant.sites import Site, Sites

VALID_SECONDS = 15 * 60
RENEWED_SECONDS = 24 * 3600  # after its end, a token is still good for a new one
USER_SECONDS = 12 * 3600  # after that, the host must name its user again
LONGEST_TOKEN = 1000  # characters
COOKIE_SECONDS = int(COOKIE_KEPT.total_seconds())


@dataclass(frozen=True, slots=True)
class Pass:
    """What a token says. `user` is "" or a hash of the host's user, named at `named_at`."""

    site: str
    origin: str
    visitor: str
    user: str = ""
    named_at: int = 0  # seconds since the epoch

    @property
    def owner(self) -> str:
        """Whom the chats belong to: the host's user, else the visitor; of this site alone."""
        who = ("user", self.user) if self.user else ("visitor", self.visitor)
        return owner_of_site(self.site, *who)


def owner_of_site(site: str, *who: str) -> str:
    return hashlib.sha256("\0".join(("site", site, *who)).encode()).hexdigest()


class SiteTokens:
    """Makes and reads tokens, and the cookies that hold a visitor's id. `keys` are those of the owners'
    cookies: the first one signs, and what the others have signed is valid too."""

    def __init__(self, sites: Sites, keys: Sequence[bytes], now: Callable[[], float] = time.time) -> None:
        self._sites = sites
        self._now = now
        oldest_first = list(reversed(keys))
        digest = {"digest_method": hashlib.sha256}
        self._tokens = URLSafeSerializer(oldest_first, salt=b"site token", signer_kwargs=digest)
        self._cookies = URLSafeSerializer(oldest_first, salt=b"site visitor", signer_kwargs=digest)

    def sign(self, shown: Pass) -> str:
        fields = [shown.site, shown.origin, shown.visitor, shown.user, shown.named_at]
        return str(self._tokens.dumps([int(self._now()), *fields]))

    def read(self, token: str, *, late: float = 0.0) -> tuple[Pass, Site] | None:
        """What a token says that ended at most `late` seconds ago, and its site. None for any other token."""
        fields = self._signed(self._tokens, token, VALID_SECONDS + late)
        if fields is None or len(fields) != len(Pass.__dataclass_fields__):  # as of another release
            return None
        shown = Pass(*fields)
        site = self._sites.get(shown.site)
        return (shown, site) if site is not None and site.is_listed(shown.origin) else None

    def renewable(self, token: str, site: Site, origin: str) -> Pass | None:
        """The visitor of an old token of the same site and origin, and the user if the host has named them
        not too long ago."""
        read = self.read(token, late=RENEWED_SECONDS)
        if read is None or read[1].key != site.key or read[0].origin != origin:
            return None
        shown = read[0]
        is_named = shown.user and self._now() - shown.named_at <= USER_SECONDS
        return shown if is_named else Pass(site.key, origin, shown.visitor)

    def cookie(self, site: Site, visitor: str) -> str:
        return str(self._cookies.dumps([int(self._now()), site.key, visitor]))

    def visitor_of(self, site: Site, cookie: str) -> str | None:
        """The visitor in a cookie that this site's widget was given."""
        fields = self._signed(self._cookies, cookie, COOKIE_SECONDS)
        return fields[1] if fields is not None and fields[0] == site.key else None

    def _signed(self, signed: URLSafeSerializer, text: str, seconds: float) -> list[Any] | None:
        """What was signed at most so many seconds ago. None for everything else."""
        if len(text) > LONGEST_TOKEN or not text.isascii():
            return None
        try:
            made, *fields = signed.loads(text)
        except BadSignature:
            return None
        # A time in the future means that the clock was set back since.
        return fields if abs(self._now() - made) <= seconds else None


def new_visitor() -> str:
    return secrets.token_urlsafe(16)


def cookie_name(site: Site) -> str:
    return f"__Host-ta-w-{hashlib.sha256(site.key.encode()).hexdigest()[:16]}"
