"""Nodes with synthetic TPMs that talk to a real verifier, one step of the protocol at a time."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from grpc import aio

from nodeseal.crypto.hpke import Wrapped, finish_release, split_point, uncompressed_point
from nodeseal.crypto.tls_identity import to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.egress.claims import EgressClaims
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.logs import MAX_LOG_PIECE
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, LeaseId, NodeId, Nonce
from nodeseal.sealed.slots import Slot, Slots
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.tpm.public import EccPublic
from nodeseal.v1 import attestation_pb2, enrollment_pb2, key_release_pb2
from support.verifier import TRUST_DOMAIN, Refusal, RunningVerifier, Stubs, received, refusal_of

EPOCH = PcrSelection.of({HashAlg.SHA256: (EPOCH_PCR,)})


def asking(model_digest: str, *slots: Slot) -> key_release_pb2.Ask:
    """Return what a node sends to get the key of a model that has these slots."""
    return key_release_pb2.Ask(slots=Slots(Digest(model_digest), slots).encode())


class FakeNode:
    """A node with a synthetic TPM; every step of the protocol can be taken by itself.

    Attributes:
        tpm: its TPM.
        enrolment_channel: how it reaches the port for enrolment.
        node_id: its id, once enrolled.
        leases: ids of the leases in its claims.
        boot_log: its firmware's log; empty: no log.
        ima_log: ``binary_runtime_measurements``; None: no IMA.
        release_key: the release key of the last proof, with the PCRs of its policy.
        egress: what it claims of egress limits.
        begins_epochs: whether it begins a lease epoch when none has begun, as agents do at their start.
    """

    release_key: tuple[EccPublic, PcrSelection]

    def __init__(self, verifier: RunningVerifier, tpm: SyntheticTpm) -> None:
        self.verifier = verifier
        self.enrolment_channel: Callable[[], aio.Channel] = verifier.enrolment_channel
        self.tpm = tpm
        self.key = new_tls_key()
        self.chain: tuple[bytes, ...] = ()
        self.node_id = ""
        self.leases: tuple[str, ...] = ()
        self.boot_log = b""
        self.ima_log: bytes | None = None
        self.egress: EgressClaims | None = None
        self.begins_epochs = True
        self.boot_id = "3f0c7c9e-0000-4000-8000-000000000001"

    def identity(self, **changes: Any) -> enrollment_pb2.Identity:
        """Return an honest identity with some fields changed."""
        facts = enrollment_pb2.NodeFacts(
            hostname="rack1-node7", boot_id=self.boot_id, tpm_manufacturer="IBM", tpm_firmware="1.2"
        )
        fields = {
            "ek_public": self.tpm.ek.encode(),
            "ek_certificates": [self.tpm.ek_certificate],
            "ek_chain": [self.verifier.vendor.intermediate],
            "ak_public": self.tpm.ak.encode(),
            "certificate_request": certificate_request(self.key, "node"),
            "facts": facts,
        }
        return enrollment_pb2.Identity(**{**fields, **changes})

    async def enrol(self, identity: enrollment_pb2.Identity | None = None) -> None:
        """Enrol; raises ``AioRpcError`` when refused."""
        async with self.enrolment_channel() as channel:
            call = Stubs(channel).enrollment.Enroll(timeout=20)
            await call.write(enrollment_pb2.EnrollRequest(identity=identity or self.identity()))
            challenge = (await received(call)).challenge
            secret = self.tpm.activate(challenge.id_object, challenge.encrypted_secret)
            await call.write(enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=secret)))
            enrolled = (await received(call)).enrolled
        self.node_id, self.chain = enrolled.node_id, tuple(enrolled.certificate_chain)

    def channel(self) -> aio.Channel:
        """Return a channel with the node's certificate."""
        return self.verifier.channel(self.key, to_pem(*self.chain))

    @property
    def binding(self) -> Channel:
        """Channel that this node's quotes are bound to."""
        return Channel(
            trust_domain=TRUST_DOMAIN,
            node_id=NodeId(self.node_id),
            certificate_sha256=hashlib.sha256(self.chain[0]).digest(),
        )

    def claims(self) -> bytes:
        """Return the node's claims, encoded."""
        leases = tuple(LeaseId(lease) for lease in self.leases)
        return encode_claims(
            Claims(boot_id=self.boot_id, kernel="6.1.0", agent_version="0.1.0", leases=leases, egress=self.egress)
        )

    def qualifying(self, challenge: attestation_pb2.Challenge, purpose: Purpose, request: bytes = b"") -> bytes:
        """Return the qualifying data for a challenge; ``request`` is the one that a renewal is about."""
        channel = replace(self.binding, request_sha256=hashlib.sha256(request).digest() if request else b"")
        return qualifying_data(purpose, Nonce(challenge.nonce), channel, self.claims())

    def evidence(
        self, challenge: attestation_pb2.Challenge, purpose: Purpose = Purpose.ATTEST, request: bytes = b""
    ) -> attestation_pb2.Evidence:
        """Return honest evidence, values included."""
        self._begin_epoch()
        selection = selection_of(challenge.pcr_selection)
        quote = self.tpm.quote(self.qualifying(challenge, purpose, request), selection)
        return attestation_pb2.Evidence(
            claims=self.claims(),
            attest=quote.attest,
            signature=quote.signature,
            pcr_values=self.tpm.read_pcrs(selection),
        )

    def answer(
        self, challenge: attestation_pb2.Challenge, purpose: Purpose = Purpose.ATTEST
    ) -> list[attestation_pb2.Evidence]:
        """Return the honest answer: stretches of the logs that the verifier does not know, then the evidence."""
        known = challenge.boot_id_known == self.boot_id
        boot_log, offset = self.boot_log, challenge.ima_offset_known if known else 0
        if known and hashlib.sha256(boot_log).digest() == challenge.boot_log_known:
            boot_log = b""
        logs = [*boot_log_stretches(boot_log)]
        if self.ima_log is not None:
            logs += ima_stretches(self.ima_log[offset:], offset)
        return [*logs, self.evidence(challenge, purpose)]

    def _begin_epoch(self) -> None:
        if self.begins_epochs and not any(self.tpm.read_pcrs(EPOCH)[0]):
            self.tpm.begin_epoch()

    @asynccontextmanager
    async def attesting(self) -> AsyncIterator[FakeStream]:
        """Open an attestation stream; nothing is answered by itself."""
        async with self.channel() as channel:
            call = Stubs(channel).attestation.Attest()
            try:
                yield FakeStream(self, call)
            finally:
                call.cancel()

    @asynccontextmanager
    async def releasing(self, ask: key_release_pb2.Ask, seconds: int = 20) -> AsyncIterator[FakeRelease]:
        """Ask for a key and wait for the challenge; raises ``AioRpcError`` when refused."""
        async with self.channel() as channel:
            call = Stubs(channel).release.Release(timeout=seconds)
            await call.write(key_release_pb2.ReleaseRequest(ask=ask))
            yield FakeRelease(call, (await received(call)).challenge)

    async def release(self, model_digest: str, slots: list[Slot]) -> key_release_pb2.Released:
        """Ask for a key and answer the challenge; raises ``AioRpcError`` when refused."""
        async with self.releasing(asking(model_digest, *slots)) as release:
            *logs, _ = self.answer(release.challenge.challenge, Purpose.RELEASE)
            for stretch in logs:
                await release.call.write(key_release_pb2.ReleaseRequest(logs=stretch))
            released = await release.prove(self.proof(release.challenge))
        self.leases = (*self.leases, released.lease_id)
        return released

    async def give_back(self, *lease_ids: str) -> None:
        """Return leases, on a connection on which the node's TPM has answered."""
        async with self.channel() as channel:
            stubs = Stubs(channel)
            call = stubs.attestation.Attest()
            await FakeStream(self, call).round()
            await stubs.release.Return(key_release_pb2.ReturnRequest(lease_ids=lease_ids))
            call.cancel()

    @asynccontextmanager
    async def renewing(self, request: bytes) -> AsyncIterator[FakeRenewal]:
        """Ask for a certificate and wait for the challenge; raises ``AioRpcError`` when refused."""
        async with self.channel() as channel:
            call = Stubs(channel).attestation.Renew(timeout=20)
            await call.write(attestation_pb2.RenewRequest(certificate_request=request))
            yield FakeRenewal(call, (await received(call)).challenge)

    async def renew(self, key: bytes) -> tuple[bytes, ...]:
        """Prove the node's state for a new TLS key and return its certificates, leaf first."""
        request = certificate_request(key, "node")
        async with self.renewing(request) as renewal:
            return await renewal.prove(self.evidence(renewal.challenge, Purpose.RENEW, request))

    def open(self, released: key_release_pb2.Released) -> bytes:
        """Return the data key of a release, opened by the TPM under its policy."""
        x, y = split_point(released.enc)
        public, policy = self.release_key
        point = uncompressed_point(public.x, public.y)
        shared = self.tpm.ecdh(public, policy, x, y)
        return bytes(finish_release(point, released.context, Wrapped(released.enc, released.wrapped), shared))

    def proof(self, challenge: key_release_pb2.ReleaseChallenge, **changes: Any) -> key_release_pb2.Proof:
        """Return an honest proof of a new release key, with some fields changed."""
        self._begin_epoch()
        policy = selection_of(challenge.policy_selection)
        public = self.tpm.create_release_key(policy)
        self.release_key = (public, policy)
        certify = self.tpm.certify(public, self.qualifying(challenge.challenge, Purpose.RELEASE))
        fields = {
            "evidence": self.evidence(challenge.challenge, Purpose.RELEASE),
            "release_public": public.encode(),
            "certify_attest": certify.attest,
            "certify_signature": certify.signature,
        }
        return key_release_pb2.Proof(**{**fields, **changes})


class FakeRelease:
    """The node's end of one release, which the verifier has challenged.

    Attributes:
        call: the stream.
        challenge: the verifier's challenge.
    """

    def __init__(self, call: Any, challenge: key_release_pb2.ReleaseChallenge) -> None:
        self.call = call
        self.challenge = challenge

    async def prove(self, proof: key_release_pb2.Proof) -> key_release_pb2.Released:
        """Send a proof and wait for the key; raises ``AioRpcError`` when refused."""
        await self.call.write(key_release_pb2.ReleaseRequest(proof=proof))
        released: key_release_pb2.Released = (await received(self.call)).released
        return released


class FakeRenewal:
    """The node's end of one renewal, which the verifier has challenged.

    Attributes:
        call: the stream.
        challenge: the verifier's challenge.
    """

    def __init__(self, call: Any, challenge: attestation_pb2.Challenge) -> None:
        self.call = call
        self.challenge = challenge

    async def prove(self, evidence: attestation_pb2.Evidence) -> tuple[bytes, ...]:
        """Send evidence and wait for the certificates; raises ``AioRpcError`` when refused."""
        await self.call.write(attestation_pb2.RenewRequest(evidence=evidence))
        return tuple((await received(self.call)).certificate_chain)


def boot_log_stretches(log: bytes) -> Iterator[attestation_pb2.Evidence]:
    """Cut a boot log into messages that others follow."""
    for start in range(0, len(log), MAX_LOG_PIECE):
        yield attestation_pb2.Evidence(boot_log=log[start : start + MAX_LOG_PIECE], more=True)


def ima_stretches(entries: bytes, offset: int = 0) -> Iterator[attestation_pb2.Evidence]:
    """Cut an IMA log's entries from ``offset`` on into messages that others follow."""
    for start in range(0, len(entries), MAX_LOG_PIECE):
        piece = entries[start : start + MAX_LOG_PIECE]
        stretch = attestation_pb2.ImaStretch(offset=offset + start, entries=piece, hash=HashAlg.SHA1)
        yield attestation_pb2.Evidence(ima=stretch, more=True)


class FakeStream:
    """The node's end of an attestation stream."""

    def __init__(
        self, node: FakeNode, call: aio.StreamStreamCall[attestation_pb2.Evidence, attestation_pb2.Instruction]
    ) -> None:
        self.node = node
        self.call = call
        self._challenges: list[attestation_pb2.Challenge] = []
        self._verdicts: list[attestation_pb2.Verdict] = []
        self._revocations: list[attestation_pb2.Revocation] = []

    async def challenge(self) -> attestation_pb2.Challenge:
        """Wait for the next challenge."""
        while not self._challenges:
            await self._read()
        return self._challenges.pop(0)

    async def verdict(self) -> attestation_pb2.Verdict:
        """Wait for the next verdict."""
        while not self._verdicts:
            await self._read()
        return self._verdicts.pop(0)

    async def revocation(self) -> attestation_pb2.Revocation:
        """Wait for the next revocation."""
        while not self._revocations:
            await self._read()
        return self._revocations.pop(0)

    async def send(self, evidence: attestation_pb2.Evidence) -> None:
        """Send evidence."""
        await self.call.write(evidence)

    async def round(self) -> attestation_pb2.Verdict:
        """Answer the next challenge honestly and return the verdict on it."""
        for message in self.node.answer(await self.challenge()):
            await self.send(message)
        return await self.verdict()

    async def round_until(self, state: attestation_pb2.NodeState.ValueType) -> attestation_pb2.Verdict:
        """Answer honestly until the verdict is ``state``, at most ten times."""
        for _ in range(10):
            verdict = await self.round()
            if verdict.state == state:
                return verdict
        raise AssertionError(f"never {attestation_pb2.NodeState.Name(state)}: {verdict}")

    async def end(self) -> Refusal:
        """Wait for the verifier to end the stream with an error."""
        try:
            while True:
                await self._read()
        except aio.AioRpcError as error:
            return refusal_of(error)

    async def _read(self) -> None:
        instruction = await received(self.call)
        if instruction.HasField("revocation"):
            self._revocations.append(instruction.revocation)
        if instruction.HasField("verdict"):
            self._verdicts.append(instruction.verdict)
        if instruction.HasField("challenge"):
            self._challenges.append(instruction.challenge)


def selection_of(message: attestation_pb2.PcrSelection) -> PcrSelection:
    """Return a selection from its message."""
    return PcrSelection.of({HashAlg(bank.hash): list(bank.pcrs) for bank in message.banks})


def a_node(verifier: RunningVerifier) -> FakeNode:
    """Return a node with a TPM of the trusted vendor, booted."""
    tpm = SyntheticTpm(verifier.vendor)
    for pcr in range(10):
        tpm.extend(pcr, {HashAlg.SHA256: hashlib.sha256(f"boot {pcr}".encode()).digest()})
    return FakeNode(verifier, tpm)


def golden_of(node: FakeNode, *pcrs: int, name: str = "rack-a") -> bytes:
    """Return the document of a golden that pins PCRs of a node, by default 0 to 7, to their present values."""
    selection = PcrSelection.of({HashAlg.SHA256: pcrs or range(8)})
    values = zip(selection.indices(), node.tpm.read_pcrs(selection), strict=True)
    pinned = {pcr: frozenset({value}) for (_, pcr), value in values}
    return dump_golden(Golden(name=name, pcrs={HashAlg.SHA256: pinned}))
