"""The loader, `v1.js`: the script that other sites load to embed the widget."""

from __future__ import annotations

import base64
import hashlib

from assistant.web.static_files import STATIC, without_comments

FILES = STATIC / "widget"


def loader_source() -> bytes:
    """The loader as every browser gets it, compressed or not, so that it has one integrity hash."""
    return without_comments((FILES / "loader.js").read_bytes())


def loader_integrity() -> str:
    """The value of the attribute `integrity` of the script."""
    return f"sha384-{base64.b64encode(hashlib.sha384(loader_source()).digest()).decode()}"
