"""Key release: from a model's slots to a lease, and from a lease to the data key (DESIGN §7).

The agent keeps no data key. For each loader, :meth:`Releaser.open` lets the TPM compute ECDH anew in a session that
fulfils TPM2_PolicyPCR. So the TPM itself refuses as soon as a selected PCR has changed. PCR 23, the lease epoch, is
always one of them. A release key is wiped unless it becomes a lease's, and when its lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from nodeseal.agent.calls.channels import CALL_SECONDS, Link, receive, send, translated
from nodeseal.agent.calls.messages import parse_challenge
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.identity import Identity
from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.release.leases import HeldLease, Leases
from nodeseal.agent.tpm.connection import SavedKey
from nodeseal.agent.tpm.device import SignedAttest
from nodeseal.agent.tpm.failures import TpmPolicyFailed
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.crypto.hpke import Wrapped, finish_release, split_point, uncompressed_point
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, Unavailable
from nodeseal.evidence.binding import Purpose
from nodeseal.evidence.release_context import ReleaseContext, decode_release_context
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, LeaseId
from nodeseal.sealed.slots import Slot, Slots
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, decode_public
from nodeseal.v1 import key_release_pb2, key_release_pb2_grpc
from nodeseal.wire.evidence import evidence_to_proto
from nodeseal.wire.messages import selection_from_proto

_log = structlog.get_logger("nodeseal.agent.release")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proved:
    """A release key, the PCRs of its policy, and the proof of both."""

    key: SavedKey
    selection: PcrSelection
    evidence: Evidence
    certified: SignedAttest

    def messages(self) -> Iterator[key_release_pb2.ReleaseRequest]:
        """Yield logs in stretches, then the proof."""
        for message in evidence_to_proto(self.evidence):
            if message.more:
                yield key_release_pb2.ReleaseRequest(logs=message)
            else:
                proof = key_release_pb2.Proof(
                    evidence=message,
                    release_public=self.key.public,
                    certify_attest=self.certified.attest,
                    certify_signature=self.certified.signature,
                )
                yield key_release_pb2.ReleaseRequest(proof=proof)


class Releaser:
    """Gets leases from the verifier and opens them with the TPM.

    Args:
        tpm: the TPM.
        attester: makes evidence.
        leases: where leases are kept.
        epoch: the lease epoch that release keys are bound to.
    """

    def __init__(self, tpm: TpmOwner, attester: Attester, leases: Leases, epoch: LeaseEpoch) -> None:
        self._tpm: Final = tpm
        self._attester: Final = attester
        self._leases: Final = leases
        self._epoch: Final = epoch
        self._one_at_a_time: Final = asyncio.Lock()
        self.link: Link | None = None
        """The connection in use; None while there is none."""

    async def lease(self, model_digest: Digest, slots: tuple[Slot, ...]) -> HeldLease:
        """Return the lease for a model, asking the verifier if there is none.

        Raises:
            PolicyRefused: the verifier does not allow it.
            ProofFailed: it does not believe this node's evidence.
            Unavailable: TPM or verifier cannot be reached, or trust ended during the release.
            MalformedInput: the verifier cannot read the request, or its answer is about another node, model or lease.
        """
        async with self._one_at_a_time:
            found = self._leases.find(model_digest)
            if found is not None:
                return found
            endings = self._leases.endings
            with self._epoch_renewed():
                released = await self._release(model_digest, slots)
            try:
                self._leases.add(released, endings)
            except Unavailable:
                released.release_key.wipe()
                await self.tell_returned((released.lease_id,))
                raise
            return released

    async def open(self, released: HeldLease) -> bytearray:
        """Let the TPM open a lease; the caller wipes the data key.

        Raises:
            PolicyRefused: ``release.tpm-refused``: a measured PCR moved since the release, or the TPM was reset.
            Unavailable: the TPM cannot be reached, or the lease has ended.
            ProofFailed: what the verifier wrapped does not open with this key and context.
        """
        point = split_point(released.sealed.enc)
        try:
            shared = await self._tpm.call(
                lambda device: device.agree(released.release_key, released.policy_selection, point)
            )
        except TpmPolicyFailed as error:
            if released.release_key.wiped:
                raise Unavailable("the lease has ended", remedy="ask again") from error
            raise PolicyRefused(
                Finding(
                    id=FindingId.RELEASE_TPM,
                    expected=f"the values of {released.policy_selection} at the time of the release",
                    seen=str(error),
                    where=released.lease_id,
                )
            ) from error
        return finish_release(released.release_point, released.context, released.sealed, shared)

    async def give_back(self, lease_id: LeaseId) -> None:
        """Forget a lease that no loader uses any more and tell the verifier, if it can be told."""
        if self._leases.give_back(lease_id):
            await self.tell_returned((lease_id,))

    async def tell_returned(self, lease_ids: tuple[LeaseId, ...]) -> None:
        """Tell the verifier that leases are over; if it cannot be told, it learns from the next claims."""
        if self.link is None or not lease_ids:
            return
        stub = key_release_pb2_grpc.KeyReleaseStub(self.link.channel)
        try:
            with translated(self.link.address):
                await stub.Return(key_release_pb2.ReturnRequest(lease_ids=lease_ids), timeout=CALL_SECONDS)
        except NodesealError as error:
            _log.warning("lease not returned", leases=lease_ids, error=str(error))

    @contextmanager
    def _epoch_renewed(self) -> Iterator[None]:
        """Begin a new epoch if the verifier saw none, because a suspend or another program has reset PCR 23."""
        try:
            yield
        except PolicyRefused as error:
            if any(finding.id is FindingId.RELEASE_EPOCH for finding in error.findings):
                self._epoch.begin()
            raise

    async def _release(self, model_digest: Digest, slots: tuple[Slot, ...]) -> HeldLease:
        link = self.link
        if link is None:
            raise Unavailable("no connection to the verifier", remedy="see nodeseal-agent status")
        await self._epoch.ready()
        banks = await self._attester.banks()
        ask = key_release_pb2.Ask(slots=Slots(model_digest, slots).encode(), pcr_banks=banks)
        with translated(link.address):
            call = key_release_pb2_grpc.KeyReleaseStub(link.channel).Release(timeout=CALL_SECONDS)
            try:
                with _understood(), translated(link.address):
                    await send(call, key_release_pb2.ReleaseRequest(ask=ask))
                    challenge = (await receive(call, key_release_pb2.ReleaseResponse, link.address)).challenge
                proved = await self._prove(challenge, link.identity)
                with _wiped_on_failure(proved.key):
                    for message in proved.messages():
                        await send(call, message)
                    released = (await receive(call, key_release_pb2.ReleaseResponse, link.address)).released
                    return _released(released, _checked_context(released, model_digest, link.identity), proved)
            finally:
                call.cancel()

    async def _prove(self, message: key_release_pb2.ReleaseChallenge, identity: Identity) -> _Proved:
        challenge = parse_challenge(message.challenge)
        policy = _policy_selection(message, challenge.selection)
        made = await self._attester.answer(Purpose.RELEASE, challenge, identity.channel, self._leases.ids())
        values = dict(zip(challenge.selection.indices(), made.quoted.values, strict=True))
        digest = policy_pcr(policy, pcr_digest(HashAlg.SHA256, (values[each] for each in policy.indices())))
        self._leases.use_epoch()
        key = await self._tpm.call(lambda device: device.create_release_key(digest))
        with _wiped_on_failure(key):
            certified = await self._tpm.call(lambda device: device.certify(key, made.binding))
        return _Proved(key=key, selection=policy, evidence=made.evidence(with_values=True), certified=certified)


def _policy_selection(message: key_release_pb2.ReleaseChallenge, quoted: PcrSelection) -> PcrSelection:
    """Return the PCRs of a release key's policy: quoted ones, and the lease epoch in each of their banks.

    Raises:
        MalformedInput: others, or no lease epoch, as from verifiers of the first release.
    """
    if not message.policy_selection.banks:
        raise _without_epoch("names no PCRs")
    policy = selection_from_proto(message.policy_selection)
    if not set(policy.indices()) <= set(quoted.indices()):
        raise MalformedInput("release challenge: the policy names PCRs that the quote does not cover")
    for bank, indices in policy.banks:
        if EPOCH_PCR not in indices:
            raise _without_epoch(f"leaves out {bank.hashlib_name} PCR {EPOCH_PCR}, the lease epoch")
    return policy


def _without_epoch(how: str) -> MalformedInput:
    remedy = "update nodeseal-verifier, which is older than this agent"
    return MalformedInput(f"release challenge: the policy {how}: {remedy}", remedy=remedy)


@contextmanager
def _wiped_on_failure(key: SavedKey) -> Iterator[None]:
    """Wipe a release key if the block fails."""
    try:
        yield
    except BaseException:
        key.wipe()
        raise


@contextmanager
def _understood() -> Iterator[None]:
    """Name the program to update if the verifier cannot read what this agent asks, as one of the first release cannot.

    Raises:
        MalformedInput: the verifier cannot read it. The agent has checked all that is in it.
    """
    try:
        yield
    except MalformedInput as error:
        remedy = "update nodeseal-verifier, if it is older than this agent"
        raise MalformedInput(f"{error}: {remedy}", remedy=remedy) from error


def _checked_context(released: key_release_pb2.Released, model_digest: Digest, identity: Identity) -> ReleaseContext:
    context = decode_release_context(released.context)
    seen = (context.node_id, context.model_digest, context.lease_id)
    if seen != (identity.node_id, model_digest, released.lease_id):
        raise MalformedInput("release: the context is about another node, model or lease than was asked for")
    return context


def _released(message: key_release_pb2.Released, context: ReleaseContext, proved: _Proved) -> HeldLease:
    public = decode_public(proved.key.public)
    if not isinstance(public, EccPublic):
        raise MalformedInput("release key: the TPM made a key of another kind")
    return HeldLease(
        lease_id=context.lease_id,
        model_digest=context.model_digest,
        key_id=context.key_id,
        context=message.context,
        sealed=Wrapped(message.enc, message.wrapped),
        release_key=proved.key,
        release_point=uncompressed_point(public.x, public.y),
        policy_selection=proved.selection,
        silence_seconds=message.silence_seconds,
    )
