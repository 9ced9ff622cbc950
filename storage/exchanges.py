"""What the report of a site reads: the questions of all its visitors and how they were answered.

It names no owner, so it is only for who may see the whole site: the site's owner and the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, bindparam, func, select

from assistant.conversation import Feedback, Role, Source, Status
from assistant.provenance import Provenance
from storage.database import Database
from storage.read_only import ReadOnlyDatabase
from storage.rows import feedback_of, sources_of
from storage.schema import UtcDateTime, conversations, feedback, messages

LONGEST_QUESTION = 1000  # characters of a question that are read
MOST_EXCHANGES = 20_000  # replies that are read, those of the newest conversations

_questions = messages.alias("question")
_since = bindparam("since", type_=UtcDateTime)
EXCHANGES = (
    select(
        _questions.c.id,
        func.substr(_questions.c.content, 1, LONGEST_QUESTION).label("question"),
        _questions.c.created_at,
        messages.c.status,
        messages.c.provenance,
        messages.c.sources,
        feedback.c.rating,
        feedback.c.text,
        feedback.c.given_at,
    )
    .select_from(conversations)
    .join(messages, messages.c.conversation_id == conversations.c.id)
    .join(_questions, _questions.c.id == messages.c.parent_id)
    .outerjoin(feedback, feedback.c.reply_id == messages.c.id)
    .where(
        conversations.c.site == bindparam("site"),
        conversations.c.updated_at >= _since,
        conversations.c.deleted_at.is_(None),
        messages.c.role == Role.ASSISTANT,
        messages.c.status.in_([status for status in Status if status.is_final]),
        _questions.c.created_at >= _since,
    )
    .order_by(conversations.c.updated_at.desc(), conversations.c.id, messages.c.position.desc())
    .limit(bindparam("limit", type_=sa.Integer))
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The beginning of a question, and one of the replies to it, which has ended."""

    question_id: str
    question: str
    asked_at: datetime
    status: Status
    provenance: Provenance
    cited: tuple[Source, ...]  # the sources that the reply cites or quotes, without their quotes
    feedback: Feedback | None


class ExchangeStore:
    """The questions and replies of each site, in one database."""

    def __init__(self, database: Database | ReadOnlyDatabase) -> None:
        self._database = database

    async def of_site(self, site: str, *, since: datetime, limit: int = MOST_EXCHANGES) -> Sequence[Exchange]:
        """What visitors of a site have asked since then, the newest conversation and the newest reply first.
        Deleted conversations do not count."""

        def work(connection: Connection) -> Sequence[Exchange]:
            page = {"site": site, "since": since, "limit": limit}
            return [_exchange_of(row) for row in connection.execute(EXCHANGES, page)]

        return await self._database.read(work)


def _exchange_of(row: Row[*tuple[Any, ...]]) -> Exchange:
    if not isinstance(row.question, str) or not isinstance(row.created_at, datetime):
        raise TypeError  # as `rows.checked` does
    provenance = Provenance.from_json(row.provenance)
    return Exchange(
        question_id=str(row.id),
        question=row.question,
        asked_at=row.created_at,
        status=Status(row.status),
        provenance=provenance,
        cited=tuple(replace(one, quote="") for one in sources_of(row, provenance) if one.cited),
        feedback=None if row.rating is None else feedback_of(row),
    )
