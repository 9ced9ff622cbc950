"""What readers say of answers, and an index by which the report of a site finds its conversations."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

OF_SITE = sa.text("site IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column(
            "reply_id", sa.String(36), sa.ForeignKey("message.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("rating", sa.String(4), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("given_at", sa.DateTime, nullable=False),
    )
    op.create_index(
        "ix_conversation_site",
        "conversation",
        ["site", "updated_at"],
        sqlite_where=OF_SITE,
        postgresql_where=OF_SITE,
    )
