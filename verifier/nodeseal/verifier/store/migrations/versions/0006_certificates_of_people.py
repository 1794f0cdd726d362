"""When the certificate of a person ends, and the one that they renewed it to and have not used yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_YEAR = 365 * 24 * 3600 * 1_000_000
"""Microseconds for which older versions made certificates of people."""


def upgrade() -> None:
    """Add the columns; certificates that exist were made when their person was added."""
    op.add_column("persons", sa.Column("expires", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("persons", sa.Column("next_certificate_sha256", sa.LargeBinary(32)))
    op.add_column("persons", sa.Column("next_expires", sa.BigInteger))
    op.execute(f"UPDATE persons SET expires = added + {_YEAR}")  # noqa: S608 - a number of our own
