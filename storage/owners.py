"""What belongs to an owner besides conversations: accepted licences and revoked cookies."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from storage.database import Database
from storage.rows import checked
from storage.running import utc_now
from storage.schema import acceptances, conversations, revocations

NOBODY = ""  # owns what waits to be removed for good

ACCEPTANCES = select(acceptances).where(acceptances.c.owner == bindparam("owner"))
ACCEPTED = ACCEPTANCES.where(acceptances.c.licence == bindparam("licence"))


class OwnerStore:
    """What is stored of every owner, in one database."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def accept(self, owner: str, licence: str) -> None:
        """Record that an owner accepts the terms of a licence. The first time counts."""

        def work(connection: Connection) -> None:
            if connection.scalar(ACCEPTED, {"owner": owner, "licence": licence}) is None:
                new = {"owner": owner, "licence": licence, "accepted_at": self._now()}
                connection.execute(insert(acceptances), new)

        await self._database.write(work)

    async def acceptances(self, owner: str) -> dict[str, datetime]:
        """The licences that an owner has accepted, and when."""

        def work(connection: Connection) -> dict[str, datetime]:
            rows = connection.execute(ACCEPTANCES, {"owner": owner})
            return {row.licence: row.accepted_at for row in (checked(acceptances, row) for row in rows)}

        return await self._database.read(work)

    async def has_accepted(self, owner: str, licence: str) -> bool:
        return await self._database.read(
            lambda connection: connection.scalar(ACCEPTED, {"owner": owner, "licence": licence}) is not None
        )

    async def revoke(self, owner: str, *, kept: timedelta) -> str:
        """Return a new mark: from now on only cookies that carry it are valid for the owner.

        Removes marks that are older than browsers have `kept` any cookie.
        """

        def work(connection: Connection) -> str:
            now, mark = self._now(), secrets.token_hex(8)
            gone = (revocations.c.owner == owner) | (revocations.c.revoked_at < now - kept)
            connection.execute(delete(revocations).where(gone))
            connection.execute(insert(revocations), {"owner": owner, "mark": mark, "revoked_at": now})
            return mark

        return await self._database.write(work, makes_room=True)

    async def marks(self) -> dict[str, str]:
        """The mark of valid cookies, for each owner who has revoked cookies."""

        def work(connection: Connection) -> dict[str, str]:
            rows = (checked(revocations, row) for row in connection.execute(select(revocations)))
            return {row.owner: row.mark for row in rows}

        return await self._database.read(work)

    async def erase(self, owner: str) -> bool:
        """Remove an owner's acceptances, and give the conversations to nobody, where a purge finds them.

        Returns whether there was anything.
        """

        def work(connection: Connection) -> bool:
            theirs = conversations.c.owner == owner
            taken = update(conversations).where(theirs).values(owner=NOBODY, deleted_at=self._now())
            accepted = delete(acceptances).where(acceptances.c.owner == owner)
            return sum(connection.execute(each).rowcount for each in (taken, accepted)) > 0

        return await self._database.write(work, makes_room=True)
