"""Conversations, the message tree and the journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

RUNNING = sa.text("status IN ('pending', 'streaming')")


def upgrade() -> None:
    op.create_table(
        "conversation",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("site", sa.String(64)),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("model", sa.String(300)),
        sa.Column("active_leaf_id", sa.String(36)),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_conversation_owner_updated", "conversation", ["owner", "updated_at", "id"])
    op.create_table(
        "message",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column(
            "conversation_id",
            sa.String(36),
            sa.ForeignKey("conversation.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("parent_id", sa.String(36), sa.ForeignKey("message.id", ondelete="CASCADE")),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("finish_reason", sa.String(16)),
        sa.Column("failure_type", sa.String(64)),
        sa.Column("failure_message", sa.Text),
        sa.Column("provenance", sa.JSON, nullable=False),
        sa.Column("client_id", sa.String(200)),
        sa.Column("client_digest", sa.String(64)),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.UniqueConstraint("conversation_id", "client_id", name="uq_message_client"),
        sa.UniqueConstraint("conversation_id", "position", name="uq_message_position"),
    )
    op.create_index(
        "uq_message_running",
        "message",
        ["conversation_id"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )
    op.create_index("ix_message_parent", "message", ["parent_id"])
    op.create_table(
        "piece",
        sa.Column(
            "reply_id", sa.String(36), sa.ForeignKey("message.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("start", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
    )
