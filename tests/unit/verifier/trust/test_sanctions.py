"""The log is held against its rules: an act that needed approvals and has none refuses the start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput, PolicyRefused
from nodeseal.governance.changes import ChangeKind, parse_change
from nodeseal.governance.proposal import NAMESPACE, Proposal
from nodeseal.governance.quorum import Approval
from nodeseal.governance.rules import Rules
from nodeseal.governance.sanction import ApprovedProposal, decode_approved
from nodeseal.ids import Digest, KeyId, PersonId
from nodeseal.verifier.fleet.mandate import alone
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.documents import document_of
from nodeseal.verifier.ledger.record import Authorship, record
from nodeseal.verifier.people.rulebook import setting
from nodeseal.verifier.results.audit import WITHHOLDABLE
from nodeseal.verifier.store.database import made_engine
from nodeseal.verifier.store.schema import METADATA
from nodeseal.verifier.trust.sanctions import KIND_OF, Place, check_sanctions
from support.acts import CERTIFICATE, EXAMPLES, NODE
from support.ledgers import MAC_KEY
from support.ssh import ed25519_signer
from support.together import quorum_rules

AT = datetime(2027, 1, 2, tzinfo=UTC)
PLACE = Place("test.example", "log")
KIM, LEE = PersonId("kim"), PersonId("lee")
SIGNERS = {KIM: ed25519_signer(), LEE: ed25519_signer()}
RULES = quorum_rules()
POLICY = acts.KeyPolicySet(key_id=KeyId("llama"), silence_seconds=9)
CHANGE = parse_change(Fields({"kind": "key.policy", "key": "llama", "silence_seconds": 9}, "change"))


def put(connection: sa.Connection, *made: acts.Act, documents: tuple[bytes, ...] = (), at: datetime = AT) -> None:
    decided = Decided(None, made, tuple(map(document_of, documents)))
    record(connection, decided, Authorship(actor="person/kim", at=at), MAC_KEY)


def approved(in_force: Rules, change: object = CHANGE, **changed: object) -> bytes:
    """Return the approvals of a proposal that lee signed; ``changed`` are fields of the proposal."""
    proposal = Proposal(
        trust_domain="test.example",
        origin="log",
        change=change,  # type: ignore[arg-type]  # a change
        base=Digest("a" * 64),
        rules=in_force.digest,
        proposer=KIM,
        reason="",
        expires=AT + timedelta(hours=1),
        nonce=bytes(16),
    )
    document = replace(proposal, **changed).encode()  # type: ignore[arg-type]  # fields of it
    signed = Approval(person=LEE, signature=SIGNERS[LEE].signature(document, NAMESPACE), at=AT)
    signature = SIGNERS[KIM].signature(document, NAMESPACE)
    return ApprovedProposal(document=document, signature=signature, approvals=(signed,)).encode()


@contextmanager
def a_log(tmp_path: Path) -> Iterator[sa.Connection]:
    """A log in which kim and lee have agreed on a quorum, by the rules; the connection rolls back at the end."""
    with made_engine(tmp_path / "log.sqlite") as engine:
        METADATA.create_all(engine)
        with engine.begin() as connection:
            for name, signer in SIGNERS.items():
                put(
                    connection,
                    acts.PersonAdded(name=name, roles=("approver",), certificate_sha256=CERTIFICATE),
                    acts.PersonKeyAdded(name=name, fingerprint=name, blob=signer.blob, in_token=False),
                )
            first = setting(Rules(version=1, solo=True), recovery=False)
            record(connection, first, Authorship(actor="verifier", at=AT), MAC_KEY)
            document = RULES.encode()
            change = parse_change(Fields({"kind": "rules.set", "document": document_of(document).digest}, "change"))
            approvals = approved(Rules(version=1, solo=True), change)
            act = setting(RULES, recovery=False).acts[0]
            assert isinstance(act, acts.RulesSet)
            put(connection, replace(act, approvals=document_of(approvals).digest), documents=(document, approvals))
            check_sanctions(connection, PLACE)
            yield connection


def test_an_act_with_its_approvals_is_good(tmp_path: Path) -> None:
    with a_log(tmp_path) as connection:
        approvals = approved(RULES)
        put(connection, replace(POLICY, approvals=document_of(approvals).digest), documents=(approvals,))
        check_sanctions(connection, PLACE)
        assert decode_approved(approvals, "approvals").encode() == approvals


def refuse(connection: sa.Connection, act: acts.Act, why: str, *documents: bytes, at: datetime = AT) -> None:
    put(connection, act, documents=documents, at=at)
    with pytest.raises(MalformedInput, match=f"act {act.kind} at .* is not approved: .*{why}"):
        check_sanctions(connection, PLACE)


def test_an_act_without_approvals_is_named(tmp_path: Path) -> None:
    with a_log(tmp_path) as connection:
        refuse(connection, POLICY, "it carries no approvals")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"trust_domain": "other.example"}, "another trust domain"),
        ({"rules": Digest("b" * 64)}, "the rules have changed"),
        ({"expires": AT}, "its time has passed"),
        ({"proposer": LEE}, "1 more of 1 approvals|a signature of the proposer"),
    ],
)
def test_approvals_that_did_not_count_then_do_not_count_now(
    tmp_path: Path, changed: dict[str, object], why: str
) -> None:
    with a_log(tmp_path) as connection:
        approvals = approved(RULES, **changed)
        act = replace(POLICY, approvals=document_of(approvals).digest)
        refuse(connection, act, why, approvals)


def test_approvals_of_another_change_are_named(tmp_path: Path) -> None:
    with a_log(tmp_path) as connection:
        approvals = approved(RULES)
        act = replace(POLICY, silence_seconds=8, approvals=document_of(approvals).digest)
        refuse(connection, act, "its proposal says something else", approvals)


def test_a_proposal_counts_for_one_act(tmp_path: Path) -> None:
    with a_log(tmp_path) as connection:
        approvals = approved(RULES)
        act = replace(POLICY, approvals=document_of(approvals).digest)
        put(connection, act, documents=(approvals,))
        refuse(connection, act, "its proposal took effect before")


def test_slots_of_one_decision_may_need_several_acts_and_are_those_of_the_proposal(tmp_path: Path) -> None:
    facts = {"kind": "model.reslot", "model": "d" * 64, "keys": ["a version 1", "b version 1"], "document": "e" * 64}
    with a_log(tmp_path) as connection:
        approvals = approved(RULES, parse_change(Fields(facts, "change")))
        carried = document_of(approvals).digest
        made = [
            acts.SlotsRewrapped(digest=Digest("d" * 64), opened="a version 1", made=(name,), approvals=carried)
            for name in ("a version 1", "b version 1", "c version 1")
        ]
        put(connection, *made[:2], documents=(approvals,))
        check_sanctions(connection, PLACE)
        refuse(connection, made[2], "its proposal says something else")


def test_labels_and_returns_of_models_are_those_of_the_proposal(tmp_path: Path) -> None:
    register = parse_change(Fields({"kind": "model.register", "model": "d" * 64, "again": False}, "change"))
    label = parse_change(Fields({"kind": "node.label", "node": NODE, "labels": {"rack": "b"}}, "change"))
    none, wanted, other = b"{}", b'{"rack":"b"}', b'{"rack":"c"}'
    digests = [document_of(each).digest for each in (none, wanted, other)]
    with a_log(tmp_path) as connection:
        first, second = approved(RULES, label), approved(RULES, register, nonce=bytes(15) + b"1")
        labelled = acts.NodeLabelled(
            node_id=NODE, labels=digests[1], previous=digests[0], approvals=document_of(first).digest
        )
        put(connection, labelled, documents=(first, none, wanted, other))
        check_sanctions(connection, PLACE)
        model = replace(EXAMPLES["model.registered"], digest=Digest("d" * 64), approvals=document_of(second).digest)
        with connection.begin_nested() as undone:
            refuse(connection, replace(labelled, labels=digests[2]), "its proposal says something else")
            undone.rollback()
        refuse(connection, replace(model, again=True), "its proposal says something else", second)


@pytest.mark.parametrize(
    "restricting",
    [
        acts.PersonSuspended(name=LEE, reason="", until=AT),
        acts.PersonRemoved(name=LEE, roles=("approver",), certificate_sha256=CERTIFICATE),
        acts.PersonSuspended(name=KIM, reason="", until=AT),
    ],
    ids=["approver suspended", "approver removed", "proposer suspended"],
)
def test_approvals_of_people_who_may_not_any_more_are_named(tmp_path: Path, restricting: acts.Act) -> None:
    with a_log(tmp_path) as connection:
        put(connection, restricting)
        approvals = approved(RULES)
        refuse(connection, replace(POLICY, approvals=document_of(approvals).digest), "", approvals)


def test_a_quorum_that_nobody_approved_is_named_and_recovery_is_not(tmp_path: Path) -> None:
    with a_log(tmp_path) as connection:
        solo = setting(Rules(version=3, solo=True), recovery=True)
        record(connection, solo, Authorship(actor="local/root", at=AT), MAC_KEY)
        put(connection, POLICY)
        check_sanctions(connection, PLACE)
        act = setting(quorum_rules(version=4), recovery=False).acts[0]
        refuse(connection, act, "it carries no approvals", quorum_rules(version=4).encode())


def test_a_mandate_of_one_person_looks_at_the_rules_in_the_transaction(tmp_path: Path) -> None:
    with a_log(tmp_path) as connection:
        decide = alone("person/kim", ChangeKind.KEY_POLICY).over(lambda _: Decided(None, (POLICY,)))
        with pytest.raises(PolicyRefused, match="nodeseal propose key policy"):
            decide(connection)
        solo = setting(Rules(version=3, solo=True), recovery=True)
        record(connection, solo, Authorship(actor="local/root", at=AT), MAC_KEY)
        assert decide(connection).acts == (POLICY,)


def test_every_widening_act_has_a_kind() -> None:
    assert set(KIND_OF) == set(acts.Widening.__args__)


def test_no_export_withholds_what_decides_whether_an_approval_counted() -> None:
    deciding = (acts.RulesSet, acts.PersonAdded, acts.PersonRemoved, acts.PersonSuspended, acts.PersonResumed)
    keys = (acts.PersonKeyAdded, acts.PersonKeyRemoved)
    assert WITHHOLDABLE.isdisjoint(act.kind for act in (*deciding, *keys))
