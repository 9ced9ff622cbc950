"""Web addresses: which are usable, and how they may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def is_http(url: str) -> bool:
    """Whether this is the complete address of a web server."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and url.isprintable()
        )
    except ValueError:  # an unfinished IPv6 address, or a port that is not a number
        return False


def without_user(url: str) -> str:
    """The address without the user name and password that may be in it, for messages and logs."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url)
