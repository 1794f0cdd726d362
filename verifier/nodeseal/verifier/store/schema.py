"""The verifier's tables. Migrations under ``migrations/`` make them; a test compares both.

Times are microseconds since 1970 (UTC). Documents are stored as the exact bytes that arrived. Rows that ended (retired,
revoked, removed) stay with the time of their end, until the same golden or person is added again. Grants are deleted
when they are withdrawn. Acts and their documents are never deleted; they say who did it, and when.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from nodeseal.documents import EPOCH
from nodeseal.verifier.states import NodeState


class Instant(sa.TypeDecorator[datetime]):
    """A point in time as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        """Store."""
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's
        """Load."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


def _state() -> sa.Enum:
    return sa.Enum(
        NodeState, native_enum=False, length=16, values_callable=lambda members: [member.value for member in members]
    )


METADATA: Final = sa.MetaData()

AUDIT: Final = sa.Table(
    "audit",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

"""The log of the releases before 0.2. It is closed: nothing is added to it."""

ACTS: Final = sa.Table(
    "acts",
    METADATA,
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
"""Acts in the order in which they were written. The sequencer gives each its index in the log."""

ACT_SUBJECTS: Final = sa.Table(
    "act_subjects",
    METADATA,
    sa.Column("subject", sa.String(160), primary_key=True),
    sa.Column("act_id", sa.Integer, sa.ForeignKey("acts.id"), primary_key=True),
    sqlite_with_rowid=False,
)

VERSIONS: Final = sa.Table(
    "versions",
    METADATA,
    sa.Column("subject", sa.String(160), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The version of each subject that an act has raised."""

DOCUMENTS: Final = sa.Table(
    "documents",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""What acts name by digest: findings and labels, each once."""

TILES: Final = sa.Table(
    "tiles",
    METADATA,
    sa.Column("first", sa.Integer, primary_key=True),
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""Hashes of the trees over acts (C2SP tlog-tiles). ``first`` is the index of the act that is leaf 0 of its tree."""

CHECKPOINTS: Final = sa.Table(
    "checkpoints",
    METADATA,
    sa.Column("first", sa.Integer, primary_key=True),
    sa.Column("note", sa.LargeBinary, nullable=False),
)
"""The last checkpoint that was signed of each tree; the one with the highest ``first`` is in use."""

PERSONS: Final = sa.Table(
    "persons",
    METADATA,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("roles", sa.String(64), nullable=False),
    sa.Column("certificate_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("added", Instant, nullable=False),
    sa.Column("removed", Instant),
    sa.Column("expires", Instant, nullable=False, server_default="0"),
    sa.Column("next_certificate_sha256", sa.LargeBinary(32)),
    sa.Column("next_expires", Instant),
    sa.Column("suspended", Instant),
    sa.Column("suspended_until", Instant),
    sa.Column("suspended_by", sa.String(128)),
)

PERSON_KEYS: Final = sa.Table(
    "person_keys",
    METADATA,
    sa.Column("blob", sa.LargeBinary, primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("in_token", sa.Boolean, nullable=False),
    sa.Column("added", Instant, nullable=False),
)
"""SSH keys that approve; each belongs to one person. Keys that were removed have no row."""

RULES: Final = sa.Table(
    "rules",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("since", Instant, nullable=False),
)
"""Rules that were ever in force; the highest version is. A database without any is under the rule *solo*."""

PROPOSALS: Final = sa.Table(
    "proposals",
    METADATA,
    sa.Column("proposal", sa.String(64), primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("attachment", sa.LargeBinary, nullable=False),
    sa.Column("made", Instant, nullable=False),
    sa.Column("expires", Instant, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("settled", Instant),
    sa.Column("result", sa.LargeBinary),
    sa.Index("proposals_by_outcome", "outcome"),
)

APPROVALS: Final = sa.Table(
    "approvals",
    METADATA,
    sa.Column("proposal", sa.ForeignKey("proposals.proposal"), primary_key=True),
    sa.Column("person", sa.String(63), primary_key=True),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("at", Instant, nullable=False),
)

NODES: Final = sa.Table(
    "nodes",
    METADATA,
    sa.Column("node_id", sa.String(28), primary_key=True),
    sa.Column("state", _state(), nullable=False),
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
    sa.Column("enrolled", Instant, nullable=False),
    sa.Column("last_seen", Instant),
    sa.Column("trusted_until", Instant),
    sa.Column("clock", sa.LargeBinary),
    sa.Column("certified_manufacturer", sa.String(16), nullable=False),
    sa.Column("ek_algorithm", sa.String(16), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("ima_mark", sa.LargeBinary),
    sa.Column("goldens", sa.Text, nullable=False, server_default="[]"),
)

GOLDENS: Final = sa.Table(
    "goldens",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("activated", Instant, nullable=False),
    sa.Column("retired", Instant),
)

KEYS: Final = sa.Table(
    "model_keys",
    METADATA,
    sa.Column("key_id", sa.String(63), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("suite", sa.String(64), nullable=False),
    sa.Column("public", sa.LargeBinary, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sa.Column("revoked", Instant),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("silence_seconds", sa.Integer, nullable=False, server_default="0"),
    sa.Column("suspended", Instant),
    sa.Column("suspended_until", Instant),
    sa.Column("suspended_by", sa.String(128)),
)

GRANTS: Final = sa.Table(
    "grants",
    METADATA,
    sa.Column("key_id", sa.ForeignKey("model_keys.key_id"), primary_key=True),
    sa.Column("node_id", sa.ForeignKey("nodes.node_id"), primary_key=True),
    sa.Column("max_leases", sa.Integer, nullable=False),
)

MODELS: Final = sa.Table(
    "models",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("model_id", sa.String(63), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("registered", Instant, nullable=False),
    sa.Column("retired", Instant),
    sa.UniqueConstraint("model_id", "version"),
)

LEASES: Final = sa.Table(
    "leases",
    METADATA,
    sa.Column("lease_id", sa.String(28), primary_key=True),
    sa.Column("node_id", sa.ForeignKey("nodes.node_id"), nullable=False),
    sa.Column("key_id", sa.ForeignKey("model_keys.key_id"), nullable=False),
    sa.Column("model_digest", sa.ForeignKey("models.digest"), nullable=False),
    sa.Column("issued", Instant, nullable=False),
    sa.Column("ended", Instant),
    sa.Column("end_reason", sa.Text),
    sa.Column("cause", sa.String(16)),
    sa.Column("silence_seconds", sa.Integer, nullable=False, server_default="0"),
    sa.Index("leases_of_node", "node_id", "ended"),
)
