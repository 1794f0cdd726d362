"""Key release: the data key of a registered model, to a node that proves its state in the same exchange (DESIGN §7).

Whether the node may have the key is decided three times by one function: when it asks, so that a hopeless request
costs no TPM time; when its proof holds, to choose the slot; and in the transaction that records the lease, because
people may have changed their minds by then. The audit record is on disk before the answer is made. Denials are
recorded too, with all their findings.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from nodeseal.appraisal.release import policy_selection
from nodeseal.crypto.hpke import Wrapped, uncompressed_point, wrap_for_release
from nodeseal.crypto.secret import wipe
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.release_context import ReleaseContext, encode_release_context
from nodeseal.ids import Digest, LeaseId, lease_id_of
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import record_ends
from nodeseal.verifier.keys.keystore import HeldKey, KeyStore
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.release.approval import (
    Approved,
    ReleaseProof,
    Request,
    approve,
    epoch_findings,
    state_findings,
)
from nodeseal.verifier.release.entitlement import Choice, Entitlement, Wanted, entitle, lease_rule
from nodeseal.verifier.release.lease_start import golden_digests, lease_start
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.store.leases import LeaseRecord
from nodeseal.verifier.store.policy import KeyRecord, read_facts
from nodeseal.wire.findings import plain_findings

_LEASE_RANDOM: Final = 32
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A data key on its way to a node.

    Attributes:
        lease_id: of the lease that begins.
        context: what the wrapping is bound to, as canonical JSON.
        sealed: the data key, wrapped to the release key.
        trusted_until: end of the node's trust.
        trusted_for_ms: the same, counted from when the node received the challenge.
        silence_seconds: how long the lease outlives the node's trust while nothing is heard; 0: not at all.
    """

    lease_id: LeaseId
    context: bytes
    sealed: Wrapped
    trusted_until: datetime | None
    trusted_for_ms: int
    silence_seconds: int = 0


class Releases:
    """Gives data keys out and takes leases back."""

    def __init__(self, fleet: Fleet, rounds: Rounds, keys: KeyStore, limit: RateLimit) -> None:
        self._fleet: Final = fleet
        self._rounds: Final = rounds
        self._keys: Final = keys
        self._limit: Final = limit

    async def begin(self, node: Node, channel: Channel, wanted: Wanted) -> Request:
        """Check that the node may have the key, and challenge the node.

        Raises:
            TooManyRequests: the node asks too often.
            PolicyRefused: it may not have the key; carries every finding.
            Unavailable: the store cannot be asked now, or the verifier has just started and knows no values.
        """
        self._limit.take(node.record.node_id, self._fleet.clock.steady())
        findings = [*state_findings(node, self._fleet.clock.steady()), *epoch_findings(node)]
        findings += (await self._entitlement(node, wanted)).findings
        if findings:
            raise await self._denied(node, wanted, PolicyRefused(*findings))
        if not node.goldens:
            raise Unavailable("the node has not proved its state since the verifier started", remedy="ask again")
        asked = self._rounds.ask(node, Purpose.RELEASE, channel)
        selection = policy_selection(node.goldens, asked.challenge.selection)
        return Request(node=node, wanted=wanted, asked=asked, policy=selection)

    async def finish(self, request: Request, proof: ReleaseProof, began: float | None = None) -> Released:
        """Check the proof, record the lease, then wrap the data key to the release key.

        Args:
            request: what was asked.
            proof: the answer.
            began: steady time when its first message arrived, which may have been one with logs; None: now.

        Raises:
            ProofFailed: evidence or certification do not hold, or the slot does not open.
            PolicyRefused: what they prove is not allowed; carries every finding.
            Unavailable: it cannot be recorded now, or all logs must be sent again; nothing is released.
        """
        node, wanted = request.node, request.wanted
        try:
            approved = await self._approve(request, proof, began)
            choice = (await self._entitlement(node, wanted)).require()
            data_key = await self._open(choice, wanted.model_digest)
        except (ProofFailed, PolicyRefused) as error:
            raise await self._denied(node, wanted, error) from error
        try:
            return await self._release(request, approved, choice, data_key)
        finally:
            wipe(data_key)

    async def give_back(self, node: Node, lease_ids: tuple[LeaseId, ...]) -> None:
        """End leases whose keys the node says it has forgotten; unknown ids are ignored.

        Raises:
            Unavailable: it cannot be recorded now.
        """
        if node.leases.keys().isdisjoint(lease_ids):
            return

        def prepare() -> Transaction[None]:
            ended = tuple(node.leases[lease] for lease in dict.fromkeys(lease_ids) if lease in node.leases)
            at = self._fleet.clock.wall()

            def effect(_: None) -> None:
                for lease in ended:
                    node.leases.pop(lease.lease_id, None)

            return Transaction(
                work=lambda connection: record_ends(connection, ended, node.actor, "returned", at), effect=effect
            )

        await self._fleet.transact(prepare)

    async def _entitlement(self, node: Node, wanted: Wanted) -> Entitlement:
        rule = lease_rule(node.record.node_id)
        facts = await self._fleet.store.read(
            lambda connection: read_facts(connection, wanted.model_digest, wanted.key_ids)
        )
        return entitle(facts, wanted, rule)

    async def _approve(self, request: Request, proof: ReleaseProof, began: float | None) -> Approved:
        outcome = await self._rounds.conclude(request.node, proof.evidence, request.asked, began)
        return approve(request, proof, outcome, self._fleet.clock.steady())

    async def _open(self, choice: Choice, model: Digest) -> bytearray:
        held = HeldKey(choice.key.model_key, choice.key.place)
        return await asyncio.to_thread(self._keys.open_slot, held, model, choice.slot.sealed)

    async def _release(self, request: Request, approved: Approved, choice: Choice, data_key: bytearray) -> Released:
        node, key = request.node, choice.key
        lease = LeaseRecord(
            lease_id=lease_id_of(secrets.token_bytes(_LEASE_RANDOM)),
            node_id=node.record.node_id,
            key_id=key.key_id,
            model_digest=request.wanted.model_digest,
            issued=self._fleet.clock.wall(),
        )
        try:
            leaf = await self._fleet.transact(lambda: lease_start(self._fleet, request, approved, choice, lease))
        except PolicyRefused as error:
            raise await self._denied(node, request.wanted, error) from error
        context = _context(approved, key, lease, leaf)
        point = uncompressed_point(approved.release_key.x, approved.release_key.y)
        released = Released(
            lease_id=lease.lease_id,
            context=context,
            sealed=wrap_for_release(point, context, data_key),
            trusted_until=node.trusted_until,
            trusted_for_ms=approved.trusted_for_ms,
        )
        _log.info("key released", node=lease.node_id, lease=lease.lease_id, model=lease.model_digest, key=key.key_id)
        return released

    async def _denied(self, node: Node, wanted: Wanted, error: ProofFailed | PolicyRefused) -> NodesealError:
        record = audit.Record(
            time=self._fleet.clock.wall(),
            actor=node.actor,
            action="release.denied",
            subject=f"model/{wanted.model_digest}",
            details={"findings": plain_findings(error.findings)},
        )
        await self._fleet.store.write(lambda connection: audit.append(connection, record))
        return error


def _context(approved: Approved, key: KeyRecord, lease: LeaseRecord, leaf: bytes) -> bytes:
    """Return what the wrapping is bound to."""
    return encode_release_context(
        ReleaseContext(
            audit_leaf=Digest(leaf.hex()),
            goldens=golden_digests(approved.appraisal),
            key_id=key.key_id,
            key_version=key.version,
            lease_id=lease.lease_id,
            model_digest=lease.model_digest,
            node_id=lease.node_id,
        )
    )
