"""How cookies are set. No script reads them. Under HTTPS each belongs to exactly this host (`__Host-`).

Where pages of other sites may show ours in a frame (`in_frames`), a cookie under HTTPS is partitioned: the
browser keeps one for each site around the frame, and another for our page itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope


@dataclass(frozen=True, slots=True)
class Cookies:
    in_frames: bool = False

    def line(self, name: str, value: str, *, seconds: int, is_https: bool) -> str:
        """The `Set-Cookie` value for a cookie; 0 seconds remove it."""
        attributes = "Path=/; HttpOnly; SameSite=Lax"
        if is_https:
            attributes += "; Secure"
            if self.in_frames:
                attributes = "Path=/; HttpOnly; SameSite=None; Secure; Partitioned"
        return f"{sent_name(name, is_https=is_https)}={value}; Max-Age={seconds}; {attributes}"


def sent_name(name: str, *, is_https: bool) -> str:
    """The name under which a cookie is sent. Under HTTPS no other name is read."""
    return f"__Host-{name}" if is_https else name


def is_https(scope: Scope) -> bool:
    return bool(scope["scheme"] == "https")
