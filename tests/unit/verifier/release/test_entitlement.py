"""The one decision about who may have which data key: on models, keys and grants as the database has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from nodeseal.errors import PolicyRefused
from nodeseal.findings import FindingId
from nodeseal.ids import Digest, KeyId, NodeId
from nodeseal.verifier.release.entitlement import ROTATION, Entitlement, Rule, Wanted, entitle, lease_rule
from nodeseal.verifier.store.policy import read_facts
from nodeseal.verifier.store.schema import GRANTS, KEYS, METADATA, MODELS
from support.sealed import DATA_KEY, model_key

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MODEL = Digest("ab" * 32)
NODE = NodeId("n-" + "a" * 26)
LLAMA, SPARE = (model_key(key_id=name)[1] for name in ("llama", "spare"))
WANTED = Wanted(model_digest=MODEL, slots=(LLAMA.slot(MODEL, DATA_KEY), SPARE.slot(MODEL, DATA_KEY)))


@pytest.fixture
def database() -> Iterator[sa.Connection]:
    """A database in which the node may have two leases of the first key."""
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for key in (LLAMA, SPARE):
            facts = {"key_id": key.key_id, "version": key.key_version, "suite": key.public.suite.value}
            connection.execute(KEYS.insert().values(**facts, public=key.public.raw, created=NOW, place="file"))
        model = {"digest": MODEL, "model_id": "llama", "version": 1, "size": 1, "files": 1, "content": b"{}"}
        connection.execute(MODELS.insert().values(**model, registered=NOW))
        connection.execute(GRANTS.insert().values(key_id="llama", node_id=NODE, max_leases=2))
        yield connection
    engine.dispose()


def decided(
    connection: sa.Connection, running: Mapping[str, int] | None = None, *, rule: Rule | None = None
) -> Entitlement:
    facts = read_facts(connection, WANTED.model_digest, WANTED.key_ids, NODE)
    counts = {KeyId(name): count for name, count in (running or {}).items()}
    return entitle(facts, WANTED, rule or lease_rule(NODE, counts))


def refused(decision: Entitlement) -> list[tuple[str, str]]:
    with pytest.raises(PolicyRefused) as caught:
        decision.require()
    assert caught.value.findings == decision.findings
    return [(finding.id.code, finding.where) for finding in decision.findings]


def test_the_first_slot_of_a_granted_key_is_opened(database: sa.Connection) -> None:
    slot, key = decided(database, {"llama": 1}).require()
    assert (slot.key_id, key.model_key) == ("llama", LLAMA)


def test_a_slot_whose_key_is_not_granted_is_passed_over(database: sa.Connection) -> None:
    database.execute(GRANTS.update().values(key_id="spare"))
    assert decided(database).require().key.key_id == "spare"


def test_the_limit_is_the_grants(database: sa.Connection) -> None:
    assert ("release.lease-limit", "llama") in refused(decided(database, {"llama": 2}))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(GRANTS.delete(), id="a grant that was taken away"),
        pytest.param(GRANTS.update().values(node_id="n-" + "b" * 26), id="a grant of another node"),
        pytest.param(KEYS.update().values(revoked=NOW), id="a revoked key"),
    ],
)
def test_without_a_grant_that_counts_every_key_is_named(database: sa.Connection, change: sa.UpdateBase) -> None:
    database.execute(change)
    assert refused(decided(database)) == [("release.not-granted", "llama"), ("release.not-granted", "spare")]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(KEYS.delete(), id="no such key"),
        pytest.param(KEYS.update().values(version=2), id="another version"),
        pytest.param(KEYS.update().values(suite="any"), id="another suite"),
    ],
)
def test_keys_that_are_not_held_open_nothing(database: sa.Connection, change: sa.UpdateBase) -> None:
    database.execute(GRANTS.delete())
    database.execute(change)
    for rule in (None, ROTATION):
        decision = decided(database, rule=rule)
        assert refused(decision) == [("release.slot", "")]
        assert decision.findings[0].seen == "llama version 1, spare version 1"


def test_a_model_that_is_not_registered_is_refused_with_every_reason(database: sa.Connection) -> None:
    database.execute(MODELS.delete())
    database.execute(GRANTS.delete())
    assert [code for code, _ in refused(decided(database))] == [
        "release.model-unregistered",
        "release.not-granted",
        "release.not-granted",
    ]


def test_a_model_that_was_retired_is_refused_by_its_digest_and_since_when(database: sa.Connection) -> None:
    database.execute(MODELS.update().values(retired=NOW))
    for rule in (None, ROTATION):
        decision = decided(database, rule=rule)
        assert refused(decision) == [("release.model-retired", MODEL)]
        assert decision.findings[0].seen == "retired since 2026-01-02T00:00:00+00:00"
        assert "model register DIR --again" in decision.findings[0].id.remedy


def test_rotation_needs_no_grant_but_a_key_in_force(database: sa.Connection) -> None:
    database.execute(GRANTS.delete())
    database.execute(KEYS.update().where(KEYS.c.key_id == "llama").values(revoked=NOW))
    assert decided(database, rule=ROTATION).require().key.key_id == "spare"
    database.execute(KEYS.update().values(revoked=NOW))
    decision = decided(database, rule=ROTATION)
    assert refused(decision) == [("release.slot", "")]
    assert decision.findings[0].id is FindingId.RELEASE_SLOT
    assert decision.findings[0].expected == "a slot of a key held here and in force"


def test_the_first_of_two_usable_slots_is_opened(database: sa.Connection) -> None:
    database.execute(GRANTS.insert().values(key_id="spare", node_id=NODE, max_leases=1))
    assert decided(database).require().key.key_id == "llama"


def test_more_leases_than_the_limit_allows_leave_room_for_none(database: sa.Connection) -> None:
    assert ("release.lease-limit", "llama") in refused(decided(database, {"llama": 3}))


def test_a_grant_of_one_lease_allows_the_first(database: sa.Connection) -> None:
    database.execute(GRANTS.update().values(max_leases=1))
    assert decided(database).require().key.key_id == "llama"


def test_a_refusal_tells_a_revoked_key_from_a_missing_grant(database: sa.Connection) -> None:
    database.execute(KEYS.update().where(KEYS.c.key_id == "llama").values(revoked=NOW))
    seen = {finding.where: finding.seen for finding in decided(database).findings}
    assert seen == {"llama": "the key was revoked", "spare": f"no grant for {NODE}"}


@pytest.mark.parametrize("version", [KEYS.c.version + 1, KEYS.c.version - 1])
def test_a_slot_of_another_version_of_the_key_is_none(database: sa.Connection, version: sa.ColumnElement[int]) -> None:
    database.execute(KEYS.update().values(version=version))
    assert ("release.slot", "") in refused(decided(database))
