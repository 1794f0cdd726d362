"""A verifier that follows a test's script.

:class:`ScriptedVerifier` speaks the real protocols over real TLS and makes real cryptography, but appraises nothing: a
test sets its verdicts and answers. What agents send is kept for the test to look at.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from nodeseal.agent.calls.channels import VerifierConfig
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.credential import make_credential
from nodeseal.crypto.hpke import uncompressed_point, wrap_for_release
from nodeseal.crypto.tls_identity import peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.evidence.claims import Claims, decode_claims
from nodeseal.evidence.logs import MAX_LOG_PIECE, KnownLogs
from nodeseal.evidence.release_context import ReleaseContext, encode_release_context
from nodeseal.ids import Digest, KeyId, NodeId, lease_id_of, node_id_of
from nodeseal.sealed.slots import parse_slots
from nodeseal.tpm.public import EccPublic, decode_public
from nodeseal.v1 import (
    attestation_pb2,
    attestation_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    key_release_pb2,
    key_release_pb2_grpc,
)

DOMAIN = "test.example"
DATA_KEY = bytes(range(32))
SHA256 = 0x000B
QUOTED = (*range(16), 23)
NOTHING_KNOWN = KnownLogs(boot_id="", boot_log_sha256=b"", ima_offset=0)


@dataclass(slots=True, kw_only=True)
class ScriptedVerifier:
    """The verifier's script; a test changes it while agents run.

    Attributes:
        state: the verdict on every round.
        trusted_for_ms: as in ``Verdict``.
        interval: seconds between rounds.
        lifetime: of node certificates.
        certify_as: whom certificates name, if not the node that asked.
        refuse: status that ends every attestation stream, or None.
        values_required: as in ``Challenge``.
        policy_pcrs: PCRs that the release key's policy must cover.
        context: changes to the release context before it is sent.
        silence_seconds: as in ``Released``.
        release_delay: seconds between a release's proof and its answer.
        learns: whether an accepted round's logs are known from then on, as a verifier knows them that judged them.
        known: the logs that challenges name as known.
        seen: evidence in order of arrival, its stretches joined.
        messages: in how many messages each of them came.
        enrolments: identities in order of arrival.
        releases: proofs of releases.
        returned: leases given back.
        renewals: how often a certificate was renewed.
        renewed: the request and the evidence of each renewal.
        peers: client certificates of attestation streams, PEM.
        pause: the point of an exchange where the verifier stops: ``identity``, ``activation``, ``enrolled``, ``ask``,
            ``proof``, ``released``.
        reached: set when it did.
        instructions: a queue; each is sent on the open stream at once.
    """

    state: attestation_pb2.NodeState.ValueType = attestation_pb2.NODE_STATE_TRUSTED
    trusted_for_ms: int = 60_000
    interval: float = 0.05
    lifetime: timedelta = timedelta(days=1)
    certify_as: NodeId | None = None
    refuse: grpc.StatusCode | None = None
    values_required: bool = False
    policy_pcrs: tuple[int, ...] = (0, 4, 23)
    context: dict[str, Any] = field(default_factory=dict)
    silence_seconds: int = 0
    release_delay: float = 0.0
    learns: bool = True
    known: KnownLogs = NOTHING_KNOWN
    seen: list[attestation_pb2.Evidence] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    releases: list[key_release_pb2.Proof] = field(default_factory=list)
    enrolments: list[enrollment_pb2.Identity] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    renewals: int = 0
    renewed: list[tuple[bytes, attestation_pb2.Evidence]] = field(default_factory=list)
    peers: list[bytes] = field(default_factory=list)
    pause: str = ""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    instructions: asyncio.Queue[attestation_pb2.Instruction] = field(default_factory=asyncio.Queue)
    authority: CertificateAuthority = field(
        default_factory=lambda: CertificateAuthority.create("test authority", datetime.now(UTC), 30)
    )
    address: str = ""
    enrol_address: str = ""

    async def at(self, point: str) -> None:
        """Stop here for good if the test paused this point."""
        if self.pause == point:
            self.pause = ""
            self.reached.set()
            await asyncio.Event().wait()

    def certify(self, request: bytes, node: NodeId) -> bytes:
        return self.authority.issue_node(request, DOMAIN, self.certify_as or node, datetime.now(UTC), self.lifetime)

    def as_config(self, folder: Path) -> VerifierConfig:
        """Return how an agent finds this verifier; ``folder`` gets its authority."""
        (folder / "ca.pem").write_bytes(self.authority.certificate_pem)
        return VerifierConfig(
            address=self.address, enrol_address=self.enrol_address, ca_file=folder / "ca.pem", server_name=""
        )

    def challenge(self) -> attestation_pb2.Challenge:
        banks = [attestation_pb2.PcrSelection.Bank(hash=SHA256, pcrs=QUOTED)]
        return attestation_pb2.Challenge(
            nonce=os.urandom(32),
            pcr_selection=attestation_pb2.PcrSelection(banks=banks),
            answer_within_ms=10_000,
            values_required=self.values_required,
            boot_id_known=self.known.boot_id,
            boot_log_known=self.known.boot_log_sha256,
            ima_offset_known=self.known.ima_offset,
        )

    def learn(self, evidence: attestation_pb2.Evidence) -> None:
        """Know the logs of an accepted round."""
        boot_id = decode_claims(evidence.claims).boot_id
        sha256 = self.known.boot_log_sha256 if boot_id == self.known.boot_id else b""
        self.known = KnownLogs(
            boot_id=boot_id,
            boot_log_sha256=hashlib.sha256(evidence.boot_log).digest() if evidence.boot_log else sha256,
            ima_offset=evidence.ima.offset + len(evidence.ima.entries),
        )

    def verdict(self) -> attestation_pb2.Verdict:
        trusted = self.state == attestation_pb2.NODE_STATE_TRUSTED
        return attestation_pb2.Verdict(state=self.state, trusted_for_ms=self.trusted_for_ms if trusted else 0)

    def claims(self) -> Claims:
        """The newest claims."""
        return decode_claims(self.seen[-1].claims)


class _Enrollment(enrollment_pb2_grpc.EnrollmentServicer):
    def __init__(self, script: ScriptedVerifier) -> None:
        self._script = script

    async def Enroll(self, _requests: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's
        identity = (await context.read()).identity
        self._script.enrolments.append(identity)
        await self._script.at("identity")
        ek, secret = decode_public(identity.ek_public), os.urandom(32)
        made = make_credential(ek, decode_public(identity.ak_public).name(), secret)
        challenge = enrollment_pb2.CredentialChallenge(id_object=made.id_object, encrypted_secret=made.encrypted_secret)
        await context.write(enrollment_pb2.EnrollResponse(challenge=challenge))
        assert (await context.read()).activation.secret == secret
        await self._script.at("activation")
        node = node_id_of(ek.name())
        enrolled = enrollment_pb2.Enrolled(
            node_id=node,
            trust_domain=DOMAIN,
            certificate_chain=[self._script.certify(identity.certificate_request, node)],
        )
        if self._script.pause == "enrolled":  # said before it is sent: afterwards the agent's hanging up races with us
            self._script.reached.set()
        await context.write(enrollment_pb2.EnrollResponse(enrolled=enrolled))
        await self._script.at("enrolled")


class _Attestation(attestation_pb2_grpc.AttestationServicer):
    def __init__(self, script: ScriptedVerifier) -> None:
        self._script = script

    async def Attest(self, _requests: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's
        script = self._script
        script.peers.append(context.auth_context()["x509_pem_cert"][0])
        writing = asyncio.Lock()
        sender = asyncio.create_task(_forward(script.instructions, context, writing))
        try:
            instruction = attestation_pb2.Instruction(challenge=script.challenge())
            while True:
                if script.refuse is not None:
                    await context.abort(script.refuse, "as the test says")
                async with writing:
                    await context.write(instruction)
                evidence, messages = await read_round(context.read)
                if evidence is None:
                    return
                script.seen.append(evidence)
                script.messages.append(messages)
                if script.learns and script.state == attestation_pb2.NODE_STATE_TRUSTED:
                    script.learn(evidence)
                async with writing:
                    await context.write(attestation_pb2.Instruction(verdict=script.verdict()))
                await asyncio.sleep(script.interval)
                instruction = attestation_pb2.Instruction(challenge=script.challenge())
        finally:
            sender.cancel()

    async def Renew(self, _requests: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's
        request = (await context.read()).certificate_request
        await context.write(attestation_pb2.RenewResponse(challenge=self._script.challenge()))

        async def read() -> attestation_pb2.Evidence:
            part: attestation_pb2.Evidence = (await context.read()).evidence
            return part

        evidence, _ = await read_round(read)
        assert evidence is not None
        self._script.renewed.append((request, evidence))
        self._script.renewals += 1
        der = self._script.certify(request, _node(context))
        await context.write(attestation_pb2.RenewResponse(certificate_chain=[der]))


class _KeyRelease(key_release_pb2_grpc.KeyReleaseServicer):
    def __init__(self, script: ScriptedVerifier) -> None:
        self._script = script

    async def Release(self, _requests: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's
        script = self._script
        ask = (await context.read()).ask
        await script.at("ask")
        policy = [attestation_pb2.PcrSelection.Bank(hash=SHA256, pcrs=script.policy_pcrs)] if script.policy_pcrs else []
        challenge = key_release_pb2.ReleaseChallenge(
            challenge=script.challenge(), policy_selection=attestation_pb2.PcrSelection(banks=policy)
        )
        await context.write(key_release_pb2.ReleaseResponse(challenge=challenge))
        proof = await _joined_proof(context)
        script.releases.append(proof)
        await script.at("proof")
        await asyncio.sleep(script.release_delay)
        model, public = parse_slots(ask.slots).model_digest, decode_public(proof.release_public)
        released = self._released(model, _node(context), public)
        if script.pause == "released":  # said before it is sent: afterwards the agent's hanging up races with us
            script.reached.set()
        await context.write(key_release_pb2.ReleaseResponse(released=released))

    async def Return(self, request: Any, _context: Any) -> Any:  # noqa: N802  # gRPC's
        self._script.returned.extend(request.lease_ids)
        return key_release_pb2.ReturnResponse()

    def _released(self, model: Digest, node: NodeId, public: object) -> key_release_pb2.Released:
        assert isinstance(public, EccPublic)
        lease = lease_id_of(os.urandom(32))
        honest = ReleaseContext(
            audit_leaf=Digest("00" * 32),
            goldens=(Digest("11" * 32),),
            key_id=KeyId("llama"),
            key_version=1,
            lease_id=lease,
            model_digest=model,
            node_id=node,
        )
        context = encode_release_context(replace(honest, **self._script.context))
        sealed = wrap_for_release(uncompressed_point(public.x, public.y), context, DATA_KEY)
        return key_release_pb2.Released(
            lease_id=lease,
            context=context,
            enc=sealed.enc,
            wrapped=sealed.wrapped,
            trusted_for_ms=60_000,
            silence_seconds=self._script.silence_seconds,
        )


async def read_round(read: Callable[[], Awaitable[Any]]) -> tuple[attestation_pb2.Evidence | None, int]:
    """Read one round's evidence; return it with its stretches joined, or None at the stream's end, and their number."""
    boot_log, ima, number = bytearray(), bytearray(), 0
    offset: int | None = None
    while True:
        message = await read()
        if message is grpc.aio.EOF:
            return None, number
        number += 1
        assert len(message.boot_log) + len(message.ima.entries) <= MAX_LOG_PIECE
        boot_log += message.boot_log
        if message.HasField("ima"):
            offset = message.ima.offset if offset is None else offset
            assert message.ima.offset == offset + len(ima)
            ima += message.ima.entries
        if not message.more:
            message.boot_log = bytes(boot_log)
            if offset is not None:
                message.ima.offset, message.ima.entries = offset, bytes(ima)
            return message, number


async def _joined_proof(context: Any) -> key_release_pb2.Proof:
    last = key_release_pb2.Proof()

    async def read() -> attestation_pb2.Evidence:
        request = await context.read()
        last.CopyFrom(request.proof)
        part: attestation_pb2.Evidence = request.proof.evidence if request.HasField("proof") else request.logs
        return part

    evidence, _ = await read_round(read)
    assert evidence is not None
    last.evidence.CopyFrom(evidence)
    return last


def _node(context: Any) -> NodeId:
    der = ssl.PEM_cert_to_DER_cert(context.auth_context()["x509_pem_cert"][0].decode())
    return NodeId(peer_identity(der).name)


async def _forward(queue: asyncio.Queue[attestation_pb2.Instruction], context: Any, writing: asyncio.Lock) -> None:
    while True:
        instruction = await queue.get()
        async with writing:  # gRPC refuses a second message while one is on its way
            await context.write(instruction)


@asynccontextmanager
async def scripted_verifier() -> AsyncIterator[ScriptedVerifier]:
    """Run a scripted verifier on two free ports."""
    script = ScriptedVerifier()
    key = new_tls_key()
    server_der = script.authority.issue_verifier(
        certificate_request(key, "verifier"), DOMAIN, ("localhost",), datetime.now(UTC), timedelta(days=1)
    )
    pair, root = [(key, to_pem(server_der))], script.authority.certificate_pem
    server = grpc.aio.server()
    enrollment_pb2_grpc.add_EnrollmentServicer_to_server(_Enrollment(script), server)
    attestation_pb2_grpc.add_AttestationServicer_to_server(_Attestation(script), server)
    key_release_pb2_grpc.add_KeyReleaseServicer_to_server(_KeyRelease(script), server)
    mutual = grpc.ssl_server_credentials(pair, root_certificates=root, require_client_auth=True)
    script.address = f"localhost:{server.add_secure_port('localhost:0', mutual)}"
    script.enrol_address = f"localhost:{server.add_secure_port('localhost:0', grpc.ssl_server_credentials(pair))}"
    await server.start()
    try:
        yield script
    finally:
        await server.stop(0)
