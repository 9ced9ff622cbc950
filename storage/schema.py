"""The tables, as SQLAlchemy rows.

Rows never leave this folder: `store.py` turns them into the frozen values of `assistant.conversation`.
Ids are UUIDv7 made by the server; nothing is ordered by them: messages carry a `position` within their
conversation, so that a clock set back cannot reorder a chat.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String, Text, TypeDecorator, UniqueConstraint, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

RUNNING = text("status IN ('pending', 'streaming')")
DELETED = text("deleted_at IS NOT NULL")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, kept without its zone where the database has none."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    pass


class ConversationRow(Base):
    __tablename__ = "conversation"
    __table_args__ = (
        Index("ix_conversation_owner_updated", "owner", "updated_at", "id"),
        Index("ix_conversation_deleted", "deleted_at", sqlite_where=DELETED, postgresql_where=DELETED),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    site: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(200))
    model: Mapped[str | None] = mapped_column(String(300))
    # No foreign key: it would make a cycle with message.conversation_id, and one transaction sets both.
    active_leaf_id: Mapped[str | None] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # gone, but not yet for good


class MessageRow(Base):
    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("conversation_id", "client_id", name="uq_message_client"),
        UniqueConstraint("conversation_id", "position", name="uq_message_position"),
        # At most one reply of a conversation runs at a time, whoever asks.
        Index(
            "uq_message_running",
            "conversation_id",
            unique=True,
            sqlite_where=RUNNING,
            postgresql_where=RUNNING,
        ),
        Index("ix_message_parent", "parent_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"))
    position: Mapped[int]
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    finish_reason: Mapped[str | None] = mapped_column(String(16))
    failure_type: Mapped[str | None] = mapped_column(String(64))
    failure_message: Mapped[str | None] = mapped_column(Text)
    provenance: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Of a user's message: the caller's own id for it, and a digest of what came with it.
    client_id: Mapped[str | None] = mapped_column(String(200))
    client_digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PieceRow(Base):
    """The journal: the text of running replies as appended pieces, removed when folded."""

    __tablename__ = "piece"

    reply_id: Mapped[str] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # in code points
    text: Mapped[str] = mapped_column(Text)
