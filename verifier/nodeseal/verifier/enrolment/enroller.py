"""Enrolment: what happens between a TPM's identity and a node's certificate (DESIGN §4).

:mod:`nodeseal.verifier.enrolment.identity` decides whether an identity is acceptable. Here it is challenged once,
recorded, and given a certificate. A node that enrols again keeps its id and its state, gets a new attestation key and
loses its leases. Of two enrolments of one endorsement key at once, the one that is recorded last counts.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import sqlalchemy as sa
import structlog

from nodeseal.causes import EndCause
from nodeseal.errors import MalformedInput, PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import NodeId
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.enrolment.credential import SECRET_SIZE, CredentialChallenge
from nodeseal.verifier.enrolment.endorsement import EnrolmentPolicy
from nodeseal.verifier.enrolment.identity import Candidate, ClaimedIdentity, check_identity
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.fold import AGAIN
from nodeseal.verifier.ledger.acts import NodeEnrolled, node_subject
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.restrictions import lease_ends
from nodeseal.verifier.limits import RateLimit, Turns
from nodeseal.verifier.states import STICKY, NodeState
from nodeseal.verifier.store.leases import LeaseRecord, running_leases
from nodeseal.verifier.store.nodes import NodeFacts, NodeRecord, NodeStanding, StoredNode, find_node

_CHECKS_AT_ONCE: Final = 2
"""Identities of strangers that are checked at once, each in a thread: their signatures cost time, and OpenSSL runs
beside the event loop."""
_MAX_ADDRESSES: Final = 10_000
"""Addresses whose last check is remembered."""
_LENGTHS: Final = {"hostname": 253, "boot_id": 64, "tpm_manufacturer": 64, "tpm_firmware": 64}
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A node that has enrolled.

    Attributes:
        node_id: its id.
        trust_domain: of the verifier.
        certificate_chain: its TLS client certificate, leaf first, in DER.
    """

    node_id: NodeId
    trust_domain: str
    certificate_chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One enrolment that waits for its answer.

    Attributes:
        challenge: what was sent; takes one answer.
        facts: what the node says of itself.
    """

    challenge: CredentialChallenge
    facts: NodeFacts


def parse_facts(**texts: str) -> NodeFacts:
    """Return the facts that a node states about itself, if they print.

    Raises:
        MalformedInput: too long, or with characters that do not print; names the fact.
    """
    for name, text in texts.items():
        if len(text) > _LENGTHS[name] or not text.isprintable():
            raise MalformedInput(f"node facts: {name} is not printable text of at most {_LENGTHS[name]} characters")
    return NodeFacts(**texts)


class Enroller:
    """Enrols nodes."""

    def __init__(
        self,
        fleet: Fleet,
        certificates: Certificates,
        policy: EnrolmentPolicy,
        limit: RateLimit,
    ) -> None:
        self._fleet: Final = fleet
        self._certificates: Final = certificates
        self._policy: Final = policy
        self._limit: Final = limit
        self._turns: Final = Turns(_CHECKS_AT_ONCE)
        self._checked_at: dict[str, float] = {}
        self._threads: Final = ThreadPoolExecutor(_CHECKS_AT_ONCE, "enrolment")

    def close(self) -> None:
        """Finish the checks that have begun, and end the threads."""
        self._threads.shutdown(wait=True)

    async def begin(self, identity: ClaimedIdentity, facts: NodeFacts, address: str) -> Attempt:
        """Check an identity and challenge it.

        Args:
            identity: as it arrived.
            facts: what the node says of itself.
            address: it comes from; the address whose last check is longest ago comes next.

        Raises:
            MalformedInput: something in it does not parse.
            PolicyRefused: it is not acceptable; carries every finding. Or the node was retired.
        """
        candidate = await self._checked(identity, address)
        self._refuse_retired(candidate.node_id)
        return Attempt(CredentialChallenge(candidate, secrets.token_bytes(SECRET_SIZE)), facts)

    async def finish(self, attempt: Attempt, answer: bytes) -> Enrolled:
        """Check the answer, record the node, return its certificate.

        Raises:
            ProofFailed: ``ak.activation``: the answer is wrong.
            OutOfOrder: there was an answer before.
            TooManyRequests: this endorsement key enrols too often.
            PolicyRefused: the node was retired.
            Unavailable: it cannot be recorded now.
        """
        candidate = attempt.challenge.activate(answer)
        node_id = candidate.node_id
        self._limit.take(node_id, self._fleet.clock.steady())
        chain = self._certificates.issue(node_id, candidate.certificate_request)
        record = self._record(candidate, attempt.facts, sha256(chain[0]).digest())

        def decide(connection: sa.Connection) -> Decided[None]:
            stored, running = find_node(connection, node_id), running_leases(connection, node_id)
            return _enrolment(stored, running, record, candidate)

        await self._fleet.ledger.commit(node_subject(node_id), decide, share=node_id)
        _log.info("node enrolled", node=node_id, ak=record.ak_name.hex())
        return Enrolled(node_id=node_id, trust_domain=self._certificates.trust_domain, certificate_chain=chain)

    async def _checked(self, identity: ClaimedIdentity, address: str) -> Candidate:
        """Check an identity in a thread; of addresses that wait equally long, the smallest identity first."""
        async with self._turns.one(self._checked_at.get(address, -math.inf), identity.size):
            self._note_check(address)
            now = self._fleet.clock.wall()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, check_identity, identity, self._policy, now)

    def _note_check(self, address: str) -> None:
        if len(self._checked_at) >= _MAX_ADDRESSES:
            self._checked_at.clear()
        self._checked_at[address] = self._fleet.clock.steady()

    def _refuse_retired(self, node_id: NodeId) -> None:
        node = self._fleet.find(node_id)
        if node is not None and node.state is NodeState.RETIRED:
            raise PolicyRefused(_retired(node_id))

    def _record(self, candidate: Candidate, facts: NodeFacts, certificate_sha256: bytes) -> NodeRecord:
        return NodeRecord(
            node_id=candidate.node_id,
            ek_name=candidate.ek.name(),
            ak_name=candidate.ak.name(),
            ak_public=candidate.ak.encode(),
            certificate_sha256=certificate_sha256,
            next_certificate_sha256=None,
            facts=facts,
            enrolled=self._fleet.clock.wall(),
            tpm=candidate.tpm,
        )


def _enrolment(
    stored: StoredNode | None, running: Iterable[LeaseRecord], record: NodeRecord, candidate: Candidate
) -> Decided[None]:
    """Decide on the rows of the moment what an enrolment changes."""
    if stored is not None and stored.standing.state is NodeState.RETIRED:
        raise PolicyRefused(_retired(record.node_id))
    standing = _standing(stored)
    ended = lease_ends(running, EndCause.DISTRUST, AGAIN)
    return Decided(None, (_act(record, stored, standing, candidate), *ended))


def _standing(stored: StoredNode | None) -> NodeStanding:
    if stored is None:
        return NodeStanding(state=NodeState.PENDING)
    if stored.standing.state in STICKY:
        return stored.standing
    return NodeStanding(state=NodeState.STALE, reason=AGAIN)


def _act(record: NodeRecord, stored: StoredNode | None, standing: NodeStanding, candidate: Candidate) -> NodeEnrolled:
    facts = record.facts
    return NodeEnrolled(
        node_id=record.node_id,
        ek_name=record.ek_name,
        ek_template=candidate.ek_template,
        ek_oddities=tuple(oddity.word for oddity in candidate.endorsement.oddities),
        ek_algorithm=record.tpm.ek_algorithm,
        ak_name=record.ak_name,
        ak_public=record.ak_public,
        previous_ak_name=stored.record.ak_name if stored else b"",
        certificate_sha256=record.certificate_sha256,
        hostname=facts.hostname,
        boot_id=facts.boot_id,
        tpm_manufacturer=facts.tpm_manufacturer,
        tpm_firmware=facts.tpm_firmware,
        certified_manufacturer=record.tpm.manufacturer,
        state=standing.state,
        reason=standing.reason,
    )


def _retired(node_id: NodeId) -> Finding:
    return Finding(id=FindingId.NODE_RETIRED, expected="a node in service", seen="a retired one", where=node_id)
