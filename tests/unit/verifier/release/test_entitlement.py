"""What holds in the very transaction that starts a lease: models, keys and grants as the database has them then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from nodeseal.errors import PolicyRefused
from nodeseal.findings import FindingId
from nodeseal.ids import Digest, KeyId, LeaseId, NodeId
from nodeseal.verifier.release.entitlement import refuse_unless_granted
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.schema import GRANTS, KEYS, METADATA, MODELS

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LEASE = LeaseRecord(
    lease_id=LeaseId("l-" + "a" * 26),
    node_id=NodeId("n-" + "a" * 26),
    key_id=KeyId("llama"),
    model_digest=Digest("ab" * 32),
    issued=NOW,
)
KEY = {"key_id": "llama", "version": 1, "suite": "any", "public": b"public", "created": NOW, "place": "file"}
MODEL = {
    "digest": LEASE.model_digest,
    "model_id": "llama",
    "version": 1,
    "size": 1,
    "files": 1,
    "content": b"{}",
    "registered": NOW,
}
GRANT = {"key_id": "llama", "node_id": LEASE.node_id, "max_leases": 2}


@pytest.fixture
def database() -> Iterator[sa.Connection]:
    """A database in which the lease may start."""
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(KEYS.insert().values(**KEY))
        connection.execute(MODELS.insert().values(**MODEL))
        connection.execute(GRANTS.insert().values(**GRANT))
        yield connection
    engine.dispose()


def refused(connection: sa.Connection, running: int = 0) -> list[str]:
    with pytest.raises(PolicyRefused) as caught:
        refuse_unless_granted(connection, LEASE, running)
    return [finding.id.code for finding in caught.value.findings]


def test_a_granted_lease_below_the_limit_may_start(database: sa.Connection) -> None:
    refuse_unless_granted(database, LEASE, 1)


def test_the_limit_is_the_grants(database: sa.Connection) -> None:
    assert refused(database, running=2) == ["release.lease-limit"]


def test_a_grant_that_was_taken_away_counts_no_more(database: sa.Connection) -> None:
    database.execute(GRANTS.delete())
    assert refused(database) == ["release.not-granted"]


def test_a_grant_of_another_node_does_not_count(database: sa.Connection) -> None:
    database.execute(GRANTS.update().values(node_id="n-" + "b" * 26))
    assert refused(database) == ["release.not-granted"]


def test_a_revoked_key_has_no_grants_that_count(database: sa.Connection) -> None:
    database.execute(KEYS.update().values(revoked=NOW))
    assert refused(database) == ["release.not-granted"]


def test_a_key_that_is_not_held_grants_nothing(database: sa.Connection) -> None:
    database.execute(GRANTS.delete())
    database.execute(KEYS.delete())
    assert refused(database) == ["release.lease-limit"]


def test_a_model_that_is_not_registered_is_refused_with_every_reason(database: sa.Connection) -> None:
    database.execute(MODELS.delete())
    database.execute(GRANTS.delete())
    assert refused(database) == ["release.model-unregistered", "release.not-granted"]


def test_a_model_that_was_retired_is_refused_by_its_digest_and_since_when(database: sa.Connection) -> None:
    database.execute(MODELS.update().values(retired=NOW))
    with pytest.raises(PolicyRefused) as caught:
        refuse_unless_granted(database, LEASE, 0)
    (finding,) = caught.value.findings
    assert finding.id is FindingId.RELEASE_RETIRED
    assert (finding.seen, finding.where) == ("retired since 2026-01-02T00:00:00+00:00", LEASE.model_digest)
    assert "model register DIR --again" in finding.id.remedy
