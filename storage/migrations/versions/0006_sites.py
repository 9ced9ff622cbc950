"""The chats of a site, by the time of their last question; and the JWTs of its users that were used."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    at_site = sa.text("site IS NOT NULL")
    op.create_index(
        "ix_conversation_site", "conversation", ["site", "updated_at"],
        sqlite_where=at_site, postgresql_where=at_site,
    )  # fmt: skip
    op.create_table(
        "used_identity",
        sa.Column("site", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("ends_at", sa.DateTime, nullable=False),
    )
