"""Restrictions: what each decides on the rows of its moment, and which leases end with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nodeseal.causes import EndCause
from nodeseal.errors import NodesealError, NotFound, OutOfOrder
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, KeyId, LeaseId, ModelId, NodeId
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.acts import VERIFIER
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of, findings_document
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.record import Authorship, record
from nodeseal.verifier.ledger.restrictions import (
    MAX_GOLDENS,
    Restriction,
    decide_restriction,
    is_news,
    is_restricting,
    judged,
)
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import made_engine
from nodeseal.verifier.store.nodes import NodeStanding
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT, EXAMPLES, GOLDEN, KEY, NODE, OTHER_NODE

MODEL = document_of(b"{}")
OTHER_MODEL = document_of(b"[]")
FILE = document_of(b"golden")
OTHER_KEY = KeyId("other")
OF_MODEL = LEASES = tuple(LeaseId("l-" + letter * 26) for letter in "abcd")
OF_OTHER_MODEL = LeaseId("l-" + "e" * 26)
FINDINGS = findings_document([Finding(id=FindingId.PCR_MISMATCH, expected="a", seen="b")])
UNTRUSTED = acts.NodeJudged(
    node_id=NODE,
    before=NodeState.TRUSTED,
    state=NodeState.UNTRUSTED,
    reason="",
    codes=FINDINGS.codes,
    findings=FINDINGS.document.digest,
    goldens=(),
    trusted_until=None,
)
STALE = replace(UNTRUSTED, state=NodeState.STALE, reason="late", codes=(), findings=Digest(""))
TRUSTED = replace(UNTRUSTED, state=NodeState.TRUSTED, codes=(), findings=Digest(""), trusted_until=AT)
QUARANTINED = acts.NodeQuarantined(node_id=NODE, reason="odd")
RETIRED = acts.NodeRetired(node_id=NODE, reason="sold")
REVOKED = acts.KeyRevoked(key_id=KEY, reason="leaked")
WITHDRAWN = acts.GrantWithdrawn(key_id=KEY, node_id=NODE, reason="moved")
GOLDEN_RETIRED = acts.GoldenRetired(digest=GOLDEN, name="g")
MODEL_RETIRED = acts.ModelRetired(digest=MODEL.digest, model_id=ModelId("m"), model_version=1, reason="old")


def lease(lease_id: LeaseId, **changes: Any) -> acts.Act:
    changes = {"model_digest": MODEL.digest, **changes}
    made: acts.Act = replace(EXAMPLES["lease.issued"], lease_id=lease_id, **changes)
    return made


def enrolled(node_id: NodeId) -> acts.Act:
    act: acts.Act = replace(EXAMPLES["node.enrolled"], node_id=node_id, ek_name=node_id.encode(), state=NodeState.STALE)
    return act


def key(key_id: KeyId) -> acts.Act:
    return acts.KeyCreated(key_id=key_id, key_version=1, suite="x", public=b"p", place="file", silence_seconds=0)


PRIOR: tuple[acts.Act, ...] = (
    key(KEY),
    key(OTHER_KEY),
    acts.ModelRegistered(digest=MODEL.digest, model_id=ModelId("m"), model_version=1, size=1, files=1, again=False),
    acts.ModelRegistered(
        digest=OTHER_MODEL.digest, model_id=ModelId("o"), model_version=1, size=1, files=1, again=False
    ),
    acts.GoldenActivated(digest=GOLDEN, name="g", document=FILE.digest),
    enrolled(NODE),
    enrolled(OTHER_NODE),
    acts.KeyGranted(key_id=KEY, node_id=NODE, max_leases=4),
    TRUSTED,
    lease(LEASES[0]),
    lease(LEASES[1], silence_seconds=60),
    lease(LEASES[2], key_id=OTHER_KEY),
    lease(LEASES[3], node_id=OTHER_NODE),
    lease(OF_OTHER_MODEL, node_id=OTHER_NODE, key_id=OTHER_KEY, model_digest=OTHER_MODEL.digest),
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    """A database with two nodes, two keys, a model, a golden and four leases."""
    with made_engine(tmp_path / "db.sqlite") as engine:
        METADATA.create_all(engine)
        with engine.execution_options(writes=True).begin() as made:
            happened(made, *PRIOR)
            yield made


def happened(connection: sa.Connection, *these: acts.Act) -> None:
    decided = Decided(None, these, (FINDINGS.document,), (MODEL, OTHER_MODEL, FILE))
    record(connection, decided, Authorship(actor="x", at=AT), MacKey(raw=bytes(32)))


def decided(connection: sa.Connection, act: Any) -> tuple[acts.Act, ...]:
    restriction = Restriction(act=act, actor=VERIFIER, at=AT, salt=bytes(16), documents=(FINDINGS.document,))
    return decide_restriction(connection, restriction).acts


def ends(decision: tuple[acts.Act, ...]) -> dict[LeaseId, tuple[EndCause | None, str]]:
    return {act.lease_id: (act.cause, act.reason) for act in decision if isinstance(act, acts.LeaseEnded)}


@pytest.mark.parametrize(
    ("act", "gone", "cause", "reason"),
    [
        (UNTRUSTED, LEASES[:3], EndCause.DISTRUST, "untrusted: pcr.mismatch"),
        (QUARANTINED, LEASES[:3], EndCause.DISTRUST, "quarantined: odd"),
        (RETIRED, LEASES[:3], EndCause.DISTRUST, "retired: sold"),
        (STALE, (LEASES[0], LEASES[2]), EndCause.SILENCE, "stale: late"),
        (REVOKED, (LEASES[0], LEASES[1], LEASES[3]), EndCause.REVOCATION, "key llama revoked: leaked"),
        (WITHDRAWN, LEASES[:2], EndCause.REVOCATION, "key llama revoked: moved"),
        (GOLDEN_RETIRED, (), None, ""),
        (MODEL_RETIRED, OF_MODEL, EndCause.REVOCATION, "model m version 1 retired: old"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_which_leases_end_with_a_restriction(
    connection: sa.Connection, act: Any, gone: tuple[LeaseId, ...], cause: EndCause, reason: str
) -> None:
    first, *rest = decided(connection, act)
    assert first == act
    assert ends(tuple(rest)) == dict.fromkeys(gone, (cause, reason))


def test_documents_are_recorded_with_their_act(connection: sa.Connection) -> None:
    restriction = Restriction(act=UNTRUSTED, actor=VERIFIER, at=AT, salt=bytes(16), documents=(FINDINGS.document,))
    assert decide_restriction(connection, restriction).documents == (FINDINGS.document,)


def test_a_reason_that_is_too_long_with_its_prefix_is_cut(connection: sa.Connection) -> None:
    decision = decided(connection, replace(QUARANTINED, reason="x" * 500))
    assert {len(reason) for _, reason in ends(decision).values()} == {500}


@pytest.mark.parametrize("act", [QUARANTINED, RETIRED, UNTRUSTED])
def test_a_node_that_is_not_enrolled_is_not_found(connection: sa.Connection, act: Any) -> None:
    with pytest.raises(NotFound, match="there is no node"):
        decided(connection, replace(act, node_id=NodeId("n-" + "z" * 26)))


TAKEN: dict[str, tuple[tuple[acts.Act, ...], Any, type[NodesealError]]] = {
    "a retired node is quarantined": ((RETIRED,), QUARANTINED, OutOfOrder),
    "a retired node is retired": ((RETIRED,), RETIRED, OutOfOrder),
    "a revoked key is revoked": ((REVOKED,), REVOKED, OutOfOrder),
    "a grant of a revoked key is withdrawn": ((REVOKED,), WITHDRAWN, OutOfOrder),
    "a withdrawn grant is withdrawn": ((WITHDRAWN,), WITHDRAWN, NotFound),
    "a retired golden is retired": ((GOLDEN_RETIRED,), GOLDEN_RETIRED, NotFound),
    "a retired model is retired": ((MODEL_RETIRED,), MODEL_RETIRED, NotFound),
    "an unknown key": ((), replace(REVOKED, key_id=KeyId("none")), NotFound),
    "an unknown golden": ((), replace(GOLDEN_RETIRED, digest=Digest("9" * 64)), NotFound),
    "an unknown model": ((), replace(MODEL_RETIRED, digest=Digest("9" * 64)), NotFound),
}


@pytest.mark.parametrize(("before", "act", "error"), TAKEN.values(), ids=TAKEN)
def test_what_was_taken_away_before_or_never_was_is_refused(
    connection: sa.Connection, before: tuple[acts.Act, ...], act: Any, error: type[NodesealError]
) -> None:
    happened(connection, *before)
    with pytest.raises(error):
        decided(connection, act)


def test_a_quarantine_of_a_node_in_quarantine_counts(connection: sa.Connection) -> None:
    happened(connection, QUARANTINED)
    assert decided(connection, replace(QUARANTINED, reason="odder"))[0] == replace(QUARANTINED, reason="odder")


# Judgements meet what was decided since


def test_a_judgement_of_a_retired_node_says_nothing(connection: sa.Connection) -> None:
    happened(connection, RETIRED)
    assert decided(connection, UNTRUSTED) == decided(connection, STALE) == ()


@pytest.mark.parametrize("state", [NodeState.UNTRUSTED, NodeState.STALE, NodeState.REBOOTING])
def test_only_a_trusted_node_becomes_stale(connection: sa.Connection, state: NodeState) -> None:
    happened(connection, replace(UNTRUSTED, state=state))
    assert decided(connection, STALE) == ()


def test_a_judgement_leaves_a_state_that_only_a_person_ends(connection: sa.Connection) -> None:
    happened(connection, QUARANTINED)
    act, *_ = decided(connection, UNTRUSTED)
    assert act == replace(UNTRUSTED, before=NodeState.QUARANTINED, state=NodeState.QUARANTINED, reason="odd")


def test_a_clock_that_ran_backwards_takes_a_pending_node_into_quarantine(connection: sa.Connection) -> None:
    happened(connection, replace(UNTRUSTED, state=NodeState.PENDING))
    rollback = replace(UNTRUSTED, state=NodeState.QUARANTINED, reason="the clock ran backwards")
    assert decided(connection, rollback)[0] == replace(rollback, before=NodeState.PENDING)


def test_a_judgement_that_is_recorded_already_says_nothing(connection: sa.Connection) -> None:
    happened(connection, *decided(connection, UNTRUSTED))
    assert decided(connection, UNTRUSTED) == ()
    assert decided(connection, replace(UNTRUSTED, codes=("pcr.mismatch", "clock.unsafe"))) != ()


def test_a_judgement_names_the_state_before_it_as_the_rows_have_it(connection: sa.Connection) -> None:
    happened(connection, replace(UNTRUSTED, state=NodeState.REBOOTING, codes=(), findings=Digest("")))
    act, *_ = decided(connection, UNTRUSTED)
    assert isinstance(act, acts.NodeJudged)
    assert act.before is NodeState.REBOOTING


# Which acts restrict


RESTRICTING = {
    "key.suspended",
    "person.suspended",
    "node.quarantined",
    "node.retired",
    "key.revoked",
    "key.withdrawn",
    "golden.retired",
    "model.retired",
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_which_kinds_take_trust_away(kind: str) -> None:
    assert is_restricting(EXAMPLES[kind]) == (kind in RESTRICTING)


@pytest.mark.parametrize("state", NodeState)
def test_every_judgement_but_trust_takes_trust_away(state: NodeState) -> None:
    assert is_restricting(replace(UNTRUSTED, state=state)) == (state is not NodeState.TRUSTED)


def test_a_judgement_names_at_most_so_many_goldens() -> None:
    digests = tuple(Digest(f"{number:064x}") for number in range(MAX_GOLDENS + 5))
    after = NodeStanding(state=NodeState.TRUSTED, goldens=digests, trusted_until=AT)
    act = judged(NODE, NodeState.STALE, after, (), Digest(""))
    assert act.goldens == digests[:MAX_GOLDENS]
    assert (act.before, act.state, act.trusted_until) == (NodeState.STALE, NodeState.TRUSTED, AT)


def test_news_is_what_changes_more_than_the_end_of_trust() -> None:
    finding = Finding(id=FindingId.PCR_MISMATCH, expected="a", seen="b", where="sha256:1")
    before = NodeStanding(state=NodeState.TRUSTED, findings=(finding,), trusted_until=None)
    assert not is_news(before, replace(before, trusted_until=AT))
    assert not is_news(before, replace(before, findings=(replace(finding, seen="c"),)))
    for changed in (
        replace(before, state=NodeState.STALE),
        replace(before, reason="x"),
        replace(before, goldens=(GOLDEN,)),
        replace(before, findings=()),
        replace(before, findings=(replace(finding, where="sha256:2"),)),
    ):
        assert is_news(before, changed)
