"""Accounts, their sessions and keys, and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# 400 days, as `storage.audit.KEPT`. Times are stored as text, which sorts as they do.
YOUNG = "OLD.at > strftime('%Y-%m-%d %H:%M:%f', 'now', '-400 days')"


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False, unique=True),
        sa.Column("provider", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("signed_in_at", sa.DateTime),
        sa.UniqueConstraint("provider", "subject", name="uq_account_subject"),
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column(
            "account_id", sa.String(36), sa.ForeignKey("account.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("credential", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.String(200), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        sa.Column("ends_at", sa.DateTime, nullable=False),
    )
    op.create_index("ix_session_account", "session", ["account_id"])
    op.create_table(
        "personal_key",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("used_at", sa.DateTime),
        sa.Column("ends_at", sa.DateTime),
    )
    op.create_index("ix_personal_key_owner", "personal_key", ["owner"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.execute(
        "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END"
    )
    op.execute(
        f"CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit WHEN {YOUNG} "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END"
    )
