"""Rules, SSH keys of people, proposals with their approvals, and suspensions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Databases of earlier releases have no rules: they are under the rule solo."""
    for table in ("persons", "model_keys"):
        op.add_column(table, sa.Column("suspended", sa.BigInteger))
        op.add_column(table, sa.Column("suspended_until", sa.BigInteger))
        op.add_column(table, sa.Column("suspended_by", sa.String(128)))
    op.create_table(
        "person_keys",
        sa.Column("blob", sa.LargeBinary, primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("in_token", sa.Boolean, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rules",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "proposals",
        sa.Column("proposal", sa.String(64), primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("attachment", sa.LargeBinary, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("settled", sa.BigInteger),
        sa.Column("result", sa.LargeBinary),
    )
    op.create_index("proposals_by_outcome", "proposals", ["outcome"])
    op.create_table(
        "approvals",
        sa.Column("proposal", sa.String(64), sa.ForeignKey("proposals.proposal"), primary_key=True),
        sa.Column("person", sa.String(63), primary_key=True),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
