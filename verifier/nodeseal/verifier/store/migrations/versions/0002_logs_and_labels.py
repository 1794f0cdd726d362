"""What goldens select nodes by, and how far a node's IMA log was judged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; of nodes that enrolled before, nothing is known until they enrol again or prove a log."""
    op.add_column("nodes", sa.Column("certified_manufacturer", sa.String(16), nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("ek_algorithm", sa.String(16), nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("labels", sa.Text, nullable=False, server_default="{}"))
    op.add_column("nodes", sa.Column("ima_mark", sa.LargeBinary))
