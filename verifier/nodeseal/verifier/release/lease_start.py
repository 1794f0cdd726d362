"""The decision that starts a lease: on the rows of its moment, and in the log before any answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from nodeseal.appraisal.model import Appraisal
from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, LeaseId
from nodeseal.verifier.ledger.acts import LeaseIssued
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.ledger.restrictions import MAX_GOLDENS, lease_ends
from nodeseal.verifier.release.approval import Approved, Request
from nodeseal.verifier.release.entitlement import Choice, Wanted, entitle, lease_rule
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.leases import LeaseRecord, running_leases
from nodeseal.verifier.store.nodes import NodeStanding, find_node
from nodeseal.verifier.store.policy import active_digests, read_facts

_NOT_HELD: Final = "the node does not hold it any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStart:
    """A lease that is about to start.

    Attributes:
        lease_id: random.
        request: what was asked.
        approved: the proof.
        choice: the slot that was opened, and its key.
    """

    lease_id: LeaseId
    request: Request
    approved: Approved
    choice: Choice

    def decide(self, connection: sa.Connection) -> Decided[None]:
        """Decide on the rows of the moment. Leases of the key that the node does not claim end and make room.

        Raises:
            PolicyRefused: the node is not trusted any more, or has enrolled again; a golden that it matched was
                retired; people have withdrawn model, key or grant; or the node holds too many leases.
        """
        node_id, key_id = self.request.node.record.node_id, self.choice.key.key_id
        self._require_trusted(connection)
        self.require_goldens(connection)
        wanted = Wanted(model_digest=self.request.wanted.model_digest, slots=(self.choice.slot,))
        held = running_leases(connection, node_id, key_id)
        given_up = tuple(self._given_up(held))
        facts = read_facts(connection, wanted.model_digest, wanted.key_ids, node_id)
        choice = entitle(facts, wanted, lease_rule(node_id, {key_id: len(held) - len(given_up)})).require()
        ended = tuple(lease_ends(given_up, None, _NOT_HELD))
        return Decided(None, (*ended, self._act(choice.key.silence_seconds)))

    def _require_trusted(self, connection: sa.Connection) -> None:
        node = self.request.node
        stored = find_node(connection, node.record.node_id)
        standing = stored.standing if stored else NodeStanding(state=NodeState.RETIRED)
        same_key = stored is not None and stored.record.ak_name == self.request.asked.known.keys.ak_name
        if standing.state is NodeState.TRUSTED and same_key:
            return
        seen = standing.state.value if same_key else "another attestation key"
        found = Finding(id=FindingId.RELEASE_STATE, expected="trusted", seen=seen, where=node.record.node_id)
        raise PolicyRefused(found, *standing.findings)

    def require_goldens(self, connection: sa.Connection) -> None:
        """Make sure that the goldens that the evidence matched are active.

        Raises:
            PolicyRefused: one of them was retired.
        """
        retired = tuple(_golden_findings(active_digests(connection), self.approved.appraisal))
        if retired:
            raise PolicyRefused(*retired)

    def _given_up(self, held: Iterable[LeaseRecord]) -> Iterator[LeaseRecord]:
        """Yield leases that the node, asked after they started, does not claim."""
        claimed, asked = set(self.approved.appraisal.claims.leases), self.request.asked.challenge.issued
        return (lease for lease in held if lease.lease_id not in claimed and lease.issued < asked)

    def _act(self, silence_seconds: int) -> LeaseIssued:
        node, key, approved = self.request.node, self.choice.key, self.approved
        return LeaseIssued(
            lease_id=self.lease_id,
            node_id=node.record.node_id,
            ak_name=node.record.ak_name,
            model_digest=self.request.wanted.model_digest,
            key_id=key.key_id,
            key_version=key.version,
            goldens=golden_digests(approved.appraisal)[:MAX_GOLDENS],
            release_key_name=approved.release_key.name(),
            quote_sha256=approved.quote_sha256,
            trusted_until=node.trusted_until,
            silence_seconds=silence_seconds,
        )


def _golden_findings(active: frozenset[Digest], appraisal: Appraisal) -> Iterator[Finding]:
    for golden in appraisal.goldens:
        if golden.digest not in active:
            yield Finding(
                id=FindingId.RELEASE_STATE, expected="active goldens", seen="retired meanwhile", where=golden.digest
            )


def golden_digests(appraisal: Appraisal) -> tuple[Digest, ...]:
    """Return the goldens that the evidence matched, sorted."""
    return tuple(sorted(golden.digest for golden in appraisal.goldens))
