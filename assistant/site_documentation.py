"""The documentation of each site: an index of its own, in which the questions of its visitors alone search.

An index is brought up to date when it is first needed, and again when the site's folders or what was fetched
for it change. One is read at a time, and few are open at once, since each has a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine

from assistant.knowledge.documentation import Documentation
from assistant.knowledge.reading.addresses import CRAWL_FILE
from assistant.site_pages import Refresher, folders_of
from assistant.sites import Site, Sites

log = logging.getLogger(__name__)

MOST_OPEN = 32


class SiteDocumentation:
    def __init__(self, sites: Sites, *, most_open: int = MOST_OPEN) -> None:
        self._sites = sites
        self._most_open = most_open
        self._open: dict[str, tuple[tuple[object, ...], Documentation]] = {}  # by key, used last at the end
        self._reading = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._nothing = Documentation(None)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    async def start(self) -> None:
        """Begin to bring all indexes up to date, without waiting for the end, and to fetch pages again."""
        self._do(self._read_all())
        self._do(Refresher(self._sites).run())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(documentation.close() for _, documentation in self._open.values()))

    async def of(self, key: str) -> Documentation:
        """The documentation of a site, as it is set now. Do not keep it: later it may be another one."""
        site = self._sites.get(key)
        if site is None or not (site.docs or site.addresses or site.library):
            self._retire(key)
            return self._nothing
        stamp = self._stamp(site)
        known = self._open.pop(key, None)
        if known is not None and known[0] == stamp:
            self._open[key] = known
            return known[1]
        documentation = self._documentation(site)
        self._open[key] = (stamp, documentation)
        if known is not None:
            self._do(known[1].retire())
        await documentation.start()
        self._make_room()
        return documentation

    async def drop(self, key: str) -> None:
        """Close the documentation of a site that was removed, so that its files can go."""
        if (known := self._open.pop(key, None)) is not None:
            await known[1].retire()

    def _documentation(self, site: Site) -> Documentation:
        arguments = [part for docs in (*site.docs, *self._fetched(site)) for part in ("--docs", docs)]
        place = self._sites.place(site.key)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Documentation(
            place / "documentation.db",
            [*arguments, *([] if site.library else ["--no-python"])],
            threads=1,
            reading=self._reading,
            version=None if not site.library else self._nothing.version,
        )

    def _fetched(self, site: Site) -> list[str]:
        """The folders of what was fetched for a site, each with its address."""
        folders = folders_of(site, self._sites.place(site.key))
        return [f"{folder}={address}" for address, folder in folders.items() if folder.is_dir()]

    def _stamp(self, site: Site) -> tuple[object, ...]:
        """Changes whenever the index has to be made anew."""
        times = []
        for folder in folders_of(site, self._sites.place(site.key)).values():
            try:
                times.append(os.stat(folder / CRAWL_FILE).st_mtime_ns)
            except OSError:
                times.append(0)
        return site.docs, site.addresses, site.library, *times

    async def _read_all(self) -> None:
        for site in self._sites.all():
            try:
                await (await self.of(site.key)).wait_until_read()
            except Exception:  # the other sites have their documentation all the same
                log.exception("the documentation of the site %s could not be read", site.key)

    def _make_room(self) -> None:
        """Close what was used longest ago, if nobody uses it now."""
        for key in list(self._open):
            if len(self._open) <= self._most_open:
                break
            if self._open[key][1].is_idle:
                self._retire(key)

    def _retire(self, key: str) -> None:
        if (known := self._open.pop(key, None)) is not None:
            self._do(known[1].retire())

    def _do(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(self._tasks.discard)
