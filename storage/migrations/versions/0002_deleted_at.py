"""When a conversation was deleted: for a while it can be brought back."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

DELETED = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("conversation", sa.Column("deleted_at", sa.DateTime))
    op.create_index(
        "ix_conversation_deleted",
        "conversation",
        ["deleted_at"],
        sqlite_where=DELETED,
        postgresql_where=DELETED,
    )
