"""The loader, `v1.js`: the script that other sites load to embed the widget."""

from __future__ import annotations

import base64
import functools
import hashlib

from assistant.sites import Site
from assistant.web.static_files import STATIC, gzipped, without_comments

FILES = STATIC / "widget"


@functools.cache  # every page of every site loads it
def loader_source() -> bytes:
    """The loader as every browser gets it, compressed or not, so that it has one integrity hash."""
    return without_comments((FILES / "loader.js").read_bytes())


@functools.cache
def compressed_loader() -> bytes:
    return gzipped(loader_source())


def loader_integrity() -> str:
    """The value of the attribute `integrity` of the script."""
    return f"sha384-{base64.b64encode(hashlib.sha384(loader_source()).digest()).decode()}"


def script_line(site: Site, address: str) -> str:
    """The line that embeds the widget, of an application with this address. The button shows before the
    settings of the site are loaded, so the line has those of the button."""
    position = ' data-position="left"' if site.position == "left" else ""
    colour = f' data-colour="{site.colour}"' if site.colour else ""
    return f'<script src="{address}/widget/v1.js" data-site="{site.key}"{position}{colour} async></script>'
