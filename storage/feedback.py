"""What people say of answers: thumb up or down, and a few words. One row a reply, which goes with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from assistant.conversation import Rating
from storage.database import Database, leave_traces
from storage.running import utc_now
from storage.schema import feedback
from storage.store import owned_reply

REMOVE = sa.delete(feedback).where(feedback.c.reply_id == bindparam("id")).returning(feedback.c.text)
ADD = sa.insert(feedback)


class FeedbackStore:
    """The feedback on the replies of every owner, in one database."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def give(self, owner: str, reply_id: str, rating: Rating | None, text: str | None = None) -> None:
        """Replace what an owner has said of a reply, or take it back without a `rating`.

        Raises `NotFound`.
        """

        def work(connection: Connection) -> None:
            owned_reply(connection, owner, reply_id)
            if connection.scalar(REMOVE, {"id": reply_id}) is not None:
                leave_traces(connection)
            if rating is not None:
                new = {"reply_id": reply_id, "rating": rating, "text": text, "given_at": self._now()}
                connection.execute(ADD, new)

        await self._database.write(work, makes_room=rating is None)
