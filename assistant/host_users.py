"""The user of a site, as the site names them by a JWT that its own server signs.

A JWT is accepted once, for one site, and for five minutes at most. Its algorithm is HS256, whatever it says
itself. Two keys of a site are valid at a time, so that the site can replace one without a gap.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from assistant.errors import BadIdentity
from assistant.sites import Site

ALGORITHM = "HS256"
LONGEST = timedelta(minutes=5)
LEEWAY = timedelta(seconds=10)  # for clocks that differ
LONGEST_NAME = 200  # characters of `sub` and of `jti`


@dataclass(frozen=True, slots=True)
class HostUser:
    """`user` is a hash of who the site names, `digest` one of the JWT's id, which is remembered until
    `ends_at`."""

    user: str
    digest: str
    ends_at: datetime


def host_user(site: Site, token: str) -> HostUser:
    """The user whom a JWT names. Raises `BadIdentity`, which says what is wrong and repeats nothing."""
    if not site.identity_keys:
        raise BadIdentity("This site does not sign its users in: it has no key for that.")
    claims = _verified(site, token)
    left = int(claims["exp"]) - time.time()
    if left > (LONGEST + LEEWAY).total_seconds():
        raise BadIdentity("The JWT is valid for too long: `exp` must be at most five minutes ahead.")
    sub, jti = claims["sub"], claims["jti"]
    if not 0 < len(sub) <= LONGEST_NAME or not 0 < len(jti) <= LONGEST_NAME:
        raise BadIdentity(f"`sub` and `jti` of the JWT must have 1 to {LONGEST_NAME} characters.")
    ends_at = datetime.now(UTC) + timedelta(seconds=left) + LEEWAY
    return HostUser(_hash(site, "user", sub), _hash(site, "jti", jti), ends_at)


def _verified(site: Site, token: str) -> dict[str, Any]:
    import jwt  # imports cryptography, which takes time: most sites name no users

    required = ["exp", "aud", "sub", "jti"]
    for key in site.identity_keys:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=site.key,
                leeway=LEEWAY,
                options={"require": required, "strict_aud": True},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise BadIdentity("The JWT has ended. Sign a new one for each page.") from None
        except jwt.InvalidAudienceError:
            raise BadIdentity("The JWT is for another site: `aud` must be the site's key.") from None
        except jwt.MissingRequiredClaimError as error:
            raise BadIdentity(f"The JWT has no `{error.claim}`.") from None
        except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError):
            raise BadIdentity(f"The JWT is not valid. It must be signed by {ALGORITHM}.") from None
    raise BadIdentity("The JWT is signed with a key that is not this site's.")


def _hash(site: Site, *parts: str) -> str:
    return hashlib.sha256("\0".join((site.key, *parts)).encode()).hexdigest()
