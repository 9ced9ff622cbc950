"""The audit log: who signed in, deleted, exported, used a key or changed a setting. Entries are only added.

The database itself refuses to change an entry, and to remove one that is younger than `KEPT`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.database import Database
from storage.running import utc_now
from storage.schema import audit

KEPT = timedelta(days=400)
MOST_ENTRIES = 500  # that one call reads
LONGEST = 255  # characters of a name, as the column has

ADD = sa.insert(audit)
EXPIRE = sa.delete(audit).where(audit.c.at < bindparam("before", type_=audit.c.at.type))
READ = (
    sa.select(audit)
    .where(audit.c.id < bindparam("before"))
    .order_by(audit.c.id.desc())
    .limit(bindparam("limit", type_=sa.Integer))
)
LAST = 2**62  # above every id


class AuditEvent(enum.StrEnum):
    SIGNED_IN = "signed_in"
    SIGN_IN_REFUSED = "sign_in_refused"
    SIGNED_OUT = "signed_out"
    SESSIONS_ENDED = "sessions_ended"
    CHATS_TAKEN_OVER = "chats_taken_over"
    KEY_MADE = "key_made"
    KEY_USED = "key_used"  # the first time in an hour
    KEY_REVOKED = "key_revoked"
    EXPORTED = "exported"
    DELETED = "deleted"  # a conversation
    ERASED = "erased"  # everything of an owner
    SETTING_CHANGED = "setting_changed"
    AUDIT_EXPORTED = "audit_exported"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    id: int
    at: datetime
    event: str
    who: str  # the name of an account; for others, a short digest of the owner
    address: str
    detail: Mapping[str, Any]


class AuditStore:
    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def record(self, event: AuditEvent, who: str, address: str = "", **detail: Any) -> None:
        """Add an entry. `detail` holds short JSON values and no text that people have written."""

        def work(connection: Connection) -> None:
            new = {"at": self._now(), "event": event, "who": who[:LONGEST], "address": address}
            connection.execute(ADD, {**new, "detail": detail})

        await self._database.write(work)

    async def entries(self, *, before: int | None = None, limit: int = MOST_ENTRIES) -> Sequence[AuditEntry]:
        """The newest entries first; `before` is the id of an entry that a caller has read before."""

        def work(connection: Connection) -> Sequence[AuditEntry]:
            limits = {"before": LAST if before is None else before, "limit": min(limit, MOST_ENTRIES)}
            rows = connection.execute(READ, limits)
            return [AuditEntry(row.id, row.at, row.event, row.who, row.address, row.detail) for row in rows]

        return await self._database.read(work)

    async def expire(self) -> None:
        """Remove entries that are older than `KEPT`."""
        old = {"before": self._now() - KEPT}
        await self._database.write(lambda connection: connection.execute(EXPIRE, old), makes_room=True)
