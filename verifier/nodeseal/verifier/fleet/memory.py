"""What a verifier keeps in memory of its log: nodes, active goldens, and restrictions that are not recorded yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nodeseal.appraisal.model import Policy
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, LeaseId, NodeId
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import golden_subject
from nodeseal.verifier.ledger.leaf import Entry
from nodeseal.verifier.ledger.restrictions import Restriction


class Memory:
    """Nodes and policy of one verifier.

    Attributes:
        nodes: every enrolled node.
        policy: what nodes are held against now.
        prepared: goldens that are about to become active, by digest, since parsing a large one takes a second.
        ended_early: leases whose end was folded before their start.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.nodes: dict[NodeId, Node] = {}
        self.prepared: dict[Digest, Golden] = {}
        self.ended_early: set[LeaseId] = set()
        self._active: dict[Digest, Golden] = {}
        self._versions: dict[str, int] = {}
        self._withheld: list[tuple[str, Restriction]] = []

    def is_newer(self, subject: str, entry: Entry) -> bool:
        """Tell whether an act carries a later version of a subject than the last one, and remember it."""
        version = entry.versions[subject]
        if version <= self._versions.get(subject, 0):
            return False
        self._versions[subject] = version
        return True

    def load_golden(self, golden: Golden, version: int) -> None:
        """Take over a golden that is active in the database."""
        self._versions[golden_subject(golden.digest)] = version
        self.activate(golden)

    def activate(self, golden: Golden) -> None:
        """Hold nodes against a golden, and challenge all of them."""
        self._active[golden.digest] = golden
        self._active_changed()

    def retire(self, digest: Digest) -> None:
        """Hold nodes against a golden no longer, and challenge all of them."""
        if self._active.pop(digest, None) is not None:
            self._active_changed()

    def active_of(self, digests: Iterable[Digest]) -> tuple[Golden, ...]:
        """Return those goldens that are active, in the order given."""
        return tuple(self._active[digest] for digest in digests if digest in self._active)

    def withhold(self, subject: str, restriction: Restriction) -> None:
        """Let a restriction of a key, grant, model or golden hold before it is recorded."""
        self._withheld.append((subject, restriction))
        self._policy_changed()

    def release(self, restriction: Restriction) -> None:
        """Let go of a restriction; its act speaks for itself."""
        self._withheld = [each for each in self._withheld if each[1] is not restriction]
        self._policy_changed()

    def withheld(self, subjects: Iterable[str]) -> Restriction | None:
        """Return a restriction in force of one of these subjects."""
        if not self._withheld:
            return None
        asked = set(subjects)
        return next((restriction for subject, restriction in self._withheld if subject in asked), None)

    def _active_changed(self) -> None:
        for node in self.nodes.values():
            node.goldens = self.active_of(node.recorded.goldens)
        self._policy_changed()

    def _policy_changed(self) -> None:
        active = sorted(self._active.items())
        goldens = [golden for digest, golden in active if not self.withheld((golden_subject(digest),))]
        if tuple(goldens) == self.policy.goldens:
            return
        self.policy = replace(self.policy, goldens=tuple(goldens))
        for node in self.nodes.values():
            if node.stream is not None:
                node.stream.challenge_now()
