"""Acts with their subjects and documents, goldens that a node matched, silence of keys, causes of ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the ledger. The audit log that exists stays as it is: it is closed."""
    op.create_table(
        "acts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("salt", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("mac", sa.LargeBinary(32), nullable=False),
        sa.Column("leaf_index", sa.Integer, unique=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "act_subjects",
        sa.Column("subject", sa.String(160), primary_key=True),
        sa.Column("act_id", sa.Integer, sa.ForeignKey("acts.id"), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "versions",
        sa.Column("subject", sa.String(160), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "documents",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.add_column("nodes", sa.Column("goldens", sa.Text, nullable=False, server_default="[]"))
    op.add_column("model_keys", sa.Column("silence_seconds", sa.Integer, nullable=False, server_default="0"))
    op.add_column("leases", sa.Column("cause", sa.String(16)))
    op.add_column("leases", sa.Column("silence_seconds", sa.Integer, nullable=False, server_default="0"))
