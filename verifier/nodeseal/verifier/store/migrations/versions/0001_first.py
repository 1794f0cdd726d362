"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _people_and_audit()
    _nodes()
    _policy()
    _leases()


def _people_and_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "persons",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("roles", sa.String(64), nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.BigInteger),
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.String(28), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("findings", sa.LargeBinary, nullable=False),
        sa.Column("ek_name", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("ak_name", sa.LargeBinary, nullable=False),
        sa.Column("ak_public", sa.LargeBinary, nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("next_certificate_sha256", sa.LargeBinary(32)),
        sa.Column("hostname", sa.String(253), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("tpm_manufacturer", sa.String(64), nullable=False),
        sa.Column("tpm_firmware", sa.String(64), nullable=False),
        sa.Column("enrolled", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger),
        sa.Column("trusted_until", sa.BigInteger),
        sa.Column("clock", sa.LargeBinary),
    )


def _policy() -> None:
    op.create_table(
        "goldens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("activated", sa.BigInteger, nullable=False),
        sa.Column("retired", sa.BigInteger),
    )
    op.create_table(
        "model_keys",
        sa.Column("key_id", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("suite", sa.String(64), nullable=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("revoked", sa.BigInteger),
    )
    op.create_table(
        "grants",
        sa.Column("key_id", sa.String(63), sa.ForeignKey("model_keys.key_id"), primary_key=True),
        sa.Column("node_id", sa.String(28), sa.ForeignKey("nodes.node_id"), primary_key=True),
        sa.Column("max_leases", sa.Integer, nullable=False),
    )


def _leases() -> None:
    op.create_table(
        "models",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("model_id", sa.String(63), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("registered", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("model_id", "version"),
    )
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.String(28), primary_key=True),
        sa.Column("node_id", sa.String(28), sa.ForeignKey("nodes.node_id"), nullable=False),
        sa.Column("key_id", sa.String(63), sa.ForeignKey("model_keys.key_id"), nullable=False),
        sa.Column("model_digest", sa.String(64), sa.ForeignKey("models.digest"), nullable=False),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("end_reason", sa.Text),
    )
    op.create_index("leases_of_node", "leases", ["node_id", "ended"])
