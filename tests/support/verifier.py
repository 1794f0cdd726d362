"""A real verifier on loopback, people who operate it, and nodes with synthetic TPMs that talk to it.

Everything goes through the public API: the process ``nodeseal-verifier run``, mutual TLS and gRPC. A test is a
coroutine under :func:`asyncio.run`::

    with a_verifier(tmp_path) as verifier:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin, node.attesting() as stream:
            await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
"""

from __future__ import annotations

import hashlib
import json
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from nodeseal.crypto.hpke import Wrapped, finish_release, split_point, uncompressed_point
from nodeseal.crypto.x509 import CertificateAuthority, certificate_request, new_tls_key, to_pem
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.folder import decode_evidence_folder
from nodeseal.evidence.logs import MAX_LOG_PIECE
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, LeaseId, ModelId, NodeId, Nonce, PersonId
from nodeseal.sealed.content import Content, SealedFile
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.public import EccPublic
from nodeseal.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    attestation_pb2,
    attestation_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    key_release_pb2,
    key_release_pb2_grpc,
)
from nodeseal.verifier.people.persons import Newcomer, add_person
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.database import open_engine

TRUST_DOMAIN = "test.example"
FAST: Mapping[str, object] = {"interval_seconds": 1, "trust_seconds": 30, "answer_within_seconds": 5}
_READY_SECONDS = 20.0
_LOCAL_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]


class RunningVerifier:
    """A verifier's folder, and the process that serves it.

    Attributes:
        folder: what ``init`` made.
        vendor: the only TPM vendor it trusts.
        listen: address for nodes and people.
        listen_enrol: address for enrolment.
    """

    def __init__(self, folder: Path, vendor: TpmVendor) -> None:
        self.folder = folder
        self.vendor = vendor
        self.listen = self.listen_enrol = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> bytes:
        return (self.folder / "ca.pem").read_bytes()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start the process and wait until it is ready; a restart keeps the ports."""
        log = self.folder / "log"
        seen = len(self._lines())
        with log.open("ab") as stream:
            program = [sys.executable, "-m", "nodeseal.verifier", "run", "--config", str(self.folder / "verifier.yaml")]
            self._process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            ready = [line for line in self._lines()[seen:] if '"event": "ready"' in line]
            if ready:
                addresses = json.loads(ready[0])
                self.listen, self.listen_enrol = addresses["listen"], addresses["listen_enrol"]
                self._keep_ports()
                return
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the verifier did not start: {log.read_text()}")

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=20)

    def log(self) -> list[dict[str, Any]]:
        """Return its log lines; each must be one JSON document."""
        return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def records(self) -> list[dict[str, Any]]:
        """Return the audit log's documents straight from the database, oldest first."""
        with sqlite3.connect(f"file:{self.folder / 'verifier.sqlite'}?mode=ro", uri=True) as database:
            return [json.loads(row[0]) for row in database.execute("SELECT content FROM audit ORDER BY sequence")]

    def actions(self, subject: str) -> list[str]:
        """Return the audited actions on one subject, oldest first."""
        return [record["action"] for record in self.records() if record["subject"] == subject]

    def authority(self) -> CertificateAuthority:
        return CertificateAuthority.load(self.ca, (self.folder / "ca.key").read_bytes())

    def add_person(self, name: str, *roles: Role) -> Path:
        """Give a person roles and a client; return its folder."""
        folder = self.folder / "persons" / name
        newcomer = Newcomer(
            name=PersonId(name),
            roles=frozenset(roles),
            trust_domain=TRUST_DOMAIN,
            verifier=self.listen,
            actor="test",
        )
        engine = open_engine(self.folder / "verifier.sqlite")
        add_person(engine, self.authority(), newcomer, folder, datetime.now(UTC))
        engine.dispose()
        return folder

    @asynccontextmanager
    async def person(self, name: str = "admin") -> AsyncIterator[Stubs]:
        """Connect as a person."""
        folder = self.folder / "persons" / name
        async with self.channel((folder / "person.key").read_bytes(), (folder / "person.pem").read_bytes()) as channel:
            yield Stubs(channel)

    def channel(self, key: bytes, chain: bytes) -> aio.Channel:
        """Return a channel to ``listen`` with a client certificate (PEM)."""
        credentials = grpc.ssl_channel_credentials(self.ca, key, chain)
        return aio.secure_channel(self.listen, credentials, _LOCAL_OPTIONS)

    def enrolment_channel(self) -> aio.Channel:
        """Return a channel to ``listen_enrol``."""
        return aio.secure_channel(self.listen_enrol, grpc.ssl_channel_credentials(self.ca), _LOCAL_OPTIONS)

    def _keep_ports(self) -> None:
        path = self.folder / "verifier.yaml"
        text = path.read_text()
        text = text.replace('listen: "127.0.0.1:0"', f'listen: "{self.listen}"')
        path.write_text(text.replace('listen_enrol: "127.0.0.1:0"', f'listen_enrol: "{self.listen_enrol}"'))


class Stubs:
    """All services over one channel."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.nodes = admin_pb2_grpc.NodesStub(channel)
        self.goldens = admin_pb2_grpc.GoldensStub(channel)
        self.keys = admin_pb2_grpc.KeysStub(channel)
        self.models = admin_pb2_grpc.ModelsStub(channel)
        self.audit = admin_pb2_grpc.AuditStub(channel)
        self.attestation = attestation_pb2_grpc.AttestationStub(channel)
        self.release = key_release_pb2_grpc.KeyReleaseStub(channel)
        self.enrollment = enrollment_pb2_grpc.EnrollmentStub(channel)


@contextmanager
def a_verifier(
    folder: Path, vendor: TpmVendor | None = None, *, start: bool = True, **attestation: object
) -> Iterator[RunningVerifier]:
    """Set a verifier up below ``folder`` and run it; ``attestation`` overrides :data:`FAST`."""
    vendor = vendor or TpmVendor.create(folder / "vendor")
    verifier = RunningVerifier(folder / "verifier", vendor)
    plan = SetupPlan(
        trust_domain=TRUST_DOMAIN,
        server_names=("localhost", "127.0.0.1"),
        listen="127.0.0.1:0",
        listen_enrol="127.0.0.1:0",
        ek_roots=vendor.roots_dir,
        admin=PersonId("admin"),
        own=OwnCertificates(),
    )
    initialise(verifier.folder, plan, datetime.now(UTC))
    set_config(verifier, **{**FAST, **attestation})
    try:
        if start:
            verifier.start()
        yield verifier
    finally:
        verifier.kill()


def set_config(verifier: RunningVerifier, **values: object) -> None:
    """Change integers in ``verifier.yaml`` by key; the verifier reads them when it starts."""
    path = verifier.folder / "verifier.yaml"
    lines = path.read_text().splitlines()
    for key, value in values.items():
        places = [number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
        assert len(places) == 1, f"{key} is in verifier.yaml {len(places)} times"
        indent = lines[places[0]][: len(lines[places[0]]) - len(lines[places[0]].lstrip())]
        lines[places[0]] = f"{indent}{key}: {value}"
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call failed.

    Attributes:
        code: gRPC status.
        details: its text.
        findings: ids of the findings that came with it.
    """

    code: grpc.StatusCode
    details: str
    findings: tuple[str, ...]


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Return what an error of a call says, synchronous or not."""
    assert isinstance(error, (aio.AioRpcError, grpc.Call))
    found = [
        value
        for key, value in error.trailing_metadata() or ()
        if key == "nodeseal-findings-bin" and isinstance(value, bytes)
    ]
    findings = attestation_pb2.Verdict.FromString(found[0]).findings if found else ()
    return Refusal(error.code(), error.details() or "", tuple(finding.id for finding in findings))


class FakeNode:
    """A node with a synthetic TPM; every step of the protocol can be taken by itself.

    Attributes:
        tpm: its TPM.
        node_id: its id, once enrolled.
        leases: what its claims say it holds.
        boot_log: what its firmware left; empty: no log.
        ima_log: ``binary_runtime_measurements``; None: no IMA.
        release_key: the release key of the last proof, with the PCRs of its policy.
    """

    release_key: tuple[EccPublic, PcrSelection]

    def __init__(self, verifier: RunningVerifier, tpm: SyntheticTpm) -> None:
        self.verifier = verifier
        self.tpm = tpm
        self.key = new_tls_key()
        self.chain: tuple[bytes, ...] = ()
        self.node_id = ""
        self.leases: tuple[str, ...] = ()
        self.boot_log = b""
        self.ima_log: bytes | None = None
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
        async with self.verifier.enrolment_channel() as channel:
            call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=20)
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
        """What this node's quotes are bound to."""
        return Channel(
            trust_domain=TRUST_DOMAIN,
            node_id=NodeId(self.node_id),
            certificate_sha256=hashlib.sha256(self.chain[0]).digest(),
        )

    def claims(self) -> bytes:
        """Return what the node says of itself."""
        leases = tuple(LeaseId(lease) for lease in self.leases)
        return encode_claims(Claims(boot_id=self.boot_id, kernel="6.1.0", agent_version="0.1.0", leases=leases))

    def qualifying(self, challenge: attestation_pb2.Challenge, purpose: Purpose) -> bytes:
        """Return the qualifying data for a challenge."""
        return qualifying_data(purpose, Nonce(challenge.nonce), self.binding, self.claims())

    def evidence(
        self, challenge: attestation_pb2.Challenge, purpose: Purpose = Purpose.ATTEST
    ) -> attestation_pb2.Evidence:
        """Return honest evidence, values included."""
        selection = selection_of(challenge.pcr_selection)
        quote = self.tpm.quote(self.qualifying(challenge, purpose), selection)
        return attestation_pb2.Evidence(
            claims=self.claims(),
            attest=quote.attest,
            signature=quote.signature,
            pcr_values=self.tpm.read_pcrs(selection),
        )

    def answer(
        self, challenge: attestation_pb2.Challenge, purpose: Purpose = Purpose.ATTEST
    ) -> list[attestation_pb2.Evidence]:
        """Return the honest answer: stretches of what the verifier does not know, and the evidence at last."""
        known = challenge.boot_id_known == self.boot_id
        boot_log, offset = self.boot_log, challenge.ima_offset_known if known else 0
        if known and hashlib.sha256(boot_log).digest() == challenge.boot_log_known:
            boot_log = b""
        logs = [*boot_log_stretches(boot_log)]
        if self.ima_log is not None:
            logs += ima_stretches(self.ima_log[offset:], offset)
        return [*logs, self.evidence(challenge, purpose)]

    @asynccontextmanager
    async def attesting(self) -> AsyncIterator[FakeStream]:
        """Open an attestation stream; nothing is answered by itself."""
        async with self.channel() as channel:
            call = attestation_pb2_grpc.AttestationStub(channel).Attest()
            try:
                yield FakeStream(self, call)
            finally:
                call.cancel()

    async def release(self, model_digest: str, slots: list[key_release_pb2.Slot]) -> key_release_pb2.Released:
        """Ask for a key and prove what is asked; raises ``AioRpcError`` when refused."""
        async with self.channel() as channel:
            call = key_release_pb2_grpc.KeyReleaseStub(channel).Release(timeout=20)
            ask = key_release_pb2.Ask(model_digest=model_digest, slots=slots)
            await call.write(key_release_pb2.ReleaseRequest(ask=ask))
            challenge = (await received(call)).challenge
            *logs, _ = self.answer(challenge.challenge, Purpose.RELEASE)
            for stretch in logs:
                await call.write(key_release_pb2.ReleaseRequest(logs=stretch))
            await call.write(key_release_pb2.ReleaseRequest(proof=self.proof(challenge)))
            released: key_release_pb2.Released = (await received(call)).released
        self.leases = (*self.leases, released.lease_id)
        return released

    def open(self, released: key_release_pb2.Released) -> bytes:
        """Return the data key of a release, opened by the TPM under its policy."""
        x, y = split_point(released.enc)
        public, policy = self.release_key
        point = uncompressed_point(public.x, public.y)
        shared = self.tpm.ecdh(public, policy, x, y)
        return bytes(finish_release(point, released.context, Wrapped(released.enc, released.wrapped), shared))

    def proof(self, challenge: key_release_pb2.ReleaseChallenge, **changes: Any) -> key_release_pb2.Proof:
        """Return an honest proof of a new release key, with some fields changed."""
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


def boot_log_stretches(log: bytes) -> Iterator[attestation_pb2.Evidence]:
    """Cut a boot log into messages that others follow."""
    for start in range(0, len(log), MAX_LOG_PIECE):
        yield attestation_pb2.Evidence(boot_log=log[start : start + MAX_LOG_PIECE], more=True)


def ima_stretches(entries: bytes, offset: int = 0) -> Iterator[attestation_pb2.Evidence]:
    """Cut what an IMA log has from ``offset`` on into messages that others follow."""
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


async def received(call: Any) -> Any:
    """Return the next message of a stream; a stream that ends in order is an error here."""
    message = await call.read()
    if message is aio.EOF:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            raise AssertionError("the verifier ended the stream without a message")
        raise aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details())
    return message


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
    """Return the document of a golden that pins what PCRs of a node, by default 0 to 7, hold now."""
    selection = PcrSelection.of({HashAlg.SHA256: pcrs or range(8)})
    values = zip(selection.indices(), node.tpm.read_pcrs(selection), strict=True)
    pinned = {pcr: frozenset({value}) for (_, pcr), value in values}
    return dump_golden(Golden(name=name, pcrs={HashAlg.SHA256: pinned}))


async def golden_from_evidence(admin: Stubs, node_id: str, *pcrs: int, name: str = "rack-a") -> bytes:
    """Return the same of a node whose agent answers, from what it sends."""
    files: dict[str, bytes] = {}
    async for part in admin.nodes.GetEvidence(admin_pb2.GetEvidenceRequest(node_id=node_id), timeout=60):
        files[part.name] = files.get(part.name, b"") + part.data
    folder = decode_evidence_folder(files)
    values = dict(zip(folder.selection.indices(), folder.evidence.pcr_values or (), strict=True))
    pinned = {pcr: frozenset({values[HashAlg.SHA256, pcr]}) for pcr in pcrs}
    return dump_golden(Golden(name=name, pcrs={HashAlg.SHA256: pinned}))


async def trusted_node(verifier: RunningVerifier, admin: Stubs) -> FakeNode:
    """Return a node that is enrolled, admitted, and covered by a golden captured from it; its stream is closed."""
    node = a_node(verifier)
    await node.enrol()
    async with node.attesting() as stream:
        await stream.round()
        await admin.goldens.ActivateGolden(iter([admin_pb2.ActivateGoldenRequest(document=golden_of(node))]))
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
        await stream.round_until(attestation_pb2.NODE_STATE_TRUSTED)
    return node


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A registered model with one slot, without its files.

    Attributes:
        digest: the model digest.
        data_key: what the slot holds.
        slot: sealed to the verifier's model key.
    """

    digest: str
    data_key: bytes
    slot: key_release_pb2.Slot


async def a_sealed_model(admin: Stubs, key_id: str = "llama", model_id: str = "llama", version: int = 1) -> Sealed:
    """Create a model key unless there is one, seal a data key to it, and register the model."""
    try:
        key = await admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id=key_id))
    except aio.AioRpcError:
        key = await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key_id))
    content = content_of(model_id, version)
    registered = await admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))
    data_key = secrets.token_bytes(32)
    return Sealed(
        digest=registered.digest, data_key=data_key, slot=slot_for(key.public, Digest(registered.digest), data_key)
    )


def content_of(model_id: str, version: int) -> bytes:
    """Return ``nodeseal.model.json`` of a model with one sealed file."""
    file = SealedFile(
        path="model.safetensors.sealed",
        size=1000,
        file_id=bytes(16),
        segment_size=1 << 20,
        header_tag=bytes(32),
        tags_digest=Digest("0" * 64),
    )
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return Content(model_id=ModelId(model_id), version=version, created=created, files=(file,)).encode()


def slot_for(public_key_file: bytes, model_digest: Digest, data_key: bytes) -> key_release_pb2.Slot:
    """Return the slot of a model for a model key."""
    slot = parse_model_key(public_key_file, "model key").slot(model_digest, data_key)
    return key_release_pb2.Slot(
        key_id=slot.key_id,
        key_version=slot.key_version,
        suite=slot.suite.value,
        enc=slot.sealed.enc,
        wrapped=slot.sealed.wrapped,
    )


async def grant(admin: Stubs, node: FakeNode, key_id: str = "llama", max_leases: int = 1) -> None:
    """Grant a model key to a node."""
    grant = admin_pb2.Grant(node_id=node.node_id, max_leases=max_leases)
    await admin.keys.GrantKey(admin_pb2.GrantKeyRequest(key_id=key_id, grant=grant))
