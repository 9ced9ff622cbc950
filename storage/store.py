"""Chats in SQL: one method, one transaction.

Every method that serves a person takes the owner and touches nothing of another's: what is not theirs
raises `NotFound`, as if it did not exist. Values come out frozen (`assistant.conversation`); rows never do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import uuid_utils
from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from assistant.conversation import Conversation, Failure, FinishReason, Message, Role, Status, Turn
from storage.database import Database
from storage.errors import ClientIdReused, NotFound, StillAnswering, UnknownMessage, UnknownParent
from storage.schema import ConversationRow, MessageRow, PieceRow

RUNNING = (Status.PENDING, Status.STREAMING)


@dataclass(frozen=True, slots=True)
class Asked:
    """The ids that a question got: of the question itself and of the reply to it.

    `is_new` is false when the same `client_id` had been stored before and nothing was added.
    """

    message_id: str
    reply_id: str
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Latest:
    """In the place of a parent's id: the active leaf of the conversation."""


LATEST = Latest()


class BadCursor(ValueError):
    """A page cursor that this store did not give out."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class ConversationStore:
    """The conversations of every owner, in one database."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def check(self) -> None:
        """Raises `DatabaseUnavailable` when the database cannot be read."""
        await self._database.read(lambda session: session.execute(select(1)).scalar_one())

    # Conversations

    async def create_conversation(self, owner: str, title: str = "") -> Conversation:
        def work(session: Session) -> Conversation:
            now = self._now()
            row = ConversationRow(id=_new_id(), owner=owner, title=title, created_at=now, updated_at=now)
            session.add(row)
            session.flush()
            return _conversation(row)

        return await self._database.write(work)

    async def conversations(
        self, owner: str, *, limit: int, cursor: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """A page, newest update first, and the cursor of the next page. Raises `BadCursor`."""
        after = None if cursor is None else _read_cursor(cursor)

        def work(session: Session) -> tuple[list[Conversation], str | None]:
            order = (ConversationRow.updated_at, ConversationRow.id)
            query = select(ConversationRow).where(
                ConversationRow.owner == owner, ConversationRow.deleted_at.is_(None)
            )
            if after is not None:
                query = query.where(tuple_(*order) < after)
            rows = session.scalars(query.order_by(*(c.desc() for c in order)).limit(limit + 1)).all()
            page = [_conversation(row) for row in rows[:limit]]
            return page, _write_cursor(page[-1]) if len(rows) > limit else None

        return await self._database.read(work)

    async def conversation(self, owner: str, conversation_id: str) -> tuple[Conversation, Sequence[Message]]:
        """A conversation with all its messages in the order in which they were stored."""

        def work(session: Session) -> tuple[Conversation, Sequence[Message]]:
            conversation = _owned(session, owner, conversation_id)
            rows = session.scalars(
                select(MessageRow)
                .where(MessageRow.conversation_id == conversation_id)
                .order_by(MessageRow.position)
            ).all()
            return _conversation(conversation), [_message(session, row) for row in rows]

        return await self._database.read(work)

    async def change(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        active_leaf_id: str | None = None,
    ) -> Conversation:
        """Change what is given. It stays where it is in the list, whose order is that of questions and
        answers. Raises `NotFound` and `UnknownMessage`."""

        def work(session: Session) -> Conversation:
            row = _owned(session, owner, conversation_id)
            if active_leaf_id is not None:
                if _in_conversation(session, conversation_id, active_leaf_id) is None:
                    raise UnknownMessage("The message is not one of this conversation.")
                row.active_leaf_id = active_leaf_id
            row.title = title or row.title
            return _conversation(row)

        return await self._database.write(work)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """From now on it is not there; `restore` brings it back until `purge` takes it away for good."""

        def work(session: Session) -> None:
            _owned(session, owner, conversation_id).deleted_at = self._now()

        await self._database.write(work, makes_room=True)

    async def restore(self, owner: str, conversation_id: str) -> Conversation:
        """Bring a deleted conversation back; one that was not deleted stays as it is."""

        def work(session: Session) -> Conversation:
            row = _owned(session, owner, conversation_id, or_deleted=True)
            row.deleted_at = None
            return _conversation(row)

        return await self._database.write(work)

    async def purge(self, *, older_than: timedelta) -> int:
        """Remove for good what was deleted so long ago, with all that belongs to it; returns how many."""

        def work(session: Session) -> int:
            gone = select(ConversationRow.id).where(ConversationRow.deleted_at <= self._now() - older_than)
            ids = session.scalars(gone).all()
            session.execute(delete(ConversationRow).where(ConversationRow.id.in_(ids)))
            return len(ids)

        return await self._database.write(work, makes_room=True)

    # Questions and replies

    async def ask(
        self,
        owner: str,
        conversation_id: str,
        text: str,
        *,
        parent_id: str | Latest | None = LATEST,
        client_id: str | None = None,
        title: str = "",
    ) -> Asked:
        """Store a question and the pending reply to it; `title` is for a conversation that has none.

        Raises `NotFound`, `UnknownParent`, `ClientIdReused` and `StillAnswering`; nothing is stored then.
        """

        def work(session: Session) -> Asked:
            conversation = _owned(session, owner, conversation_id)
            if earlier := _asked_before(session, conversation_id, client_id, text, parent_id):
                return earlier
            _refuse_while_answering(session, conversation_id)
            parent = conversation.active_leaf_id if isinstance(parent_id, Latest) else parent_id
            if parent is not None and _in_conversation(session, conversation_id, parent) is None:
                raise UnknownParent("The parent is not a message of this conversation.")
            question = self._add(session, conversation, parent, Role.USER, text, Status.DONE)
            question.client_id = client_id
            question.client_digest = None if client_id is None else _digest(text, parent_id)
            session.flush()  # a parent must stand before its child
            reply = self._add(session, conversation, question.id, Role.ASSISTANT, "", Status.PENDING)
            conversation.title = conversation.title or title
            session.flush()
            return Asked(question.id, reply.id)

        return await self._database.write(work)

    async def asked(
        self,
        owner: str,
        conversation_id: str,
        text: str,
        *,
        parent_id: str | Latest | None = LATEST,
        client_id: str | None = None,
    ) -> Asked | None:
        """What `ask` answered to the same `client_id` before, or None. Raises `ClientIdReused`."""

        def work(session: Session) -> Asked | None:
            _owned(session, owner, conversation_id)
            return _asked_before(session, conversation_id, client_id, text, parent_id)

        return await self._database.read(work)

    async def retry(self, owner: str, reply_id: str) -> Asked:
        """Store a pending sibling of a reply. Raises `NotFound` and `StillAnswering`."""

        def work(session: Session) -> Asked:
            row = _owned_reply(session, owner, reply_id)
            _refuse_while_answering(session, row.conversation_id)
            conversation = session.get_one(ConversationRow, row.conversation_id)
            sibling = self._add(session, conversation, row.parent_id, Role.ASSISTANT, "", Status.PENDING)
            session.flush()
            return Asked(str(row.parent_id), sibling.id)

        return await self._database.write(work)

    async def reply(self, owner: str, reply_id: str) -> Message:
        """One of the assistant's messages, with the text that is stored so far."""

        def work(session: Session) -> Message:
            return _message(session, _owned_reply(session, owner, reply_id))

        return await self._database.read(work)

    async def path(self, reply_id: str) -> list[Turn]:
        """The turns from the root of the tree to the question that `reply_id` answers."""

        def work(session: Session) -> list[Turn]:
            columns = (MessageRow.id, MessageRow.parent_id, MessageRow.role, MessageRow.content)
            branch = select(*columns).where(MessageRow.id == reply_id).cte("branch", recursive=True)
            branch = branch.union_all(select(*columns).where(MessageRow.id == branch.c.parent_id))
            rows = {row.id: row for row in session.execute(select(branch))}
            turns = []
            node = rows[reply_id].parent_id if reply_id in rows else None
            while node is not None:
                turns.append(Turn(Role(rows[node].role), rows[node].content))
                node = rows[node].parent_id
            return turns[::-1]

        return await self._database.read(work)

    async def interrupt_running(self) -> int:
        """Settle what an earlier process left unfinished, its text kept; returns how many replies."""

        def work(session: Session) -> int:
            rows = session.scalars(select(MessageRow).where(MessageRow.status.in_(RUNNING))).all()
            for row in rows:
                row.content = _journalled(session, row.id)
                row.status = Status.INTERRUPTED
            session.execute(delete(PieceRow))
            return len(rows)

        return await self._database.write(work, makes_room=True)

    def _add(
        self,
        session: Session,
        conversation: ConversationRow,
        parent_id: str | None,
        role: Role,
        content: str,
        status: Status,
    ) -> MessageRow:
        """Add a message at the end of the conversation and make it the active leaf."""
        last = session.scalar(
            select(func.max(MessageRow.position)).where(MessageRow.conversation_id == conversation.id)
        )
        now = self._now()
        row = MessageRow(
            id=_new_id(),
            conversation_id=conversation.id,
            parent_id=parent_id,
            position=0 if last is None else last + 1,
            role=role,
            content=content,
            status=status,
            provenance={},
            created_at=now,
        )
        session.add(row)
        conversation.active_leaf_id = row.id
        conversation.updated_at = now
        return row


def fold(
    session: Session,
    reply_id: str,
    content: str,
    status: Status,
    finish_reason: FinishReason | None,
    failure: Failure | None,
    provenance: dict[str, Any],
    now: datetime,
) -> None:
    """Turn a running reply into its final message and clear its journal; nothing if it was deleted."""
    row = session.get(MessageRow, reply_id)
    if row is None:
        return
    row.content, row.status, row.finish_reason, row.provenance = content, status, finish_reason, provenance
    if failure is not None:
        row.failure_type, row.failure_message = failure.type, failure.message
    session.execute(delete(PieceRow).where(PieceRow.reply_id == reply_id))
    session.execute(
        update(ConversationRow)
        .where(ConversationRow.id == row.conversation_id)
        .values(updated_at=now, model=provenance.get("model", ConversationRow.model))
    )


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _owned(
    session: Session, owner: str, conversation_id: str, *, or_deleted: bool = False
) -> ConversationRow:
    row = session.get(ConversationRow, conversation_id)
    if row is None or row.owner != owner or (row.deleted_at is not None and not or_deleted):
        raise NotFound("There is no such conversation.")
    return row


def _owned_reply(session: Session, owner: str, reply_id: str) -> MessageRow:
    row = session.scalar(
        select(MessageRow)
        .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
        .where(
            MessageRow.id == reply_id,
            MessageRow.role == Role.ASSISTANT,
            ConversationRow.owner == owner,
            ConversationRow.deleted_at.is_(None),
        )
    )
    if row is None:
        raise NotFound("There is no such reply.")
    return row


def _in_conversation(session: Session, conversation_id: str, message_id: str) -> MessageRow | None:
    row = session.get(MessageRow, message_id)
    return row if row is not None and row.conversation_id == conversation_id else None


def _refuse_while_answering(session: Session, conversation_id: str) -> None:
    running = select(MessageRow.id).where(
        MessageRow.conversation_id == conversation_id, MessageRow.status.in_(RUNNING)
    )
    if session.scalar(running) is not None:
        raise StillAnswering("This conversation is still answering. Stop the reply or wait for its end.")


def _asked_before(
    session: Session,
    conversation_id: str,
    client_id: str | None,
    text: str,
    parent_id: str | Latest | None,
) -> Asked | None:
    if client_id is None:
        return None
    question = session.scalar(
        select(MessageRow).where(
            MessageRow.conversation_id == conversation_id, MessageRow.client_id == client_id
        )
    )
    if question is None:
        return None
    if question.client_digest != _digest(text, parent_id):
        raise ClientIdReused("This client_id was used before with another message.")
    first_reply = session.scalar(
        select(MessageRow.id)
        .where(MessageRow.parent_id == question.id)
        .order_by(MessageRow.position)
        .limit(1)
    )
    return Asked(question.id, str(first_reply), is_new=False)


def _digest(text: str, parent_id: str | Latest | None) -> str:
    body = [text, "latest" if isinstance(parent_id, Latest) else [parent_id]]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _journalled(session: Session, reply_id: str) -> str:
    pieces = select(PieceRow.text).where(PieceRow.reply_id == reply_id).order_by(PieceRow.start)
    return "".join(session.scalars(pieces))


def _conversation(row: ConversationRow) -> Conversation:
    return Conversation(
        id=row.id,
        title=row.title,
        created_at=row.created_at,
        updated_at=row.updated_at,
        active_leaf_id=row.active_leaf_id,
        model=row.model,
    )


def _message(session: Session, row: MessageRow) -> Message:
    status = Status(row.status)
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        parent_id=row.parent_id,
        role=Role(row.role),
        content=row.content if status.is_final else _journalled(session, row.id),
        status=status,
        created_at=row.created_at,
        finish_reason=None if row.finish_reason is None else FinishReason(row.finish_reason),
        failure=None if row.failure_type is None else Failure(row.failure_type, row.failure_message or ""),
        provenance=row.provenance,
    )


def _write_cursor(conversation: Conversation) -> str:
    place = json.dumps([conversation.updated_at.isoformat(), conversation.id])
    return base64.urlsafe_b64encode(place.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        updated_at, conversation_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        moment = datetime.fromisoformat(updated_at)
        if moment.tzinfo is None or not isinstance(conversation_id, str):
            raise BadCursor
    except (ValueError, TypeError, binascii.Error) as error:
        raise BadCursor("The cursor is not one that this server gave out.") from error
    return moment, conversation_id
