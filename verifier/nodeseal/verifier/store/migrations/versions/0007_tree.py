"""The tree over the log: its tiles, and the last checkpoint of each log that this database has been."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; ``nodeseal-verifier upgrade`` then builds the tree of the acts that are there."""
    op.create_table(
        "tiles",
        sa.Column("first", sa.Integer, primary_key=True),
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("first", sa.Integer, primary_key=True),
        sa.Column("note", sa.LargeBinary, nullable=False),
    )
