"""What a verifier keeps in memory of its log: nodes, active goldens, names of people and keys, waiting restrictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from nodeseal.appraisal.model import Policy
from nodeseal.golden.model import Golden
from nodeseal.governance.rules import SOLO, Rules
from nodeseal.ids import Digest, KeyId, LeaseId, NodeId, PersonId
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import golden_subject, person_subject
from nodeseal.verifier.ledger.leaf import Entry
from nodeseal.verifier.ledger.restrictions import Restriction
from nodeseal.verifier.store.persons import Person

CERTIFICATE: Final = "#certificate"
"""Aspect of a person: their certificates change independently of whether they may operate the verifier."""

SUSPENSION: Final = "#suspension"
"""Aspect of a person: whether they are locked out."""


class CertificatesOfPerson(NamedTuple):
    """Digests of the certificates that speak for a person.

    Attributes:
        current: the one in use.
        following: the one they renewed it to, which counts alone from its first use on; None: none waits.
    """

    current: bytes
    following: bytes | None


class Memory:
    """Nodes and policy of one verifier.

    Attributes:
        nodes: every enrolled node.
        policy: what nodes are held against now.
        prepared: goldens that are about to become active, by digest, since parsing a large one takes a second.
        ended_early: leases whose end was folded before their start.
        people: who may operate the verifier, with the certificate that they came with.
        certificates: the certificates that speak for people now.
        keys: model keys in force, suspended or not.
        rules: the rules in force.
        suspended: people who are locked out.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.nodes: dict[NodeId, Node] = {}
        self.prepared: dict[Digest, Golden] = {}
        self.ended_early: set[LeaseId] = set()
        self.people: dict[PersonId, Person] = {}
        self.certificates: dict[PersonId, CertificatesOfPerson] = {}
        self.keys: set[KeyId] = set()
        self.rules: Rules = SOLO
        self.suspended: set[PersonId] = set()
        self._active: dict[Digest, Golden] = {}
        self._versions: dict[str, int] = {}
        self._withheld: list[tuple[str, Restriction]] = []

    def is_newer(self, subject: str, entry: Entry, aspect: str = "") -> bool:
        """Tell whether an act carries a later version of a subject than the last one about this aspect; remember it."""
        version, about = entry.versions[subject], subject + aspect
        if version <= self._versions.get(about, 0):
            return False
        self._versions[about] = version
        return True

    def person(self, name: PersonId) -> Person | None:
        """Return somebody who may operate the verifier, or None."""
        known, certificates = self.people.get(name), self.certificates.get(name)
        if known is None or certificates is None:
            return None
        return replace(known, certificate_sha256=certificates.current, next_certificate_sha256=certificates.following)

    def is_locked_out(self, name: PersonId) -> bool:
        """Tell whether a person is suspended, recorded or not."""
        return name in self.suspended or self.withheld((person_subject(name),)) is not None

    def load_golden(self, golden: Golden, version: int) -> None:
        """Take over a golden that is active in the database."""
        self._versions[golden_subject(golden.digest)] = version
        self.activate(golden)

    def load_names(self, people: Iterable[Person], keys: Iterable[KeyId], versions: Mapping[str, int]) -> None:
        """Take over who operates the verifier and which keys are in force in the database, with the versions there."""
        self.people = {person.name: person for person in people}
        self.certificates = {
            name: CertificatesOfPerson(person.certificate_sha256, person.next_certificate_sha256)
            for name, person in self.people.items()
        }
        self.suspended = {name for name, person in self.people.items() if person.suspended is not None}
        self.keys = set(keys)
        self._versions |= versions
        self._versions |= {
            person_subject(name) + aspect: versions.get(person_subject(name), 0)
            for name in self.people
            for aspect in (CERTIFICATE, SUSPENSION)
        }

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
