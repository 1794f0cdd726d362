"""Key release: the data key of a registered model, to a node that proves its state in the same exchange (DESIGN §7).

Whether the node may have the key is decided three times by one function: when it asks, so that a hopeless request
costs no TPM time; when its proof holds, to choose the slot; and in the transaction that records the lease, because
people may have changed their minds by then. The act is on disk before the answer is made. Denials are
recorded too, with all their findings.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
import structlog

from nodeseal.appraisal.release import policy_selection
from nodeseal.crypto.hpke import Wrapped, uncompressed_point, wrap_for_release
from nodeseal.crypto.secret import wipe
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, TooManyRequests, Unavailable
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.release_context import ReleaseContext, encode_release_context
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, LeaseId, NodeId, lease_id_of
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.keys.keystore import HeldKey, KeyStore
from nodeseal.verifier.ledger.acts import VERIFIER, LeaseIssued, ReleaseDenied
from nodeseal.verifier.ledger.decided import Decided, Recorded
from nodeseal.verifier.ledger.documents import findings_document
from nodeseal.verifier.ledger.restrictions import lease_ends
from nodeseal.verifier.ledger.tree.explained import release_places
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
from nodeseal.verifier.release.lease_start import LeaseStart, golden_digests
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.store.leases import running_leases
from nodeseal.verifier.store.policy import ReleaseFacts, read_facts

_LEASE_RANDOM: Final = 32
_NO_GOLDEN: Final = Finding(id=FindingId.GOLDEN_NONE, expected="at least one active golden", seen="none")
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
    silence_seconds: int


class Releases:
    """Gives data keys out and takes leases back."""

    def __init__(self, fleet: Fleet, rounds: Rounds, keys: KeyStore, limit: RateLimit) -> None:
        self._fleet: Final = fleet
        self._rounds: Final = rounds
        self._keys: Final = keys
        self._limit: Final = limit
        self._unrecorded: dict[NodeId, int] = {}

    async def begin(self, node: Node, channel: Channel, wanted: Wanted, banks: tuple[int, ...] = ()) -> Request:
        """Check that the node may have the key, and challenge the node.

        Args:
            node: who asks.
            channel: what its quote is bound to.
            wanted: the model and its slots.
            banks: the PCR banks that the node says its TPM has; empty: it does not say.

        Raises:
            TooManyRequests: the node asks too often.
            PolicyRefused: it may not have the key; carries every finding.
            Unavailable: the store cannot be asked now, or the golden that the node matched was retired a moment ago.
        """
        self._limit.take(node.record.node_id, self._fleet.clock.steady())
        findings = [*state_findings(node, self._fleet.clock.steady()), *epoch_findings(node)]
        findings += (await self._entitlement(node, wanted)).findings
        if not self._fleet.policy.goldens:
            findings.append(_NO_GOLDEN)
        if findings:
            raise await self._denied(node, wanted, PolicyRefused(*findings), proved=False)
        if not node.goldens:
            raise Unavailable("the node has not proved its state by a golden that is active now", remedy="ask again")
        asked = self._rounds.ask(node, Purpose.RELEASE, channel, banks=banks)
        try:
            selection = policy_selection(node.goldens, asked.challenge.selection)
        except PolicyRefused as error:
            raise await self._denied(node, wanted, error, proved=False) from error
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
            raise await self._denied(node, wanted, error, proved=isinstance(error, PolicyRefused)) from error
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

        await self._end(node, lease_ids, node.actor, "returned")

    async def _entitlement(self, node: Node, wanted: Wanted) -> Entitlement:
        node_id, explained = node.record.node_id, self._fleet.ledger.explained

        def read(connection: sa.Connection) -> ReleaseFacts:
            explained.require(connection, release_places(node_id, wanted.model_digest, wanted.key_ids))
            return read_facts(connection, wanted.model_digest, wanted.key_ids, node_id)

        return entitle(await self._fleet.store.read(read), wanted, lease_rule(node_id))

    async def _approve(self, request: Request, proof: ReleaseProof, began: float | None) -> Approved:
        outcome = await self._rounds.conclude(request.node, proof.evidence, request.asked, began)
        return approve(request, proof, outcome, self._fleet.clock.steady())

    async def _open(self, choice: Choice, model: Digest) -> bytearray:
        held = HeldKey(choice.key.model_key, choice.key.place)
        return await asyncio.to_thread(self._keys.open_slot, held, model, choice.slot.sealed)

    async def _release(self, request: Request, approved: Approved, choice: Choice, data_key: bytearray) -> Released:
        node, key = request.node, choice.key
        lease_id = lease_id_of(secrets.token_bytes(_LEASE_RANDOM))
        start = LeaseStart(lease_id=lease_id, request=request, approved=approved, choice=choice)
        try:
            committed = await self._fleet.ledger.commit(node.actor, start.decide, share=node.record.node_id)
            await self._require_running(node, lease_id)
        except PolicyRefused as error:
            raise await self._denied(node, request.wanted, error, proved=True) from error
        issued = committed.recorded[-1]
        context = _context(approved, request.wanted.model_digest, choice, issued)
        point = uncompressed_point(approved.release_key.x, approved.release_key.y)
        released = Released(
            lease_id=lease_id,
            context=context,
            sealed=wrap_for_release(point, context, data_key),
            trusted_until=node.trusted_until,
            trusted_for_ms=approved.trusted_for_ms,
            silence_seconds=node.leases[lease_id].silence_seconds,
        )
        _log.info("key released", node=node.record.node_id, lease=lease_id, key=key.key_id)
        return released

    async def _require_running(self, node: Node, lease_id: LeaseId) -> None:
        """Refuse, and end, a lease that a restriction overtook as it was recorded: its data key goes nowhere."""
        now = self._fleet.clock.steady()
        if lease_id in node.leases and node.trusted(now):
            return
        await self._end(node, (lease_id,), VERIFIER, "its data key was not released")
        found = Finding(
            id=FindingId.RELEASE_STATE, expected="trusted", seen=node.state_at(now).value, where=node.record.node_id
        )
        raise PolicyRefused(found)

    async def _end(self, node: Node, lease_ids: tuple[LeaseId, ...], actor: str, reason: str) -> None:
        """Record the end of those leases that the node holds, without force."""

        def decide(connection: sa.Connection) -> Decided[None]:
            running = running_leases(connection, node.record.node_id)
            ended = (lease for lease in running if lease.lease_id in lease_ids)
            return Decided(None, tuple(lease_ends(ended, None, reason)))

        await self._fleet.ledger.commit(actor, decide)

    async def _denied(
        self, node: Node, wanted: Wanted, error: ProofFailed | PolicyRefused, *, proved: bool
    ) -> NodesealError:
        """Record a refusal and return it.

        Args:
            node: who asked.
            wanted: what it asked for.
            error: why it may not have it.
            proved: whether the node's TPM has proved that this node asked.
        """
        node_id = node.record.node_id
        codes, findings = findings_document(error.findings)
        act = ReleaseDenied(
            node_id=node_id,
            model_digest=wanted.model_digest,
            codes=codes,
            findings=findings.digest,
            unrecorded=self._unrecorded.get(node_id, 0),
        )
        try:
            await self._fleet.ledger.commit(
                node.actor, lambda _: Decided(None, (act,), (findings,)), share=node_id, proved=proved
            )
        except TooManyRequests:
            self._unrecorded[node_id] = self._unrecorded.get(node_id, 0) + 1
        else:
            self._unrecorded.pop(node_id, None)
        return error


def _context(approved: Approved, model_digest: Digest, choice: Choice, issued: Recorded) -> bytes:
    """Return what the wrapping is bound to."""
    act = issued.entry.act
    if not isinstance(act, LeaseIssued):
        raise TypeError(f"{act.kind} starts no lease")
    return encode_release_context(
        ReleaseContext(
            audit_leaf=issued.leaf,
            goldens=golden_digests(approved.appraisal),
            key_id=choice.key.key_id,
            key_version=choice.key.version,
            lease_id=act.lease_id,
            model_digest=model_digest,
            node_id=act.node_id,
        )
    )
