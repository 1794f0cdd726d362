"""Memory: active goldens, versions, and who is challenged when they change."""

from __future__ import annotations

from nodeseal.appraisal.model import Policy
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.fleet.memory import Memory
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.leaf import Entry
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.nodes import NodeStanding
from support.acts import AT, EXAMPLES, GOLDEN, KEY, NODE
from support.ledgers import node_record

FIRST, SECOND = (
    Golden(name=name, pcrs={HashAlg.SHA256: {0: frozenset({bytes([number]) * 32})}})
    for number, name in enumerate(("first", "second"))
)


class Challenged:
    """Counts challenges."""

    count = 0

    def challenge_now(self) -> None:
        self.count += 1


def memory_with_a_node() -> tuple[Memory, Node, Challenged]:
    memory, stream = Memory(Policy(goldens=(), trust_seconds=120)), Challenged()
    standing = NodeStanding(state=NodeState.TRUSTED, goldens=(SECOND.digest, FIRST.digest))
    node = memory.nodes[NODE] = Node(node_record(), standing)
    node.stream = stream  # type: ignore[assignment]  # all of a stream that goldens need
    return memory, node, stream


def entry(version: int) -> Entry:
    return Entry(act=EXAMPLES["golden.retired"], actor="x", at=AT, versions={f"golden/{GOLDEN}": version}, salt=b"")


def test_only_a_later_version_is_newer() -> None:
    memory = Memory(Policy(goldens=(), trust_seconds=120))
    subject = f"golden/{GOLDEN}"
    assert [memory.is_newer(subject, entry(version)) for version in (2, 2, 1, 3, 3)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_names_that_are_loaded_have_the_versions_of_their_rows() -> None:
    memory = Memory(Policy(goldens=(), trust_seconds=120))
    memory.load_names((), (KEY,), {f"golden/{GOLDEN}": 2})
    assert memory.keys == {KEY}
    assert not memory.is_newer(f"golden/{GOLDEN}", entry(2))


def test_a_golden_that_is_loaded_has_the_version_of_its_row() -> None:
    memory, _, _ = memory_with_a_node()
    memory.load_golden(FIRST, 4)
    subject = f"golden/{FIRST.digest}"
    made = Entry(act=EXAMPLES["golden.retired"], actor="x", at=AT, versions={subject: 4}, salt=b"")
    assert not memory.is_newer(subject, made)
    assert memory.policy.goldens == (FIRST,)


def test_the_policy_has_goldens_by_digest_in_whatever_order_they_came() -> None:
    orders = []
    for goldens in ((FIRST, SECOND), (SECOND, FIRST)):
        memory, _, _ = memory_with_a_node()
        for golden in goldens:
            memory.load_golden(golden, 1)
        orders.append(memory.policy.goldens)
    assert orders[0] == orders[1] == tuple(sorted((FIRST, SECOND), key=lambda golden: golden.digest))


def test_a_node_has_those_of_its_goldens_that_are_active_in_the_order_of_its_judgement() -> None:
    memory, node, _ = memory_with_a_node()
    memory.load_golden(FIRST, 1)
    assert list(node.goldens) == [FIRST]
    memory.load_golden(SECOND, 1)
    assert list(node.goldens) == [SECOND, FIRST]
    memory.retire(SECOND.digest)
    assert list(node.goldens) == [FIRST]


def test_a_change_challenges_every_connected_node_once() -> None:
    memory, _, stream = memory_with_a_node()
    memory.nodes[NODE + "x"] = Node(node_record(), NodeStanding(state=NodeState.STALE))  # type: ignore[index]  # away
    memory.load_golden(FIRST, 1)
    assert stream.count == 1
    memory.retire(SECOND.digest)  # was not active
    assert stream.count == 1
    memory.retire(FIRST.digest)
    assert stream.count == 2
    assert memory.policy.goldens == ()
    assert memory.policy.trust_seconds == 120
