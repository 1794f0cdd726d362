"""When each model was retired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; models that were registered before stay registered."""
    op.add_column("models", sa.Column("retired", sa.BigInteger))
