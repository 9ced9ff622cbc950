"""What belongs to a site: the chats of its visitors, and the JWTs that have named its users."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from storage.database import Database
from storage.owners import NOBODY
from storage.running import utc_now
from storage.schema import conversations, used_identities

USED = select(used_identities.c.digest).where(
    used_identities.c.site == bindparam("site"), used_identities.c.digest == bindparam("digest")
)


class SiteStore:
    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def use_identity(self, site: str, digest: str, ends_at: datetime) -> bool:
        """Record that a JWT is used, until it ends. Returns whether it was new."""

        def work(connection: Connection) -> bool:
            connection.execute(delete(used_identities).where(used_identities.c.ends_at < self._now()))
            if connection.scalar(USED, {"site": site, "digest": digest}) is not None:
                return False
            connection.execute(insert(used_identities), {"site": site, "digest": digest, "ends_at": ends_at})
            return True

        return await self._database.write(work)

    async def take_over(self, site: str, owner: str, new_owner: str) -> None:
        """Give the chats that an owner has at a site to another one."""
        theirs = (conversations.c.site == site) & (conversations.c.owner == owner)
        taken = update(conversations).where(theirs).values(owner=new_owner)
        await self._database.write(lambda connection: connection.execute(taken), makes_room=True)

    async def expire(self, site: str, before: datetime | None = None) -> None:
        """Give the chats of a site to nobody, where a purge finds them: those without a question since
        `before`, or all."""
        old = (conversations.c.site == site) & (conversations.c.owner != NOBODY)
        if before is not None:
            old &= conversations.c.updated_at < before
        gone = update(conversations).where(old).values(owner=NOBODY, deleted_at=self._now())
        await self._database.write(lambda connection: connection.execute(gone), makes_room=True)
