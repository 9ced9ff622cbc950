"""Which process runs a reply, until when, and whether it shall stop.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("message", sa.Column("process", sa.String(32)))
    op.add_column("message", sa.Column("lease_until", sa.DateTime))
    op.add_column(
        "message", sa.Column("is_stop_requested", sa.Boolean, nullable=False, server_default=sa.false())
    )
