"""Restrictions in force: trust and leases end before anything is recorded, and nothing wider shows through."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from nodeseal.appraisal.model import Policy
from nodeseal.causes import EndCause
from nodeseal.errors import OutOfOrder
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, KeyId, LeaseId, ModelId, NodeId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.overlay import lift, put_in_force
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.acts import VERIFIER
from nodeseal.verifier.ledger.documents import findings_document
from nodeseal.verifier.ledger.projectors import standing_after
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.nodes import NodeStanding
from support.acts import AT, KEY, MODEL, NODE, OTHER_NODE
from support.ledgers import node_record

OTHER_KEY = KeyId("other")
PLAIN, SILENT, OTHER = (LeaseId("l-" + letter * 26) for letter in "abc")
FINDINGS = findings_document([Finding(id=FindingId.PCR_MISMATCH, expected="a", seen="b")])
GOLDEN = Golden(name="g", pcrs={HashAlg.SHA256: {0: frozenset({bytes(32)})}})
QUARANTINED = acts.NodeQuarantined(node_id=NODE, reason="odd")
RETIRED = acts.NodeRetired(node_id=NODE, reason="sold")
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


class FakeStream:
    """Writes down what the node is told."""

    proved_on = "ipv4:192.0.2.1:5000"
    certificate_end = AT

    def __init__(self) -> None:
        self.told: list[str] = []

    def revoke(self, leases: tuple[LeaseId, ...], cause: EndCause, reason: str) -> None:
        self.told += [f"{lease} {cause.value} {reason}" for lease in leases]

    def challenge_now(self) -> None:
        self.told.append("challenge")

    async def whole_evidence(self) -> Any:
        raise AssertionError("nobody asked")

    def close(self, error: Exception) -> None:
        assert isinstance(error, OutOfOrder)
        self.told.append("close")


def restriction_of(act: Any, actor: str = "person/kim") -> Restriction:
    documents = (FINDINGS.document,) if act is UNTRUSTED else ()
    return Restriction(act=act, actor=actor, at=AT, salt=bytes(16), documents=documents)


def lease(lease_id: LeaseId, key_id: KeyId = KEY, silence_seconds: int = 0) -> LeaseRecord:
    return LeaseRecord(
        lease_id=lease_id,
        node_id=NODE,
        key_id=key_id,
        model_digest=MODEL,
        issued=AT,
        silence_seconds=silence_seconds,
    )


@pytest.fixture
def memory() -> Memory:
    """Two trusted nodes; the first has three leases and a stream."""
    made = Memory(Policy(goldens=(), trust_seconds=120))
    made.load_golden(GOLDEN, 1)
    for node_id in (NODE, OTHER_NODE):
        node = made.nodes[node_id] = Node(node_record(node_id), NodeStanding(state=NodeState.TRUSTED, trusted_until=AT))
        node.trusted_until_steady, node.proved_until_steady = 100.0, 110.0
    held = (lease(PLAIN), lease(SILENT, silence_seconds=60), lease(OTHER, OTHER_KEY))
    made.nodes[NODE].leases = {each.lease_id: each for each in held}
    made.nodes[NODE].stream = FakeStream()
    return made


def told(memory: Memory) -> list[str]:
    stream = memory.nodes[NODE].stream
    assert isinstance(stream, FakeStream)
    return stream.told


@pytest.mark.parametrize(
    ("act", "state"),
    [
        (UNTRUSTED, NodeState.UNTRUSTED),
        (QUARANTINED, NodeState.QUARANTINED),
        (RETIRED, NodeState.RETIRED),
        (replace(UNTRUSTED, state=NodeState.QUARANTINED, codes=(), findings=Digest("")), NodeState.QUARANTINED),
    ],
)
def test_distrust_ends_trust_and_all_leases_at_once(memory: Memory, act: Any, state: NodeState) -> None:
    put_in_force(memory, restriction_of(act))
    node = memory.nodes[NODE]
    assert (node.state, set(node.leases), set(node.ending)) == (state, set(), {PLAIN, SILENT, OTHER})
    assert (node.trusted_until_steady, node.proved_until_steady) == (0.0, 0.0)
    assert node.recorded.state is NodeState.TRUSTED  # the log says nothing yet
    assert [line for line in told(memory) if "distrust" in line] == [
        f"{each} distrust {told(memory)[0].split(' ', 2)[2]}" for each in (PLAIN, SILENT, OTHER)
    ]
    assert memory.nodes[OTHER_NODE].trusted(99.0)


def test_why_leases_end(memory: Memory) -> None:
    put_in_force(memory, restriction_of(UNTRUSTED))
    assert told(memory)[0] == f"{PLAIN} distrust untrusted: pcr.mismatch"
    assert [finding.seen for finding in memory.nodes[NODE].findings] == ["b"]


def test_people_who_quarantine_leave_findings_as_they_are(memory: Memory) -> None:
    put_in_force(memory, restriction_of(UNTRUSTED))
    put_in_force(memory, restriction_of(QUARANTINED))
    assert memory.nodes[NODE].reason == "odd"
    assert [finding.seen for finding in memory.nodes[NODE].findings] == ["b"]


def test_a_quarantine_says_why(memory: Memory) -> None:
    put_in_force(memory, restriction_of(QUARANTINED))
    assert told(memory)[0] == f"{PLAIN} distrust quarantined: odd"


def test_a_node_that_is_retired_is_sent_away(memory: Memory) -> None:
    put_in_force(memory, restriction_of(RETIRED))
    assert told(memory)[-1] == "close"


def test_silence_ends_leases_that_do_not_survive_it_and_leaves_the_end_of_trust(memory: Memory) -> None:
    put_in_force(memory, restriction_of(STALE, VERIFIER))
    node = memory.nodes[NODE]
    assert (node.state, set(node.leases), set(node.ending)) == (NodeState.STALE, {SILENT}, {PLAIN, OTHER})
    assert node.trusted_until_steady == 100.0
    assert told(memory) == [f"{each} silence stale: late" for each in (PLAIN, OTHER)]
    assert not node.trusted(0.0)


def test_the_newest_restriction_is_what_shows(memory: Memory) -> None:
    first, second = restriction_of(STALE, VERIFIER), restriction_of(UNTRUSTED, VERIFIER)
    put_in_force(memory, first)
    put_in_force(memory, second)
    assert memory.nodes[NODE].state is NodeState.UNTRUSTED
    lift(memory, first)
    assert memory.nodes[NODE].state is NodeState.UNTRUSTED
    lift(memory, second)
    assert memory.nodes[NODE].overlay == ()
    assert memory.nodes[NODE].state is NodeState.TRUSTED


RANK = {NodeState.UNTRUSTED: 0, NodeState.STALE: 0, NodeState.QUARANTINED: 1, NodeState.RETIRED: 2}


@pytest.mark.parametrize("order", list(permutations([STALE, UNTRUSTED, QUARANTINED, RETIRED])))
def test_no_restriction_hides_one_that_only_a_person_ends(memory: Memory, order: tuple[Any, ...]) -> None:
    highest = 0
    for act in order:
        put_in_force(memory, restriction_of(act))
        state = memory.nodes[NODE].state
        assert RANK[state] >= highest
        highest = RANK[state]
    assert memory.nodes[NODE].state is NodeState.RETIRED
    assert memory.nodes[NODE].reason == "sold"


@pytest.mark.parametrize("decided", [QUARANTINED, RETIRED])
def test_a_restriction_that_waits_hides_none_that_is_recorded_before_it(memory: Memory, decided: Any) -> None:
    """On a nearly full disk only what people decide is recorded; a judgement before it waits."""
    node, first, second = memory.nodes[NODE], restriction_of(UNTRUSTED, VERIFIER), restriction_of(decided)
    put_in_force(memory, first)
    put_in_force(memory, second)
    node.recorded = standing_after(decided, ())
    lift(memory, second)
    assert (node.state, node.reason) == (node.recorded.state, decided.reason)
    lift(memory, first)
    assert node.state is node.recorded.state


@pytest.mark.parametrize("state", [NodeState.PENDING, NodeState.QUARANTINED, NodeState.RETIRED])
def test_a_judgement_leaves_what_only_a_person_ends(memory: Memory, state: NodeState) -> None:
    node = memory.nodes[NODE]
    node.recorded = NodeStanding(state=state, reason="a person said so")
    put_in_force(memory, restriction_of(UNTRUSTED))
    assert (node.state, node.reason) == (state, "a person said so")
    assert [finding.seen for finding in node.findings] == ["b"]


def test_a_restriction_of_a_node_that_is_not_enrolled_is_no_error(memory: Memory) -> None:
    unknown = restriction_of(acts.NodeQuarantined(node_id=NodeId("n-" + "z" * 26), reason=""))
    put_in_force(memory, unknown)
    lift(memory, unknown)


# Keys, grants, models, goldens

REVOKED = acts.KeyRevoked(key_id=KEY, reason="leaked")
WITHDRAWN = acts.GrantWithdrawn(key_id=KEY, node_id=NODE, reason="moved")


@pytest.mark.parametrize("act", [REVOKED, WITHDRAWN])
def test_leases_of_a_key_end_and_others_go_on(memory: Memory, act: Any) -> None:
    memory.nodes[OTHER_NODE].leases = {PLAIN: lease(PLAIN)}
    put_in_force(memory, restriction_of(act))
    node = memory.nodes[NODE]
    assert (set(node.leases), set(node.ending)) == ({OTHER}, {PLAIN, SILENT})
    assert told(memory) == [f"{each} revocation key llama revoked: {act.reason}" for each in (PLAIN, SILENT)]
    assert node.trusted(99.0)
    assert bool(memory.nodes[OTHER_NODE].leases) == (act is WITHDRAWN)


def test_leases_of_a_retired_model_end_on_every_node_and_others_go_on(memory: Memory) -> None:
    other = replace(lease(OTHER), model_digest=Digest("sha256:" + "77" * 32))
    memory.nodes[NODE].leases = {PLAIN: lease(PLAIN), OTHER: other}
    memory.nodes[OTHER_NODE].leases = {SILENT: lease(SILENT)}
    put_in_force(memory, restriction_of(WITHHELD[f"model/{MODEL}"]))
    assert (set(memory.nodes[NODE].leases), set(memory.nodes[OTHER_NODE].leases)) == ({OTHER}, set())
    assert told(memory) == [f"{PLAIN} revocation model m version 1 retired: "]
    assert memory.nodes[NODE].trusted(99.0)


WITHHELD = {
    f"key/{KEY}": REVOKED,
    f"grant/{KEY}/{NODE}": WITHDRAWN,
    f"model/{MODEL}": acts.ModelRetired(digest=MODEL, model_id=ModelId("m"), model_version=1, reason=""),
    f"golden/{GOLDEN.digest}": acts.GoldenRetired(digest=GOLDEN.digest, name="g"),
}


@pytest.mark.parametrize(("subject", "act"), list(WITHHELD.items()))
def test_what_is_withheld_is_known_by_its_subject_until_it_is_lifted(memory: Memory, subject: str, act: Any) -> None:
    restriction = restriction_of(act)
    put_in_force(memory, restriction)
    assert memory.withheld(["node/x", subject]) is restriction
    assert memory.withheld([each for each in WITHHELD if each != subject]) is None
    lift(memory, restriction)
    assert memory.withheld(WITHHELD) is None


def test_a_golden_that_is_withheld_judges_nobody_and_all_are_challenged(memory: Memory) -> None:
    restriction = restriction_of(WITHHELD[f"golden/{GOLDEN.digest}"])
    put_in_force(memory, restriction)
    assert list(memory.policy.goldens) == []
    assert told(memory) == ["challenge"]
    lift(memory, restriction)
    assert list(memory.policy.goldens) == [GOLDEN]
    assert told(memory) == ["challenge"] * 2


def test_two_restrictions_of_one_thing_hold_until_both_are_lifted(memory: Memory) -> None:
    first, second = restriction_of(REVOKED), restriction_of(replace(REVOKED, reason="again"))
    put_in_force(memory, first)
    put_in_force(memory, second)
    lift(memory, first)
    assert memory.withheld([f"key/{KEY}"]) is second
    lift(memory, second)
    assert memory.withheld([f"key/{KEY}"]) is None
