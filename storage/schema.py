"""The tables.

Rows never leave this folder: `rows.py` turns them into the frozen values of `assistant.conversation`. Ids are
UUIDv7 made by the server. Messages are ordered by their `position` within the conversation and not by their
ids, so that a clock set back cannot reorder a chat.

There are no mapped classes: a question is stored and answered in a few statements, and to follow objects
through a unit of work costs several times as much.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Column, DateTime, ForeignKey, String, Text

RUNNING = sa.text("status IN ('pending', 'streaming')")
DELETED = sa.text("deleted_at IS NOT NULL")
AT_SITE = sa.text("site IS NOT NULL")


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware UTC datetime, kept without its zone where the database has none."""

    impl = DateTime
    cache_ok = True
    python_type = datetime

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = sa.MetaData()

conversations = sa.Table(
    "conversation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("site", String(64)),  # the key of the site whose widget it began in; None: the chat itself
    Column("title", String(200), nullable=False),
    Column("model", String(300)),
    # No foreign key: it would make a cycle with message.conversation_id, and one transaction sets both.
    Column("active_leaf_id", String(36)),
    Column("grounding", sa.Boolean, nullable=False, server_default=sa.true()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),  # gone, but not yet for good
    sa.Index("ix_conversation_owner_updated", "owner", "updated_at", "id"),
    sa.Index("ix_conversation_deleted", "deleted_at", sqlite_where=DELETED, postgresql_where=DELETED),
    sa.Index("ix_conversation_site", "site", "updated_at", sqlite_where=AT_SITE, postgresql_where=AT_SITE),
)

messages = sa.Table(
    "message",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("conversation_id", String(36), ForeignKey("conversation.id", ondelete="CASCADE"), nullable=False),
    Column("parent_id", String(36), ForeignKey("message.id", ondelete="CASCADE")),
    Column("position", sa.Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("finish_reason", String(16)),
    Column("failure_type", String(64)),
    Column("failure_message", Text),
    Column("provenance", sa.JSON, nullable=False),
    Column("sources", sa.JSON(none_as_null=True)),  # of a reply: the passages it cites
    # Of a user's message: the caller's own id for it, and a digest of what came with it.
    Column("client_id", String(200)),
    Column("client_digest", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    # The lease of a running reply: which process runs it, until when, and whether somebody wants it stopped.
    Column("process", String(32)),
    Column("lease_until", UtcDateTime),
    Column("is_stop_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("conversation_id", "client_id", name="uq_message_client"),
    sa.UniqueConstraint("conversation_id", "position", name="uq_message_position"),
    # At most one reply of a conversation runs at a time, whoever asks.
    sa.Index(
        "uq_message_running", "conversation_id", unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING
    ),
    sa.Index("ix_message_parent", "parent_id"),
)

# What its owner says of a reply.
feedback = sa.Table(
    "feedback",
    metadata,
    Column("reply_id", String(36), ForeignKey("message.id", ondelete="CASCADE"), primary_key=True),
    Column("rating", String(4), nullable=False),
    Column("text", Text),
    Column("given_at", UtcDateTime, nullable=False),
)

# The licences of models whose terms a person has accepted.
acceptances = sa.Table(
    "acceptance",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("licence", String(100), primary_key=True),
    Column("accepted_at", UtcDateTime, nullable=False),
)

# The owners who revoked their cookies, and the mark that their cookies have since.
revocations = sa.Table(
    "revocation",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("mark", String(16), nullable=False),
    Column("revoked_at", UtcDateTime, nullable=False),
)

# The JWTs with which sites have named their users, each until it ends: none may be used twice.
used_identities = sa.Table(
    "used_identity",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("ends_at", UtcDateTime, nullable=False),
)

# People who sign in. Their chats belong to `owner`, a random id that no cookie of a visitor has.
accounts = sa.Table(
    "account",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False, unique=True),
    Column("provider", String(200), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("name", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("signed_in_at", UtcDateTime),  # the last time
    sa.UniqueConstraint("provider", "subject", name="uq_account_subject"),
)

# Where accounts are signed in. The browser has a secret, of which only the digest is stored.
sessions = sa.Table(
    "session",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),  # for lists of sessions
    Column("account_id", String(36), ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
    Column("credential", String(64), nullable=False),  # a digest of the password's hash, else empty
    Column("user_agent", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    sa.Index("ix_session_account", "account_id"),
)

# The keys with which programs act for an owner. Only their digests are stored.
keys = sa.Table(
    "personal_key",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(100), nullable=False),
    Column("scopes", String(100), nullable=False),  # separated by blanks
    Column("created_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    Column("ends_at", UtcDateTime),
    sa.Index("ix_personal_key_owner", "owner"),
)

# The audit log, to which triggers let entries only be added (see the migration).
audit = sa.Table(
    "audit",
    metadata,
    Column("id", sa.Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("event", String(40), nullable=False),
    Column("who", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("detail", sa.JSON, nullable=False),
)

# The journal: the text of running replies as appended pieces, removed when folded.
pieces = sa.Table(
    "piece",
    metadata,
    Column("reply_id", String(36), ForeignKey("message.id", ondelete="CASCADE"), primary_key=True),
    Column("start", sa.Integer, primary_key=True, autoincrement=False),  # in code points
    Column("text", Text, nullable=False),
)
