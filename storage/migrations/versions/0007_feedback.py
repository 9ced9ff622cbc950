"""What people say of answers."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


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
