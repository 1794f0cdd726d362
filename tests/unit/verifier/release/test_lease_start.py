"""A lease starts by the rows of the moment: state and key of the node, its leases, model, key, grant and goldens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from nodeseal.errors import PolicyRefused
from nodeseal.ids import Digest, LeaseId, NodeId
from nodeseal.verifier.ledger.acts import LeaseEnded, LeaseIssued
from nodeseal.verifier.release.entitlement import Choice, Wanted
from nodeseal.verifier.release.lease_start import LeaseStart
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord, add_lease
from nodeseal.verifier.store.nodes import NodeFacts, NodeRecord, NodeStanding, put_node
from nodeseal.verifier.store.policy import find_key
from nodeseal.verifier.store.schema import GOLDENS, GRANTS, KEYS, METADATA, MODELS
from support.rounds import GOLDEN
from support.sealed import DATA_KEY, model_key

ASKED = datetime(2026, 1, 2, tzinfo=UTC)
BEFORE, AFTER = ASKED - timedelta(seconds=1), ASKED + timedelta(seconds=1)
MODEL = Digest("ab" * 32)
NODE = NodeId("n-" + "a" * 26)
AK = b"\0\x0b" + bytes(32)
KEY = model_key(key_id="llama")[1]
SLOT = KEY.slot(MODEL, DATA_KEY)
NEW = LeaseId("l-" + "n" * 26)
OLD, OTHER = (LeaseId("l-" + letter * 26) for letter in "ab")


@pytest.fixture
def database() -> Iterator[sa.Connection]:
    """A trusted node that may have two leases of a key, and a golden that is active."""
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        facts = {"key_id": "llama", "version": KEY.key_version, "suite": KEY.public.suite.value}
        connection.execute(KEYS.insert().values(**facts, public=KEY.public.raw, created=BEFORE, place="file"))
        model = {"digest": MODEL, "model_id": "llama", "version": 1, "size": 1, "files": 1, "content": b"{}"}
        connection.execute(MODELS.insert().values(**model, registered=BEFORE))
        connection.execute(GRANTS.insert().values(key_id="llama", node_id=NODE, max_leases=2))
        connection.execute(GOLDENS.insert().values(digest=GOLDEN.digest, name="g", document=b"x", activated=BEFORE))
        stands(connection, NodeState.TRUSTED)
        yield connection
    engine.dispose()


def stands(connection: sa.Connection, state: NodeState, ak_name: bytes = AK) -> None:
    record = NodeRecord(
        node_id=NODE,
        ek_name=b"e",
        ak_name=ak_name,
        ak_public=b"p",
        certificate_sha256=bytes(32),
        next_certificate_sha256=None,
        facts=NodeFacts(hostname="h", boot_id="b", tpm_manufacturer="m", tpm_firmware="f"),
        enrolled=BEFORE,
    )
    put_node(connection, record, NodeStanding(state=state))


def holds(connection: sa.Connection, lease_id: LeaseId, issued: datetime) -> None:
    add_lease(
        connection,
        LeaseRecord(lease_id=lease_id, node_id=NODE, key_id=KEY.key_id, model_digest=MODEL, issued=issued),
    )


def start(connection: sa.Connection, *claimed: LeaseId) -> tuple[Any, ...]:
    """Decide about a lease that a node wants that claims some; return the acts."""
    key = find_key(connection, KEY.key_id)
    assert key is not None
    appraisal: Any = SimpleNamespace(claims=SimpleNamespace(leases=claimed), goldens=(GOLDEN,))
    node: Any = SimpleNamespace(record=SimpleNamespace(node_id=NODE, ak_name=AK), trusted_until=AFTER)
    asked: Any = SimpleNamespace(
        challenge=SimpleNamespace(issued=ASKED), known=SimpleNamespace(keys=SimpleNamespace(ak_name=bytes(AK)))
    )
    request: Any = SimpleNamespace(node=node, wanted=Wanted(model_digest=MODEL, slots=(SLOT,)), asked=asked)
    approved: Any = SimpleNamespace(
        appraisal=appraisal, release_key=SimpleNamespace(name=lambda: b"name"), quote_sha256=bytes(32)
    )
    begun = LeaseStart(lease_id=NEW, request=request, approved=approved, choice=Choice(SLOT, key))
    return begun.decide(connection).acts


def test_a_trusted_node_gets_a_lease(database: sa.Connection) -> None:
    (issued,) = start(database)
    assert isinstance(issued, LeaseIssued)
    assert (issued.lease_id, issued.key_id, issued.goldens) == (NEW, "llama", (GOLDEN.digest,))


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda connection: stands(connection, NodeState.UNTRUSTED), "untrusted"),
        (lambda connection: stands(connection, NodeState.STALE), "stale"),
        (lambda connection: stands(connection, NodeState.QUARANTINED), "quarantined"),
        (lambda connection: stands(connection, NodeState.TRUSTED, bytes(34)), "another attestation key"),
        (lambda connection: stands(connection, NodeState.TRUSTED, b"\xff" * 34), "another attestation key"),
        (lambda connection: connection.execute(sa.text("DELETE FROM nodes")), "another attestation key"),
    ],
)
def test_a_node_that_is_not_trusted_or_another_gets_none(
    database: sa.Connection, change: Callable[[sa.Connection], object], seen: str
) -> None:
    change(database)
    with pytest.raises(PolicyRefused) as caught:
        start(database)
    assert [(finding.id.code, finding.seen) for finding in caught.value.findings] == [("release.node-state", seen)]


def ended(acts: tuple[Any, ...]) -> list[LeaseId]:
    return [act.lease_id for act in acts if isinstance(act, LeaseEnded)]


def test_leases_that_the_node_does_not_claim_end_and_make_room(database: sa.Connection) -> None:
    holds(database, OLD, BEFORE)
    holds(database, OTHER, BEFORE)
    acts = start(database, OTHER)
    assert ended(acts) == [OLD]
    assert isinstance(acts[-1], LeaseIssued)
    assert ended(start(database)) == [OLD, OTHER]


@pytest.mark.parametrize("issued", [ASKED, AFTER])
def test_a_lease_that_began_when_the_node_had_been_asked_runs_on_and_counts(
    database: sa.Connection, issued: datetime
) -> None:
    holds(database, OLD, issued)
    assert ended(start(database)) == []
    holds(database, OTHER, issued)
    with pytest.raises(PolicyRefused, match=r"release\.lease-limit"):
        start(database)


def test_leases_that_the_node_claims_count(database: sa.Connection) -> None:
    for lease in (OLD, OTHER):
        holds(database, lease, BEFORE)
    with pytest.raises(PolicyRefused, match=r"release\.lease-limit"):
        start(database, OLD, OTHER)
