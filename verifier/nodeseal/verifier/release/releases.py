"""Key release: the data key of a registered model, to a node that proves its state in the same exchange (DESIGN §7).

What the node asks for is checked twice: when it asks, so that a hopeless request costs no TPM time, and in the
transaction that records the lease, because people may have changed their minds in between. The audit record is on
disk before the answer is made. Denials are recorded too, with all their findings.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

import sqlalchemy as sa
import structlog

from nodeseal.appraisal.model import Appraisal
from nodeseal.appraisal.release import (
    Certification,
    check_certify,
    check_policy,
    check_release_key,
    policy_selection,
)
from nodeseal.crypto.hpke import Wrapped, uncompressed_point, wrap_for_release
from nodeseal.crypto.secret import wipe
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.evidence.release_context import ReleaseContext, encode_release_context
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, LeaseId, lease_id_of
from nodeseal.sealed.slots import Slot
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.public import EccPublic, TpmPublic
from nodeseal.verifier.fleet.exchange import Asked
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.fleet.transition import drop_leases, record_ends
from nodeseal.verifier.keys.keystore import HeldKey, KeyStore
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.release.entitlement import Wanted, refuse_unless_granted, select_slot
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.store.leases import LeaseRecord, add_lease
from nodeseal.verifier.store.policy import KeyRecord
from nodeseal.wire.findings import plain_findings

_LEASE_RANDOM: Final = 32
_NOT_HELD: Final = "the node does not hold it any more"
_VALUES_MISSING: Final = Finding(id=FindingId.PCR_DIGEST, expected="the PCR values of this boot", seen="none")
_UNMATCHED: Final = Finding(id=FindingId.RELEASE_STATE, expected="evidence that a golden matches", seen="none matches")
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A release that waits for its proof.

    Attributes:
        node: who asks.
        wanted: for what.
        asked: the challenge.
        policy: the PCRs that the release key's policy must cover.
    """

    node: Node
    wanted: Wanted
    asked: Asked
    policy: PcrSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseProof:
    """What a node answers; nothing in it is proved.

    Attributes:
        evidence: of its state.
        release_public: public area of the release key.
        certification: TPM2_Certify of it.
    """

    evidence: Evidence
    release_public: TpmPublic
    certification: Certification


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A data key on its way to a node.

    Attributes:
        lease_id: of the lease that begins.
        context: what the wrapping is bound to, as canonical JSON.
        sealed: the data key, wrapped to the release key.
        trusted_until: end of the node's trust.
        trusted_for_ms: the same, counted from when the node received the challenge.
    """

    lease_id: LeaseId
    context: bytes
    sealed: Wrapped
    trusted_until: datetime | None
    trusted_for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approved:
    """A proof that holds: the key to wrap to, and what was found out on the way."""

    release_key: EccPublic
    appraisal: Appraisal
    quote_sha256: str
    trusted_for_ms: int


class Releases:
    """Gives data keys out and takes leases back."""

    def __init__(self, fleet: Fleet, rounds: Rounds, keys: KeyStore, limit: RateLimit) -> None:
        self._fleet: Final = fleet
        self._rounds: Final = rounds
        self._keys: Final = keys
        self._limit: Final = limit

    async def begin(self, node: Node, channel: Channel, wanted: Wanted) -> Request:
        """Check what is asked for, and challenge the node.

        Raises:
            TooManyRequests: the node asks too often.
            PolicyRefused: it may not have it; carries every finding.
            Unavailable: the store cannot be asked now, or the verifier has just started and knows no values.
        """
        self._limit.take(node.record.node_id, self._fleet.clock.steady())
        findings = [*self._state_findings(node)]
        findings += await self._fleet.store.read(
            lambda connection: select_slot(connection, node.record.node_id, wanted)[1]
        )
        if findings:
            raise await self._denied(node, wanted, PolicyRefused(*findings))
        if not node.goldens:
            raise Unavailable("the node has not proved its state since the verifier started", remedy="ask again")
        asked = self._rounds.ask(node, Purpose.RELEASE, channel)
        selection = policy_selection(node.goldens, self._fleet.settings.cap_pcr, asked.challenge.selection)
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
            Unavailable: it cannot be recorded now, or the node's logs are to be judged anew; nothing is released.
        """
        try:
            approved = await self._approve(request, proof, began)
            slot, key = await self._chosen(request)
            data_key = await self._open(key, request.wanted.model_digest, slot)
        except (ProofFailed, PolicyRefused) as error:
            raise await self._denied(request.node, request.wanted, error) from error
        try:
            return await self._release(request, approved, key, data_key)
        finally:
            wipe(data_key)

    async def give_back(self, node: Node, lease_ids: tuple[LeaseId, ...]) -> None:
        """End leases whose keys the node says it has forgotten; unknown ones are no matter.

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

    async def _approve(self, request: Request, proof: ReleaseProof, began: float | None) -> _Approved:
        outcome = await self._rounds.conclude(request.node, proof.evidence, request.asked, began)
        appraisal = outcome.appraisal
        if appraisal is None:
            raise ProofFailed(*outcome.verdict.findings)
        if appraisal.logs_required:
            raise Unavailable("the node's logs are to be judged by goldens that changed meanwhile", remedy="ask again")
        findings = [*self._state_findings(request.node)]
        findings += appraisal.findings if not appraisal.trusted else ()
        if appraisal.pcrs is None:
            raise ProofFailed(*dict.fromkeys((*findings, _VALUES_MISSING)))
        if not appraisal.trusted and not appraisal.findings:
            findings.append(_UNMATCHED)
        release_key, wrong = _check_key(request, proof, appraisal.pcrs, self._policy(request, appraisal))
        findings += wrong
        if findings or release_key is None:
            raise PolicyRefused(*dict.fromkeys(findings))
        return _Approved(
            release_key=release_key,
            appraisal=appraisal,
            quote_sha256=sha256(proof.evidence.attest).hexdigest(),
            trusted_for_ms=outcome.verdict.trusted_for_ms,
        )

    def _policy(self, request: Request, appraisal: Appraisal) -> PcrSelection:
        """Return what the key's policy must cover: the goldens that match now, should they not be those of before."""
        if not appraisal.goldens:
            return request.policy
        return policy_selection(appraisal.goldens, self._fleet.settings.cap_pcr, request.asked.challenge.selection)

    async def _chosen(self, request: Request) -> tuple[Slot, KeyRecord]:
        chosen, findings = await self._fleet.store.read(
            lambda connection: select_slot(connection, request.node.record.node_id, request.wanted)
        )
        if chosen is None:
            raise PolicyRefused(*findings)
        return chosen

    async def _open(self, key: KeyRecord, model: Digest, slot: Slot) -> bytearray:
        held = HeldKey(key.model_key, key.place)
        return await asyncio.to_thread(self._keys.open_slot, held, model, slot.sealed)

    async def _release(self, request: Request, approved: _Approved, key: KeyRecord, data_key: bytearray) -> Released:
        node = request.node
        lease = LeaseRecord(
            lease_id=lease_id_of(secrets.token_bytes(_LEASE_RANDOM)),
            node_id=node.record.node_id,
            key_id=key.key_id,
            model_digest=request.wanted.model_digest,
            issued=self._fleet.clock.wall(),
        )
        try:
            leaf = await self._fleet.transact(lambda: self._issue(request, approved, key, lease))
        except PolicyRefused as error:
            raise await self._denied(node, request.wanted, error) from error
        context = encode_release_context(
            ReleaseContext(
                audit_leaf=Digest(leaf.hex()),
                goldens=_goldens(approved.appraisal),
                key_id=key.key_id,
                key_version=key.version,
                lease_id=lease.lease_id,
                model_digest=lease.model_digest,
                node_id=lease.node_id,
            )
        )
        point = uncompressed_point(approved.release_key.x, approved.release_key.y)
        _log.info("key released", node=lease.node_id, lease=lease.lease_id, model=lease.model_digest, key=key.key_id)
        return Released(
            lease_id=lease.lease_id,
            context=context,
            sealed=wrap_for_release(point, context, data_key),
            trusted_until=node.trusted_until,
            trusted_for_ms=approved.trusted_for_ms,
        )

    def _issue(self, request: Request, approved: _Approved, key: KeyRecord, lease: LeaseRecord) -> Transaction[bytes]:
        """Prepare the lease on the state of this moment; leases that the node no longer claims make room."""
        node, claimed = request.node, set(approved.appraisal.claims.leases)
        findings = [*self._state_findings(node), *self._golden_findings(approved.appraisal)]
        if findings:
            raise PolicyRefused(*findings)
        ended = tuple(
            held
            for held in node.leases.values()
            if held.key_id == key.key_id
            and held.lease_id not in claimed
            and held.issued < request.asked.challenge.issued
        )
        running = sum(held.key_id == key.key_id for held in node.leases.values()) - len(ended)
        record = _record(lease, node, approved, key)

        def work(connection: sa.Connection) -> bytes:
            refuse_unless_granted(connection, lease, running)
            record_ends(connection, ended, node.actor, _NOT_HELD, lease.issued)
            leaf = audit.append(connection, record)
            add_lease(connection, lease)
            return leaf

        def effect(_: bytes) -> None:
            node.leases[lease.lease_id] = lease
            drop_leases(node, ended, _NOT_HELD)

        return Transaction(work=work, effect=effect)

    def _state_findings(self, node: Node) -> Iterator[Finding]:
        """Say that a node is not trusted, and why."""
        now = self._fleet.clock.steady()
        if not node.trusted(now):
            yield Finding(
                id=FindingId.RELEASE_STATE,
                expected="trusted",
                seen=node.state_at(now).value,
                where=node.record.node_id,
            )
            yield from node.findings

    def _golden_findings(self, appraisal: Appraisal) -> Iterator[Finding]:
        active = {golden.digest for golden in self._fleet.policy.goldens}
        for golden in appraisal.goldens:
            if golden.digest not in active:
                yield Finding(
                    id=FindingId.RELEASE_STATE, expected="active goldens", seen="retired meanwhile", where=golden.digest
                )

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


def _check_key(
    request: Request, proof: ReleaseProof, pcrs: QuotedPcrs, policy: PcrSelection
) -> tuple[EccPublic | None, list[Finding]]:
    """Check the release key in every respect; return it with what is wrong."""
    challenge, keys = request.asked.challenge, request.asked.known.keys
    findings: list[Finding] = []
    try:
        public = check_release_key(proof.release_public)
    except PolicyRefused as error:
        return None, [*error.findings]
    try:
        check_certify(proof.certification, public, challenge, keys)
    except ProofFailed as error:
        findings += error.findings
    try:
        check_policy(public, pcrs, policy)
    except ProofFailed as error:
        findings += error.findings
    return public, findings


def _goldens(appraisal: Appraisal) -> tuple[Digest, ...]:
    return tuple(sorted(golden.digest for golden in appraisal.goldens))


def _record(lease: LeaseRecord, node: Node, approved: _Approved, key: KeyRecord) -> audit.Record:
    details = {
        "node_id": lease.node_id,
        "ak_name": node.record.ak_name.hex(),
        "model_digest": lease.model_digest,
        "key_id": key.key_id,
        "key_version": key.version,
        "goldens": list(_goldens(approved.appraisal)),
        "release_key_name": approved.release_key.name().hex(),
        "quote_sha256": approved.quote_sha256,
        "trusted_until": node.trusted_until.isoformat() if node.trusted_until else "",
    }
    subject = f"lease/{lease.lease_id}"
    return audit.Record(time=lease.issued, actor=node.actor, action="lease.issued", subject=subject, details=details)
