"""Folds: acts that were decided at the same time give one memory, in whatever order they arrive."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from nodeseal.appraisal.model import Baseline, Policy
from nodeseal.causes import EndCause
from nodeseal.documents import encode_json
from nodeseal.errors import OutOfOrder
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, KeyId, LeaseId, ModelId, PersonId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.verifier.fleet.fold import fold
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.overlay import put_in_force
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.acts import Act
from nodeseal.verifier.ledger.decided import Decided, Recorded
from nodeseal.verifier.ledger.documents import document_of, findings_document, labels_document
from nodeseal.verifier.ledger.leaf import MacKey
from nodeseal.verifier.ledger.record import Authorship, record
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.database import made_engine, run
from nodeseal.verifier.store.schema import METADATA
from support.acts import AT, EXAMPLES, KEY, LEASE, MODEL, NODE, OTHER_NODE

SECOND = LeaseId("l-" + "b" * 26)
FINDINGS = {
    name: findings_document([Finding(id=FindingId.PCR_MISMATCH, expected="a", seen=name)])
    for name in ("first", "second", "third")
}
GOLDENS = {
    name: Golden(name=name, pcrs={HashAlg.SHA256: {0: frozenset({bytes([number]) * 32})}})
    for number, name in enumerate(("old", "new"))
}
FILES = {golden.digest: dump_golden(golden) for golden in GOLDENS.values()}
LABELS = {rack: labels_document({"rack": rack}) for rack in "abc"}
DOCUMENTS = (*(each.document for each in FINDINGS.values()), *LABELS.values(), document_of(encode_json({})))
TRUST, PROVED = 1000.0, 1100.0


def enrolled(**changes: Any) -> acts.NodeEnrolled:
    act = EXAMPLES["node.enrolled"]
    assert isinstance(act, acts.NodeEnrolled)
    return replace(act, **changes)


def judged(state: NodeState, findings: str = "", goldens: Sequence[str] = (), **changes: Any) -> acts.NodeJudged:
    document = FINDINGS[findings].document.digest if findings else Digest("")
    return acts.NodeJudged(
        node_id=NODE,
        before=NodeState.TRUSTED,
        state=state,
        reason=changes.pop("reason", ""),
        codes=("pcr.mismatch",) if findings else (),
        findings=document,
        goldens=tuple(GOLDENS[name].digest for name in goldens),
        trusted_until=AT if state is NodeState.TRUSTED else None,
    )


def issued(lease_id: LeaseId) -> acts.LeaseIssued:
    act = EXAMPLES["lease.issued"]
    assert isinstance(act, acts.LeaseIssued)
    return replace(act, lease_id=lease_id)


def ended(lease_id: LeaseId, cause: EndCause | None) -> acts.LeaseEnded:
    return acts.LeaseEnded(lease_id=lease_id, node_id=NODE, key_id=KEY, model_digest=MODEL, cause=cause, reason="why")


def labelled(rack: str) -> acts.NodeLabelled:
    return acts.NodeLabelled(node_id=NODE, labels=LABELS[rack].digest, previous=LABELS["a"].digest)


def certified(number: int, following: int = 0) -> dict[str, Any]:
    return {
        "node_id": NODE,
        "ak_name": b"ak",
        "certificate_sha256": bytes([number]) * 32,
        "next_certificate_sha256": bytes([following]) * 32 if following else b"",
    }


def activated(name: str) -> acts.GoldenActivated:
    digest = GOLDENS[name].digest
    return acts.GoldenActivated(digest=digest, name=name, document=document_of(FILES[digest]).digest)


def added(number: int) -> acts.PersonAdded:
    return acts.PersonAdded(name=PersonId("kim"), roles=("viewer",), certificate_sha256=bytes([number]) * 32)


OLD, NEW = (GOLDENS[name].digest for name in ("old", "new"))
PRIOR: tuple[Act, ...] = (
    activated("old"),
    acts.KeyCreated(key_id=KEY, key_version=1, suite="x", public=b"p", place="file", silence_seconds=0),
    acts.ModelRegistered(digest=MODEL, model_id=ModelId("m"), model_version=1, size=1, files=1, again=False),
    enrolled(),
    acts.KeyGranted(key_id=KEY, node_id=NODE, max_leases=2),
    acts.NodeAdmitted(node_id=NODE, before=NodeState.PENDING, forget_clock=False),
    labelled("a"),
    judged(NodeState.TRUSTED, "first", ["old"]),
    issued(LEASE),
    added(1),
)
CONCURRENT: dict[str, Any] = {
    "another node enrols": enrolled(node_id=OTHER_NODE, ek_name=b"other"),
    "enrols again": enrolled(
        ak_name=b"another", certificate_sha256=bytes([9]) * 32, state=NodeState.STALE, reason="again"
    ),
    "enrols once more": enrolled(
        ak_name=b"yet another", certificate_sha256=bytes([8]) * 32, hostname="renamed", state=NodeState.STALE
    ),
    "judged trusted": judged(NodeState.TRUSTED, "second", ["old"]),
    "judged trusted by the new golden": judged(NodeState.TRUSTED, "", ["new", "old"]),
    "judged untrusted": judged(NodeState.UNTRUSTED, "third"),
    "judged stale": judged(NodeState.STALE, "", ["old"], reason="late"),
    "judged quarantined": judged(NodeState.QUARANTINED, "third", reason="the clock ran backwards"),
    "admitted": acts.NodeAdmitted(node_id=NODE, before=NodeState.QUARANTINED, forget_clock=False),
    "quarantined": acts.NodeQuarantined(node_id=NODE, reason="odd"),
    "retired": acts.NodeRetired(node_id=NODE, reason="sold"),
    "labelled b": labelled("b"),
    "labelled c": labelled("c"),
    "renewed": acts.CertificateRenewed(**certified(1, 2), request_sha256=bytes(32), quote_sha256=bytes(32)),
    "certificate used": acts.CertificateReplaced(**certified(2)),
    "lease issued": issued(SECOND),
    "that lease ended": ended(SECOND, EndCause.REVOCATION),
    "lease ended by distrust": ended(LEASE, EndCause.DISTRUST),
    "lease returned": ended(LEASE, None),
    "golden activated": activated("new"),
    "golden retired": acts.GoldenRetired(digest=OLD, name="old"),
    "golden activated again": activated("old"),
    "key revoked": acts.KeyRevoked(key_id=KEY, reason="leaked"),
    "grant withdrawn": acts.GrantWithdrawn(key_id=KEY, node_id=NODE, reason="moved"),
    "person removed": acts.PersonRemoved(name=PersonId("kim"), roles=("viewer",), certificate_sha256=bytes([1]) * 32),
    "person added again": added(2),
    "person renewed": acts.PersonRenewed(
        name=PersonId("kim"), certificate_sha256=bytes([1]) * 32, next_certificate_sha256=bytes([3]) * 32, expires=AT
    ),
    "certificate of a person replaced": acts.PersonCertificateReplaced(
        name=PersonId("kim"), certificate_sha256=bytes([3]) * 32, expires=AT
    ),
    "key policy": acts.KeyPolicySet(key_id=KEY, silence_seconds=60),
    "model retired": acts.ModelRetired(digest=MODEL, model_id=ModelId("m"), model_version=1, reason="old"),
    "release denied": acts.ReleaseDenied(node_id=NODE, model_digest=MODEL, codes=(), findings=Digest("")),
}
TAKES_TRUST = {
    "judged untrusted",
    "judged quarantined",
    "quarantined",
    "retired",
    "admitted",
    "enrols again",
    "enrols once more",
}


NEEDS = {
    "that lease ended": "lease issued",
    "golden activated again": "golden retired",
    "judged trusted by the new golden": "golden activated",
    "person added again": "person removed",
    "certificate of a person replaced": "person renewed",
}
"""What must be recorded before."""


def possible(names: Sequence[str]) -> bool:
    """Tell whether the ledger would record these acts in this order."""
    for at, name in enumerate(names):
        before = set(names[:at])
        if name == "judged stale" and before & TAKES_TRUST:
            return False
        if name in NEEDS and NEEDS[name] not in before:
            return False
        if (
            name.startswith("lease ")
            and name != "lease issued"
            and {"lease returned", "lease ended by distrust"} & before
        ):
            return False
    return True


@pytest.fixture
def recorded_on(tmp_path: Path) -> Any:
    """Record acts after :data:`PRIOR` on a database of their own, and roll them back; return all of both."""
    with made_engine(tmp_path / "db.sqlite") as engine:
        METADATA.create_all(engine)
        contents = (*(document_of(raw) for raw in FILES.values()), (MODEL, b"{}"))

        def keep(made: Any, these: Iterable[Act]) -> list[Recorded]:
            decided = Decided(None, tuple(these), DOCUMENTS, contents)  # type: ignore[arg-type]  # pairs are documents
            return list(record(made, decided, Authorship(actor="x", at=AT), MacKey(raw=bytes(32))).recorded)

        prior = run(engine.execution_options(writes=True), lambda made: keep(made, PRIOR))

        def recorded(names: Sequence[str]) -> tuple[list[Recorded], list[Recorded]]:
            with engine.execution_options(writes=True).connect() as made, made.begin() as transaction:
                after = keep(made, [CONCURRENT[name] for name in names])
                transaction.rollback()
            return prior, after

        yield recorded


def memory_of(prior: list[Recorded], later: Iterable[Recorded]) -> Memory:
    """Fold acts; before the later ones, a good round has proved more trust than is recorded."""
    memory = Memory(Policy(goldens=(), trust_seconds=120))
    memory.prepared[OLD] = GOLDENS["old"]
    for each in prior:
        fold(memory, each)
    memory.prepared |= {golden.digest: golden for golden in GOLDENS.values()}
    node = memory.nodes[NODE]
    node.trusted_until_steady, node.proved_until_steady = TRUST, PROVED
    info = ClockInfo(clock=1, reset_count=1, restart_count=1, safe=True)
    node.baseline = Baseline(clock_info=info, boot_id="boot")
    for each in later:
        fold(memory, each)
    return memory


def snapshot(memory: Memory) -> object:
    """Return all that acts decide. The end of trust of a node that is stale is progress of rounds."""
    nodes = {
        node_id: (
            node.record,
            node.recorded,
            (node.version, node.findings_version, node.identity_version, node.certificate_version, node.labels_version),
            node.goldens,
            node.leases,
            node.ending,
            node.overlay,
            node.baseline,
            None if node.state is NodeState.STALE else node.trusted_until_steady,
        )
        for node_id, node in memory.nodes.items()
    }
    rest = memory.policy, memory.ended_early, memory._active.keys(), memory._versions
    return nodes, *rest, memory.keys, memory.people, memory.certificates


PAIRS = [pair for pair in permutations(CONCURRENT, 2) if possible(pair)]


def test_every_pair_of_acts_gives_one_memory_in_either_order(recorded_on: Any) -> None:
    wrong = []
    for names in PAIRS:
        prior, (first, second) = recorded_on(names)
        if snapshot(memory_of(prior, [first, second])) != snapshot(memory_of(prior, [second, first])):
            wrong.append(names)
    assert not wrong
    assert len(PAIRS) > 500


def test_longer_runs_of_acts_give_one_memory_in_any_order(recorded_on: Any) -> None:
    chance, tried = random.Random(7), 0  # noqa: S311 - the same in every run
    while tried < 60:
        names = chance.sample(sorted(CONCURRENT), 4)
        if not possible(names):
            continue
        tried += 1
        prior, later = recorded_on(names)
        expected = snapshot(memory_of(prior, later))
        for order in permutations(later):
            assert snapshot(memory_of(prior, order)) == expected, [each.entry.act.kind for each in order]


def test_an_act_that_arrives_twice_changes_nothing(recorded_on: Any) -> None:
    for name in CONCURRENT:
        if not possible([name]) or name == "golden activated" or name.startswith(("lease", "that")):
            continue
        prior, (act,) = recorded_on([name])
        assert snapshot(memory_of(prior, [act, act])) == snapshot(memory_of(prior, [act])), name


def test_every_kind_that_people_can_see_is_among_the_pairs() -> None:
    kinds = {act.kind for act in CONCURRENT.values()}
    assert kinds >= {kind for kind in EXAMPLES if kind.partition(".")[0] in {"node", "lease", "golden"}} - {
        "node.evidence-exported"
    }


# What single acts leave


def test_memory_knows_keys_in_force_and_people(recorded_on: Any) -> None:
    prior, later = recorded_on(["key revoked", "person removed", "person added again"])
    memories = [memory_of(prior, later[:count]) for count in range(4)]
    assert [memory.keys for memory in memories] == [{KEY}, set(), set(), set()]
    people = [memory.person(PersonId("kim")) for memory in memories]
    assert [person and person.certificate_sha256[0] for person in people] == [1, 1, None, 2]


def test_memory_knows_which_certificates_speak_for_a_person(recorded_on: Any) -> None:
    prior, later = recorded_on(["person renewed", "certificate of a person replaced"])
    people = [memory_of(prior, later[:count]).person(PersonId("kim")) for count in range(3)]
    spoken = [
        person and (person.certificate_sha256[:1], (person.next_certificate_sha256 or b"")[:1]) for person in people
    ]
    assert spoken == [(b"\1", b""), (b"\1", b"\3"), (b"\3", b"")]


def test_memory_after_the_prior_acts(recorded_on: Any) -> None:
    node = memory_of(recorded_on([])[0], []).nodes[NODE]
    assert (node.state, list(node.goldens), list(node.leases)) == (NodeState.TRUSTED, [GOLDENS["old"]], [LEASE])
    assert node.record.labels == {"rack": "a"}
    assert [finding.seen for finding in node.findings] == ["first"]
    assert (node.version, node.identity_version, node.certificate_version, node.labels_version) == (3, 1, 1, 1)


TRUST_AFTER = {
    "judged trusted": PROVED,
    "judged stale": TRUST,
    "judged untrusted": 0.0,
    "judged quarantined": 0.0,
    "quarantined": 0.0,
    "retired": 0.0,
    "admitted": 0.0,
    "enrols again": 0.0,
}


@pytest.mark.parametrize("name", TRUST_AFTER)
def test_where_trust_ends_after_an_act(recorded_on: Any, name: str) -> None:
    node = memory_of(*recorded_on([name])).nodes[NODE]
    assert node.trusted_until_steady == TRUST_AFTER[name]
    assert node.trusted(TRUST - 1) == (name == "judged trusted")


def test_trust_that_was_proved_counts_once_it_is_recorded_behind_a_restriction(recorded_on: Any) -> None:
    """A store was locked: a refusal waited, then a good round; both are recorded at once."""
    node = memory_of(*recorded_on(["judged untrusted", "judged trusted"])).nodes[NODE]
    assert node.trusted(PROVED - 1)
    assert not node.trusted(PROVED)


def test_decisions_of_people_leave_findings_as_they_are(recorded_on: Any) -> None:
    for name in ("quarantined", "admitted", "retired", "enrols again"):
        node = memory_of(*recorded_on([name])).nodes[NODE]
        assert [finding.seen for finding in node.findings] == ["first"], name


def test_a_golden_that_is_retired_is_no_golden_of_a_node(recorded_on: Any) -> None:
    memory = memory_of(*recorded_on(["golden retired"]))
    assert (memory.nodes[NODE].goldens, memory.policy.goldens) == ((), ())
    memory = memory_of(*recorded_on(["golden retired", "golden activated again"]))
    assert memory.nodes[NODE].goldens == memory.policy.goldens == (GOLDENS["old"],)


def test_an_admission_forgets_the_clock_if_it_says_so(recorded_on: Any) -> None:
    prior, (admitted,) = recorded_on(["admitted"])
    assert memory_of(prior, [admitted]).nodes[NODE].baseline is not None
    act = replace(CONCURRENT["admitted"], forget_clock=True)
    forgetting = admitted._replace(entry=replace(admitted.entry, act=act))
    assert memory_of(prior, [forgetting]).nodes[NODE].baseline is None


def test_a_fresh_certificate_takes_the_place_of_the_last_one_with_its_use(recorded_on: Any) -> None:
    prior, later = recorded_on(["renewed", "certificate used"])
    record = memory_of(prior, later[:1]).nodes[NODE].record
    assert (record.certificate_sha256, record.next_certificate_sha256) == (bytes([1]) * 32, bytes([2]) * 32)
    record = memory_of(prior, later).nodes[NODE].record
    assert (record.certificate_sha256, record.next_certificate_sha256) == (bytes([2]) * 32, None)


def test_enrolling_again_keeps_labels_and_takes_a_new_key(recorded_on: Any) -> None:
    prior, later = recorded_on(["enrols again"])
    node = memory_of(prior, later).nodes[NODE]
    assert (node.record.ak_name, node.record.labels) == (b"another", {"rack": "a"})
    assert node.record.certificate_sha256 == bytes([9]) * 32
    assert node.record.next_certificate_sha256 is None


class FakeStream:
    """Writes down what the node is told."""

    proved_on = "ipv4:192.0.2.1:5000"
    certificate_end = AT

    def __init__(self) -> None:
        self.told: list[str] = []

    def revoke(self, leases: tuple[LeaseId, ...], cause: EndCause, reason: str) -> None:
        assert reason
        self.told += [f"revoke {lease} {cause.value}" for lease in leases]

    def challenge_now(self) -> None:
        self.told.append("challenge")

    async def whole_evidence(self) -> Any:
        raise AssertionError("nobody asked")

    def close(self, error: Exception) -> None:
        assert isinstance(error, OutOfOrder)
        self.told.append("close")


TOLD = {
    "enrols again": ["close"],
    "retired": ["close"],
    "quarantined": [],
    "admitted": ["challenge"],
    "labelled b": ["challenge"],
    "golden activated": ["challenge"],
    "golden retired": ["challenge"],
    "lease ended by distrust": [f"revoke {LEASE} distrust"],
    "lease returned": [],
    "judged trusted": [],
    "renewed": [],
}


@pytest.mark.parametrize("name", TOLD)
def test_what_a_connected_node_is_told(recorded_on: Any, name: str) -> None:
    prior, (act,) = recorded_on([name])
    memory = memory_of(prior, [])
    stream = FakeStream()
    memory.nodes[NODE].stream = stream
    fold(memory, act)
    assert stream.told == TOLD[name]


@pytest.mark.parametrize("name", ["admitted", "labelled b", "retired"])
def test_an_older_act_tells_nobody_anything(recorded_on: Any, name: str) -> None:
    newer = {"labelled b": "labelled c"}.get(name, "judged untrusted")
    prior, (old, new) = recorded_on([name, newer])
    memory = memory_of(prior, [new])
    stream = FakeStream()
    memory.nodes[NODE].stream = stream
    fold(memory, old)
    assert stream.told == []


# Leases and restrictions that are not recorded yet


def in_force(memory: Memory, act: Any) -> Restriction:
    restriction = Restriction(act=act, actor="person/kim", at=AT, salt=bytes(16))
    put_in_force(memory, restriction)
    return restriction


RESTRICTING = {
    "node": acts.NodeQuarantined(node_id=NODE, reason="odd"),
    "key": acts.KeyRevoked(key_id=KEY, reason="leaked"),
    "grant": acts.GrantWithdrawn(key_id=KEY, node_id=NODE, reason="moved"),
    "model": acts.ModelRetired(digest=MODEL, model_id=ModelId("m"), model_version=1, reason="old"),
}


@pytest.mark.parametrize("act", RESTRICTING.values(), ids=RESTRICTING)
def test_a_lease_that_a_restriction_meets_on_its_way_never_runs(recorded_on: Any, act: Act) -> None:
    prior, (lease, over) = recorded_on(["lease issued", "that lease ended"])
    memory = memory_of(prior, [])
    in_force(memory, act)
    fold(memory, lease)
    node = memory.nodes[NODE]
    assert SECOND not in node.leases
    assert SECOND in node.ending
    fold(memory, over)
    assert SECOND not in node.ending
    assert memory.ended_early == set()


@pytest.mark.parametrize(
    "act",
    [acts.KeyRevoked(key_id=KeyId("other"), reason=""), acts.NodeQuarantined(node_id=OTHER_NODE, reason="")],
    ids=["another key", "another node"],
)
def test_a_restriction_of_others_ends_no_lease(recorded_on: Any, act: Act) -> None:
    prior, (lease,) = recorded_on(["lease issued"])
    memory = memory_of(prior, [])
    in_force(memory, act)
    fold(memory, lease)
    assert memory.nodes[NODE].leases.keys() == {LEASE, SECOND}


def test_no_fold_lifts_a_restriction(recorded_on: Any) -> None:
    for name in CONCURRENT:
        if not possible([name]):
            continue
        prior, (act,) = recorded_on([name])
        memory = memory_of(prior, [])
        in_force(memory, RESTRICTING["node"])
        fold(memory, act)
        node: Node = memory.nodes[NODE]
        further = isinstance(act.entry.act, acts.NodeRetired)
        assert node.state is (NodeState.RETIRED if further else NodeState.QUARANTINED), name
        assert not node.trusted(0.0), name
        assert node.proved_until_steady == 0.0, name
