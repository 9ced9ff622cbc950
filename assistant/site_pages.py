"""The pages of a site that are fetched from its addresses: where they are, and fetching them again.

Each address has a folder of its own below `DATA/sites/KEY/pages`. The operator fetches with
`python -m assistant site refresh KEY`; the application does it by itself for a site with `refresh_hours`, in
a process of its own, one site at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from assistant.knowledge.documentation import knowledge_process
from assistant.knowledge.reading.addresses import CRAWL_FILE
from assistant.sites import Site, Sites

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # between two looks whether a site is due
RETRY_SECONDS = 3600.0  # at least, after the last try
LONGEST_REASON = 500  # characters


def folders_of(site: Site, place: Path) -> dict[str, Path]:
    """For each address of a site, the folder of its pages below `place`, which may not exist yet."""
    return {address: place / "pages" / _name_of(address) for address in site.addresses}


def _name_of(address: str) -> str:
    """The host, and what tells two addresses of one host apart."""
    parts = urlsplit(address)
    name = quote(parts.netloc, safe="")[:100]
    if parts.path in ("", "/") and not parts.query:
        return name
    return f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def arguments_of(site: Site, address: str, folder: Path) -> list[str]:
    """The command that fetches one address, without the name of Python."""
    allowed = (part for host in site.private_hosts for part in ("--allow-private-host", host))
    return ["-m", "assistant.knowledge", "fetch", *allowed, "--", address, str(folder)]


async def fetch_in_process(arguments: list[str]) -> str:
    """Run a fetch that ends with this process. Returns why it failed, or ""."""
    _, _, command, *rest = arguments
    streams = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.PIPE}
    async with knowledge_process(command, *rest, **streams) as process:
        assert process.stderr is not None
        said = await process.stderr.read()  # the other process prints a few lines at most
        failed = await process.wait() != 0
        return (said.decode("utf-8", "replace").strip()[-LONGEST_REASON:] or "it ended") if failed else ""


class Refresher:
    """Fetches the pages again of each site that asks for it."""

    def __init__(
        self,
        sites: Sites,
        *,
        fetch: Callable[[list[str]], Awaitable[str]] = fetch_in_process,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sites = sites
        self._fetch = fetch
        self._now = now
        self._sleep = sleep
        self._tried: dict[Path, float] = {}

    async def run(self) -> None:
        while True:
            await self.refresh()
            await self._sleep(LOOK_SECONDS)

    async def refresh(self) -> None:
        """Fetch what is due now."""
        for site in self._sites.all():
            if site.refresh_hours is None:
                continue
            for address, folder in folders_of(site, self._sites.place(site.key)).items():
                if self._is_due(folder, site.refresh_hours * 3600.0):
                    self._tried[folder] = self._now()
                    if reason := await self._fetch(arguments_of(site, address, folder)):
                        log.warning("the pages of the site %s could not be fetched: %s", site.key, reason)

    def _is_due(self, folder: Path, seconds: float) -> bool:
        now = self._now()
        try:
            fetched = os.stat(folder / CRAWL_FILE).st_mtime
        except OSError:
            fetched = 0.0
        return now - fetched >= seconds and now - self._tried.get(folder, 0.0) >= RETRY_SECONDS
