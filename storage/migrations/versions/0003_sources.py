"""The sources of an answer, whether a conversation wants them, and the licences that owners have accepted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("message", sa.Column("sources", sa.JSON))
    op.add_column(
        "conversation", sa.Column("grounding", sa.Boolean, nullable=False, server_default=sa.true())
    )
    op.create_table(
        "acceptance",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("licence", sa.String(100), primary_key=True),
        sa.Column("accepted_at", sa.DateTime, nullable=False),
    )
