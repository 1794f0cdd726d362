"""Hostile clients, and the eyes of an operator: what attack tests do to a verifier, and what must not come of it.

Nodes whose TPM is a :class:`SyntheticTpm` give the attacker an oracle that signs anything (:func:`resigned`); nodes
whose TPM is a :class:`MachineTpm` can do only what a real TPM does.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import pytest
from google.protobuf.message import Message
from grpc import aio
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CC, TPMA_SESSION
from tpm2_pytss.types import TPM2B_ENCRYPTED_SECRET, TPM2B_ID_OBJECT, TPM2B_PUBLIC, TPMT_PUBLIC

from nodeseal.agent.tpm import templates
from nodeseal.agent.tpm.connection import Connection, SavedKey
from nodeseal.agent.tpm.device import Device
from nodeseal.evidence.binding import Purpose, qualifying_data
from nodeseal.ids import Nonce
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.synthetic import Attestation, SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, decode_public
from nodeseal.uefi.event_log import EventLog
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, enrollment_pb2_grpc, key_release_pb2_grpc
from nodeseal.v1.key_release_pb2 import Ask, Proof, ReleaseChallenge, ReleaseRequest
from nodeseal.verifier.clock import SYSTEM, Clock
from nodeseal.verifier.config import load_config
from nodeseal.verifier.wiring import running
from support.verifier import (
    FakeNode,
    Refusal,
    RunningVerifier,
    Sealed,
    Stubs,
    a_node,
    received,
    refusal_of,
    selection_of,
)

SHA256: Final = HashAlg.SHA256
ESCAPED = "\x1b[2J\x1b]0;owned\x07"
"""Clears a terminal and renames its window."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)


def altered(message: M, **changes: Any) -> M:
    """Return a copy of a message with some fields changed."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name, value in changes.items():
        copy.ClearField(name)
        copy.MergeFrom(type(message)(**{name: value}))
    return copy


async def refused(attempt: Awaitable[object]) -> Refusal:
    """Wait for what must fail, and return how it failed."""
    with pytest.raises(aio.AioRpcError) as caught:
        await attempt
    return refusal_of(caught.value)


# What an operator sees


async def record_contents(admin: Stubs) -> list[bytes]:
    """Return the audit log."""
    return [record.content async for record in admin.audit.ListRecords(admin_pb2.ListRecordsRequest())]


@asynccontextmanager
async def nothing_enrolled(verifier: RunningVerifier) -> AsyncIterator[None]:
    """See to it that no node comes or changes, and that nothing is recorded, while the block runs."""
    async with verifier.person() as admin:
        before = await _estate(admin)
        yield
        assert await _estate(admin) == before


async def _estate(admin: Stubs) -> tuple[list[tuple[str, str, int]], list[bytes]]:
    nodes = (await admin.nodes.ListNodes(admin_pb2.ListNodesRequest())).nodes
    return [(node.node_id, node.ak_name, node.state) for node in nodes], await record_contents(admin)


async def seen_by(admin: Stubs, node: FakeNode) -> admin_pb2.Node:
    """Return what an operator sees of a node."""
    return await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id))


def last_finding_ids(verifier: RunningVerifier, node: FakeNode) -> list[str]:
    """Return the ids of the findings in the last audit record of a node's state."""
    states = [each for each in verifier.records() if each["subject"] == f"node/{node.node_id}"]
    return [finding["id"] for finding in states[-1]["details"]["findings"]]


# Enrolment, step by step


class EnrolStream:
    """The node's end of one enrolment."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def show(self, identity: enrollment_pb2.Identity) -> enrollment_pb2.CredentialChallenge:
        """Send an identity and wait for the challenge."""
        await self.call.write(enrollment_pb2.EnrollRequest(identity=identity))
        challenge: enrollment_pb2.CredentialChallenge = (await received(self.call)).challenge
        return challenge

    async def answer(self, secret: bytes) -> enrollment_pb2.Enrolled:
        """Send a secret and wait for the certificate."""
        await self.call.write(enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=secret)))
        enrolled: enrollment_pb2.Enrolled = (await received(self.call)).enrolled
        return enrolled


@asynccontextmanager
async def enrolling(verifier: RunningVerifier) -> AsyncIterator[EnrolStream]:
    """Open an enrolment on a connection of its own."""
    async with verifier.enrolment_channel() as channel:
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=20)
        try:
            yield EnrolStream(call)
        finally:
            call.cancel()


def twin_of(tpm: SyntheticTpm, vendor: TpmVendor) -> SyntheticTpm:
    """Return the same TPM with another attestation key."""
    twin = SyntheticTpm(vendor)
    twin._ek, twin.ek, twin.ek_certificate = tpm._ek, tpm.ek, tpm.ek_certificate
    twin._pcrs = tpm._pcrs
    return twin


# Attestation and release with one fact changed

Forge = Callable[[FakeNode, attestation_pb2.Challenge], attestation_pb2.Evidence]
ForgeProof = Callable[[FakeNode, ReleaseChallenge], Proof | Awaitable[Proof]]


def resigned(node: FakeNode, evidence: attestation_pb2.Evidence, attest: bytes) -> attestation_pb2.Evidence:
    """Put another TPMS_ATTEST in, signed with the node's attestation key: what no TPM does for anybody."""
    return altered(evidence, attest=attest, signature=node.tpm._ak.sign(attest))


def evidence_claiming(
    node: FakeNode, challenge: attestation_pb2.Challenge, claims: bytes, purpose: Purpose = Purpose.ATTEST
) -> attestation_pb2.Evidence:
    """Return evidence of a node that says something else of itself, with a quote that covers it."""
    selection = selection_of(challenge.pcr_selection)
    quote = node.tpm.quote(qualifying_data(purpose, Nonce(challenge.nonce), node.binding, claims), selection)
    return altered(node.evidence(challenge), claims=claims, attest=quote.attest, signature=quote.signature)


async def admitted_node(verifier: RunningVerifier, tpm: SyntheticTpm | None = None) -> FakeNode:
    """Return a node that a person has admitted; it has not been judged yet."""
    node = a_node(verifier) if tpm is None else FakeNode(verifier, tpm)
    await node.enrol()
    async with verifier.person() as admin:
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
    return node


async def refused_round(node: FakeNode, model: Sealed, forge: Forge) -> list[str]:
    """Send one forged round between two good ones; return its findings.

    The forged round must cost the node its trust, be recorded, and leave it without a key.
    """
    async with node.verifier.person() as admin, node.attesting() as stream:
        assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
        await stream.send(forge(node, await stream.challenge()))
        verdict = await stream.verdict()
        found = [finding.id for finding in verdict.findings]
        assert (verdict.state, verdict.trusted_for_ms) == (attestation_pb2.NODE_STATE_UNTRUSTED, 0)
        assert not verdict.HasField("trusted_until")
        assert all(finding.expected and finding.seen and finding.remedy for finding in verdict.findings)
        await _has_nothing(admin, node, model, found)
        assert last_finding_ids(node.verifier, node) == found
        assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
    return found


async def _has_nothing(admin: Stubs, node: FakeNode, model: Sealed, found: list[str]) -> None:
    known = await seen_by(admin, node)
    assert (known.state, list(known.leases)) == (attestation_pb2.NODE_STATE_UNTRUSTED, [])
    refusal = await refused(node.release(model.digest, [model.slot]))
    assert refusal.findings == ("release.node-state", *found), refusal


async def refused_release(node: FakeNode, model: Sealed, forge: ForgeProof) -> Refusal:
    """Ask for a key and send a forged proof; a denial's findings must be recorded and no lease begin."""
    async with node.channel() as channel, node.verifier.person() as admin:
        before = len(await record_contents(admin))
        call = key_release_pb2_grpc.KeyReleaseStub(channel).Release(timeout=20)
        await call.write(ReleaseRequest(ask=Ask(model_digest=model.digest, slots=[model.slot])))
        challenge = (await received(call)).challenge
        proof = forge(node, challenge)
        await call.write(ReleaseRequest(proof=proof if isinstance(proof, Proof) else await proof))
        refusal = await refused(received(call))
        assert list((await seen_by(admin, node)).leases) == []
    new = node.verifier.records()[before:]
    denied = [record for record in new if record["action"] == "release.denied"]
    assert [finding["id"] for record in denied for finding in record["details"]["findings"]] == [*refusal.findings]
    assert "lease.issued" not in {record["action"] for record in new}
    return refusal


def proof_with(
    node: FakeNode, challenge: ReleaseChallenge, purpose: Purpose = Purpose.RELEASE, **changes: Any
) -> Proof:
    """Return an honest proof whose evidence has another purpose, or other fields."""
    evidence = altered(node.evidence(challenge.challenge, purpose), **changes)
    return node.proof(challenge, evidence=evidence)


# TPMs


class ClockworkTpm(SyntheticTpm):
    """A synthetic TPM whose clock and counters a test sets.

    Attributes:
        info: what the next attestation says; None: what an honest TPM would say.
    """

    info: ClockInfo | None = None

    def clock_info(self) -> ClockInfo:
        """Return what the test set."""
        return self.info or super().clock_info()


class _TemplateDevice(Device):
    """The agent's device with an attestation key of the attacker's making."""

    def __init__(self, connection: Connection, unique: bytes, template: EccPublic | None) -> None:
        super().__init__(connection, unique)
        self._template = template or templates.attestation_key(unique)

    def _attestation_key(self) -> SavedKey:
        if self._ak is None:
            self._ak = self._tpm.create_primary(ESYS_TR.ENDORSEMENT, self._template.encode())
        return self._ak


class MachineTpm(SyntheticTpm):
    """A software-TPM machine that answers as a node's TPM; call :meth:`connect` after the machine was off.

    Args:
        machine: which runs.
        template: of the attestation key, the agent's by default.
    """

    def __init__(self, machine: Machine, template: EccPublic | None = None) -> None:
        self.machine = machine
        self.device: Device | None = None
        self._unique, self._template = secrets.token_bytes(64), template
        self._saved: dict[bytes, SavedKey] = {}
        self.connect()

    def connect(self) -> None:
        """Connect anew, as an agent does that starts."""
        self.close()
        self.device = _TemplateDevice(Connection(self.machine.tcti), self._unique, self._template)
        identity = self.device.identity()
        ek, ak = decode_public(identity.ek_public), decode_public(identity.ak_public)
        assert isinstance(ak, EccPublic)
        self.ek, self.ak, (self.ek_certificate, *_) = ek, ak, identity.ek_certificates  # type: ignore[assignment]  # RSA too

    def close(self) -> None:
        """Close the connection."""
        if self.device is not None:
            self.device.close()
            self.device = None

    def activate_external(
        self, key: EccPublic, challenge: enrollment_pb2.CredentialChallenge, *, by_policy: bool
    ) -> bytes:
        """Try TPM2_ActivateCredential for a key that the TPM knows by TPM2_LoadExternal, without its private part."""
        tpm, ek = self._open._tpm, self._open._endorsement_key()
        external = tpm.esys.load_external(
            TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(key.encode())[0]), hierarchy=ESYS_TR.NULL
        )
        with (
            tpm._flushed(external),
            tpm.session(ek.key, policy=True, hash_alg=TPM2_ALG.SHA256) as endorsement,
            tpm.session(ek.key, policy=True, hash_alg=TPM2_ALG.SHA256) as session,
            tpm.loaded(ek.key) as ek_handle,
        ):
            tpm.esys.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION)  # one session encrypts, at most
            tpm.esys.policy_secret(ESYS_TR.ENDORSEMENT, endorsement, expiration=0)
            tpm.esys.policy_command_code(session, TPM2_CC.ActivateCredential)
            blob = TPM2B_ID_OBJECT.unmarshal(challenge.id_object)[0]
            secret = TPM2B_ENCRYPTED_SECRET.unmarshal(challenge.encrypted_secret)[0]
            auth = session if by_policy else ESYS_TR.PASSWORD
            return bytes(tpm.esys.activate_credential(external, ek_handle, blob, secret, auth, endorsement))

    def pass_time(self, milliseconds: int) -> None:
        """Let time pass by TPM2_ClockSet, which only ever moves the clock forward."""
        esys = self._open._tpm.esys
        esys.clock_set(esys.read_clock().clockInfo.clock + milliseconds)

    @property
    def _open(self) -> Device:
        assert self.device is not None
        return self.device

    def boot(self, event_log: bytes) -> EventLog:
        """Reboot the machine, and connect as its agent does then."""
        self.close()
        log = self.machine.boot(event_log)
        self.connect()
        return log

    def extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        self.machine.extend(pcr, digests[SHA256])

    def read_pcrs(self, selection: PcrSelection) -> tuple[bytes, ...]:
        return self._open.read_pcrs(selection)

    def quote(self, extra_data: bytes, selection: PcrSelection) -> Attestation:
        signed = self._open.quote(selection, extra_data).signed
        return Attestation(signed.attest, signed.signature)

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        return self._open.activate(id_object, encrypted_secret)

    def create_release_key(self, selection: PcrSelection) -> EccPublic:
        saved = self._open.create_release_key(policy_pcr(selection, pcr_digest(SHA256, self.read_pcrs(selection))))
        public = decode_public(saved.public)
        assert isinstance(public, EccPublic)
        self._saved[public.name()] = saved
        return public

    def certify(self, key: EccPublic, extra_data: bytes) -> Attestation:
        signed = self._open.certify(self._saved[key.name()], extra_data)
        return Attestation(signed.attest, signed.signature)

    def ecdh(self, key: EccPublic, selection: PcrSelection, x: bytes, y: bytes) -> bytes:
        return self._open.agree(self._saved[key.name()], selection, (x, y))


@contextmanager
def tpm_of(machine: Machine, template: EccPublic | None = None) -> Iterator[MachineTpm]:
    """Connect to a machine's TPM."""
    tpm = MachineTpm(machine, template)
    try:
        yield tpm
    finally:
        tpm.close()


def boot_digests(pcrs: Sequence[int] = range(10), what: str = "boot") -> dict[int, bytes]:
    """Return what an honest boot extends, by PCR."""
    return {pcr: hashlib.sha256(f"{what} {pcr}".encode()).digest() for pcr in pcrs}


# A verifier in this process, with clocks that a test moves


@dataclass
class MovableClocks:
    """The system's clocks, and how far ahead of them the verifier's are.

    Attributes:
        wall_ahead: what people call the time.
        steady_ahead: the clock that decides, in seconds.
    """

    wall_ahead: timedelta = timedelta()
    steady_ahead: float = 0.0

    def _wall(self) -> datetime:
        return SYSTEM.wall() + self.wall_ahead

    def _steady(self) -> float:
        return SYSTEM.steady() + self.steady_ahead

    def clock(self) -> Clock:
        """Return the verifier's clock."""
        return Clock(wall=self._wall, steady=self._steady)


@asynccontextmanager
async def in_process(verifier: RunningVerifier, clocks: MovableClocks | None = None) -> AsyncIterator[None]:
    """Serve a verifier that was set up and not started, on real ports of this process."""
    clock = SYSTEM if clocks is None else clocks.clock()
    async with running(load_config(verifier.folder / "verifier.yaml"), clock) as addresses:
        verifier.listen, verifier.listen_enrol = addresses.listen, addresses.listen_enrol
        yield
