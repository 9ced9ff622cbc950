"""Rows become values here, and values become columns. A row that damage has changed raises an error."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam, select

from assistant.conversation import (
    Conversation,
    Failure,
    Feedback,
    FinishReason,
    Message,
    Rating,
    Role,
    Source,
    Status,
)
from assistant.provenance import Provenance
from storage.schema import acceptances, conversations, feedback, messages, pieces, revocations

MOST_CHARACTERS = 1 << 18  # of text that is read or removed at once; the last message may exceed it

# What each column of a table holds, in their order.
TYPES = {
    table: [
        column.type.python_type | None if column.nullable else column.type.python_type for column in table.c
    ]
    for table in (conversations, messages, acceptances, revocations)
}
CONVERSATION_FIELDS = [field.name for field in fields(Conversation)]  # each has a column of its name
# A message, and the feedback on it.
MESSAGE = select(messages, feedback.c.rating, feedback.c.text, feedback.c.given_at).outerjoin(
    feedback, feedback.c.reply_id == messages.c.id
)
JOURNALLED = select(pieces.c.text).where(pieces.c.reply_id == bindparam("id")).order_by(pieces.c.start)


def checked(table: Table, row: Row[Any]) -> Row[Any]:
    """A row that begins with all of a table's columns. Raises `TypeError` where a value has not the type of
    its column: SQLite enforces no types, so a damaged file can hold anything.
    """
    if not all(map(isinstance, row, TYPES[table])):
        raise TypeError
    return row


def conversation_of(row: Row[Any]) -> Conversation:
    checked(conversations, row)
    return Conversation(**{name: getattr(row, name) for name in CONVERSATION_FIELDS})


def message_of(connection: Connection, row: Row[Any]) -> Message:
    """A message with its text and the feedback on it, from a row of `MESSAGE`. The text of a running reply is
    in the journal."""
    checked(messages, row)
    status = Status(row.status)
    provenance = Provenance.from_json(row.provenance)
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        parent_id=row.parent_id,
        position=row.position,
        role=Role(row.role),
        content=row.content if status.is_final else journalled(connection, row.id),
        status=status,
        created_at=row.created_at,
        finish_reason=None if row.finish_reason is None else FinishReason(row.finish_reason),
        failure=None if row.failure_type is None else Failure(row.failure_type, row.failure_message or ""),
        provenance=provenance,
        sources=sources_of(row, provenance),
        feedback=None if row.rating is None else feedback_of(row),
    )


def sources_of(row: Row[Any], provenance: Provenance) -> tuple[Source, ...]:
    # An older release did not store which sources are cited. All those of a quotation are.
    older = {"cited": provenance.model == "documentation"}
    return tuple(Source(**{**older, **source}) for source in row.sources or ())


def feedback_of(row: Row[Any]) -> Feedback:
    """Raises `TypeError` or `ValueError` where damage has changed it."""
    if not isinstance(row.text, str | None) or not isinstance(row.given_at, datetime):
        raise TypeError
    return Feedback(Rating(row.rating), row.text, row.given_at)


def messages_of(connection: Connection, statement: Select[Any], page: Mapping[str, Any]) -> list[Message]:
    """The messages of a page, up to `MOST_CHARACTERS` of text."""
    read: list[Message] = []
    length = 0
    with contextlib.closing(connection.execute(statement, page)) as rows:
        for row in rows:
            read.append(message_of(connection, row))
            length += len(read[-1].content)
            if length > MOST_CHARACTERS:
                break
    return read


def journalled(connection: Connection, reply_id: str) -> str:
    """The text of a running reply that is committed."""
    return "".join(connection.scalars(JOURNALLED, {"id": reply_id}))


def stored_sources(sources: Sequence[Source]) -> list[dict[str, str | bool]] | None:
    """Sources as their column keeps them."""
    return [asdict(source) for source in sources] or None
