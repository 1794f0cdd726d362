"""Where the private half of each model key is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; keys that were made before are in files."""
    op.add_column("model_keys", sa.Column("place", sa.Text, nullable=False, server_default="file"))
