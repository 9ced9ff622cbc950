"""Which process runs a reply, and how a reply ends.

A running reply carries a lease: the id of the process that runs it, and until when. The process renews its
leases while it lives. A reply whose lease has run out has lost its process: any other process may settle it
as interrupted. Whoever wants to stop a reply that another process runs requests it here, and that process
sees the request at its next look.

SQLite's file belongs to one process at a time (`Database.is_shared` is false), so a lease of any other
process has run out, whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)

from assistant.conversation import Failure, FinishReason, Source, Status
from assistant.provenance import Provenance
from storage.database import Database
from storage.rows import journalled, stored_sources
from storage.schema import RUNNING, conversations, messages, pieces

LEASE = timedelta(seconds=30)  # how long a lease lasts that is not renewed

_mine = messages.c.process == bindparam("runner")
FOLD = (
    update(messages)
    .where(messages.c.id == bindparam("reply"), RUNNING, _mine)
    .values(
        content=bindparam("text"),
        status=bindparam("outcome"),
        finish_reason=bindparam("reason"),
        failure_type=bindparam("type"),
        failure_message=bindparam("sentence"),
        provenance=bindparam("origin"),
        sources=bindparam("cited", type_=messages.c.sources.type),
    )
)
CLEAR_JOURNAL = delete(pieces).where(pieces.c.reply_id == bindparam("reply"))
_now = bindparam("now", type_=conversations.c.updated_at.type)
ANSWERED = (
    update(conversations)
    .where(
        conversations.c.id
        == select(messages.c.conversation_id).where(messages.c.id == bindparam("reply")).scalar_subquery()
    )
    .values(
        # Never back, even when the clock was set back: pages of the list would repeat it.
        updated_at=case((conversations.c.updated_at > _now, conversations.c.updated_at), else_=_now),
        model=func.coalesce(bindparam("new_model"), conversations.c.model),
    )
)
LEASES = select(messages.c.id, messages.c.is_stop_requested).where(RUNNING, _mine)
RENEW = (
    update(messages)
    .where(RUNNING, _mine)
    .values(lease_until=bindparam("until", type_=messages.c.lease_until.type))
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended."""

    status: Status
    finish_reason: FinishReason | None = None
    failure: Failure | None = None
    provenance: Provenance = field(default_factory=Provenance)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Running:
    """The running replies of all processes, as the database has them. `process` runs this one's."""

    def __init__(
        self, database: Database, *, process: str | None = None, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._process = process or database.process
        self._now = now

    async def leases(self) -> Mapping[str, bool]:
        """The replies that this process runs, and whether somebody has requested to stop them."""
        mine = {"runner": self._process}
        rows = await self._database.read(lambda connection: connection.execute(LEASES, mine).all())
        return {row.id: row.is_stop_requested for row in rows}

    async def renew(self) -> None:
        """Extend the leases of this process."""
        until = {"runner": self._process, "until": self._now() + LEASE}
        await self._database.execute(lambda connection: connection.execute(RENEW, until))

    async def is_held(self, reply_id: str) -> bool:
        """Whether another process runs a reply now."""
        if not self._database.is_shared:
            return False
        held = select(messages.c.id).where(messages.c.id == reply_id, RUNNING, ~self._has_run_out())
        others = held.where(messages.c.process != self._process)
        return await self._database.read(lambda connection: connection.scalar(others) is not None)

    async def request_stop(self, *, reply_id: str | None = None, conversation_id: str | None = None) -> None:
        """Ask the process that runs a reply, or the reply of a conversation, to stop it."""
        if not self._database.is_shared:
            return
        which = messages.c.id == reply_id if reply_id else messages.c.conversation_id == conversation_id
        stop = update(messages).where(which, RUNNING).values(is_stop_requested=True)
        await self._database.write(lambda connection: connection.execute(stop), makes_room=True)

    async def settle_abandoned(self) -> int:
        """Settle as interrupted, with its text kept, every reply that has lost its process. Returns how many.

        Raises `DatabaseUnavailable`; a later call settles them then.
        """
        abandoned = select(messages.c.id).where(RUNNING, self._has_run_out())

        def settle(connection: Connection) -> int:
            lost = connection.scalars(abandoned).all()
            for reply_id in lost:
                text = journalled(connection, reply_id)
                settled = update(messages).where(messages.c.id == reply_id)
                connection.execute(settled.values(content=text, status=Status.INTERRUPTED))
                connection.execute(CLEAR_JOURNAL, {"reply": reply_id})
            return len(lost)

        if not await self._database.read(lambda connection: connection.scalars(abandoned).all()):
            return 0
        return await self._database.write(settle, makes_room=True)

    def _has_run_out(self) -> ColumnElement[bool]:
        """Whether the process of a running reply is not this one, and lives no longer."""
        others = messages.c.process.is_distinct_from(self._process)
        until = messages.c.lease_until
        if not self._database.is_shared:
            return others
        return and_(others, or_(until.is_(None), until < self._now()))


def lease(process: str, now: datetime) -> dict[str, Any]:
    """The lease of a new reply, as columns of its message."""
    return {"process": process, "lease_until": now + LEASE}


def fold(
    connection: Connection,
    reply_id: str,
    text: str,
    sources: Sequence[Source],
    outcome: Outcome,
    *,
    process: str,
    now: datetime,
) -> bool:
    """Turn a running reply of `process` into its final message, and clear its journal. False, and nothing is
    changed, if it was removed, or another process has settled it."""
    failure = outcome.failure
    folded = {
        "reply": reply_id,
        "runner": process,
        "text": text,
        "outcome": outcome.status,
        "reason": outcome.finish_reason,
        "type": failure and failure.type,
        "sentence": failure and failure.message,
        "origin": outcome.provenance.as_json(),
        "cited": stored_sources(sources),
    }
    if not connection.execute(FOLD, folded).rowcount:
        return False
    connection.execute(CLEAR_JOURNAL, {"reply": reply_id})
    connection.execute(ANSWERED, {"reply": reply_id, "now": now, "new_model": outcome.provenance.model})
    return True
