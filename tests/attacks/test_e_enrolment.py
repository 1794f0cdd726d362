"""Attacks on enrolment and identity, over gRPC against a running verifier: rows e01 to e10 (e11 is beside this).

Every refusal changes one fact of an identity that enrols, and leaves nodes and audit log as they were.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tpm2_pytss.TSS2_Exception import TSS2_Exception

from nodeseal.agent.tpm import templates
from nodeseal.agent.tpm.failures import TpmFailed
from nodeseal.crypto.keys import public_key_of
from nodeseal.crypto.x509 import certificate_request
from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import digest_of
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tcg.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tcg.ek_template import template
from nodeseal.tcg.public import EccPublic, RsaPublic, Scheme, TpmPublic
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, enrollment_pb2_grpc
from nodeseal.v1.key_release_pb2 import Proof, ReleaseChallenge
from nodeseal.verifier.store.database import Store
from support import certificates as made
from support.attackers import (
    ESCAPED,
    MachineTpm,
    admitted_node,
    altered,
    enrolling,
    evidence_claiming,
    in_process,
    nothing_enrolled,
    refused,
    refused_release,
    seen_by,
    tpm_of,
    twin_of,
)
from support.certificates import EK, INTERMEDIATE, RSA_EK, Facts, ec_key, key_info, rsa_key
from support.machines import a_machine, need
from support.roca import roca_modulus
from support.verifier import (
    FakeNode,
    Refusal,
    RunningVerifier,
    Sealed,
    Stubs,
    a_node,
    a_sealed_model,
    a_verifier,
    content_of,
    grant,
    refusal_of,
    trusted_node,
)

OF_THIS_TPM = ObjectAttributes.FIXED_TPM | ObjectAttributes.FIXED_PARENT
MEGABYTE = 1 << 20
GOOD_AK = templates.attestation_key(bytes(64))


@dataclass(frozen=True, slots=True)
class Scene:
    """A verifier that trusts a vendor, the authorities of :mod:`support.certificates`, and a few keys by name.

    Of the vendor ``orphaned`` it has the intermediate and not the root. It has a golden that
    :func:`support.verifier.a_node` matches, and a model.
    """

    verifier: RunningVerifier
    allowed: SyntheticTpm
    orphaned: TpmVendor
    model: Sealed


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("e")
    vendor = TpmVendor.create(folder / "vendor")
    allowed, orphaned = SyntheticTpm(vendor), TpmVendor.create(folder / "orphaned", "orphaned")
    keys = [allowed.ek, _rsa_ek(rsa_key("small", 1024)), _roca_ek(), _p192_ek()]
    listed = [str(digest_of(key.encode())) for key in keys]
    with a_verifier(folder, vendor, start=False, ek_allow=listed, trust_seconds=600, interval_seconds=0) as verifier:
        (verifier.folder / "ek-roots" / "made-root.der").write_bytes(made.root())
        (verifier.folder / "ek-roots" / "made-intermediate.der").write_bytes(made.intermediate())
        (verifier.folder / "ek-roots" / "orphaned.der").write_bytes(orphaned.intermediate)
        verifier.start()
        yield Scene(verifier, allowed, orphaned, asyncio.run(_prepared(verifier)))


async def _prepared(verifier: RunningVerifier) -> Sealed:
    async with verifier.person() as admin:
        await trusted_node(verifier, admin)
        return await a_sealed_model(admin)


async def granted_node(scene: Scene, admin: Stubs) -> FakeNode:
    """Return a node that is trusted and may open the model."""
    node = await admitted_node(scene.verifier)
    await grant(admin, node)
    async with node.attesting() as stream:
        assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
    return node


@pytest.fixture(scope="module")
def verifier(scene: Scene) -> RunningVerifier:
    return scene.verifier


@pytest.fixture(scope="module")
def machine(verifier: RunningVerifier) -> Iterator[Machine]:
    need("swtpm")
    with a_machine(verifier.vendor) as made_machine:
        yield made_machine


def refused_identity(node: FakeNode, identity: enrollment_pb2.Identity | None = None) -> Refusal:
    """Enrol, which must fail before any challenge and change nothing."""

    async def case() -> Refusal:
        async with nothing_enrolled(node.verifier):
            return await asyncio.to_thread(_shown, node.verifier, identity or node.identity())

    return asyncio.run(case())


def _shown(verifier: RunningVerifier, identity: enrollment_pb2.Identity) -> Refusal:
    with _sync_channel(verifier) as channel:
        requests = iter([enrollment_pb2.EnrollRequest(identity=identity)])
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(requests, timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        return refusal_of(caught.value)


def _sync_channel(verifier: RunningVerifier) -> grpc.Channel:
    """Connect for calls whose refusal may overtake a message: gRPC's asyncio client calls that an internal error."""
    credentials = grpc.ssl_channel_credentials(verifier.ca)
    return grpc.secure_channel(verifier.listen_enrol, credentials, [("grpc.enable_http_proxy", 0)])


def findings_of(refusal: Refusal) -> tuple[str, ...]:
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED, refusal
    return refusal.findings


# e00: the good cases that the others change


@pytest.mark.parametrize("ek", ["ecc", "rsa"])
def test_e00_a_machine_enrols(verifier: RunningVerifier, ek: str) -> None:
    need("swtpm")
    with a_machine(verifier.vendor, ek=ek) as other, tpm_of(other) as tpm:
        node = FakeNode(verifier, tpm)
        asyncio.run(node.enrol())
    assert verifier.actions(f"node/{node.node_id}") == ["node.enrolled"]


# e01, e02: the attestation key


def test_e01_an_attestation_key_without_restricted_is_refused(verifier: RunningVerifier, machine: Machine) -> None:
    unrestricted = replace(GOOD_AK, attributes=GOOD_AK.attributes ^ ObjectAttributes.RESTRICTED)
    with tpm_of(machine, unrestricted) as tpm:
        assert findings_of(refused_identity(FakeNode(verifier, tpm))) == ("ak.attributes",)
    with tpm_of(machine, GOOD_AK) as tpm:
        asyncio.run(FakeNode(verifier, tpm).enrol())


CHANGED_ATTRIBUTES = {
    "without fixedTPM": ObjectAttributes.FIXED_TPM,
    "without fixedParent": ObjectAttributes.FIXED_PARENT,
    "without sensitiveDataOrigin": ObjectAttributes.SENSITIVE_DATA_ORIGIN,
    "without sign": ObjectAttributes.SIGN_ENCRYPT,
    "with decrypt": ObjectAttributes.DECRYPT,
    "with stClear": ObjectAttributes.ST_CLEAR,
    "with encryptedDuplication": ObjectAttributes.ENCRYPTED_DUPLICATION,
    "with x509sign": ObjectAttributes.X509_SIGN,
}


@pytest.mark.parametrize("why", CHANGED_ATTRIBUTES)
def test_e02_an_attestation_key_with_another_attribute_is_refused(verifier: RunningVerifier, why: str) -> None:
    node = a_node(verifier)
    honest = node.tpm.ak
    node.tpm.ak = replace(honest, attributes=honest.attributes ^ CHANGED_ATTRIBUTES[why])
    assert findings_of(refused_identity(node)) == ("ak.attributes",)
    node.tpm.ak = honest
    asyncio.run(node.enrol())


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        pytest.param(OF_THIS_TPM, 2, id="that leaves the TPM"),
        pytest.param(ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT, 2, id="that signs and decrypts anything"),
        pytest.param(OF_THIS_TPM | ObjectAttributes.RESTRICTED, 3, id="that leaves the TPM and signs anything"),
    ],
)
def test_e02_a_key_that_a_tpm_really_made_is_refused_with_one_finding_each(
    verifier: RunningVerifier, machine: Machine, changed: ObjectAttributes, found: int
) -> None:
    made_key = replace(GOOD_AK, attributes=GOOD_AK.attributes ^ changed)
    if ObjectAttributes.DECRYPT in changed:
        made_key = replace(made_key, scheme=None)  # a TPM makes such keys without a scheme only
    with tpm_of(machine, made_key) as tpm:
        refusal = refused_identity(FakeNode(verifier, tpm))
    assert findings_of(refusal).count("ak.attributes") == found


# e03: keys of two TPMs


def test_e03_keys_of_two_machines_do_not_enrol(verifier: RunningVerifier, machine: Machine) -> None:
    async def case() -> None:
        mixed = mine.identity(ak_public=theirs.tpm.ak.encode())
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            challenge = await stream.show(mixed)
            for node in (mine, theirs):
                with pytest.raises(TpmFailed):
                    node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
            refusal = await refused(stream.answer(bytes(32)))
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("ak.activation",))
        await mine.enrol()
        await theirs.enrol()
        assert mine.node_id != theirs.node_id

    with a_machine(verifier.vendor) as other, tpm_of(machine) as my_tpm, tpm_of(other) as their_tpm:
        mine, theirs = FakeNode(verifier, my_tpm), FakeNode(verifier, their_tpm)
        asyncio.run(case())


def test_e03_a_key_in_software_is_not_activated_by_a_tpm_that_was_told_its_public_area(
    verifier: RunningVerifier, machine: Machine
) -> None:
    """It claims every attribute of an attestation key, and a policy that anybody can satisfy."""
    software = SyntheticTpm(verifier.vendor)
    software.ak = replace(software.ak, auth_policy=_POLICY_COMMAND_CODE)

    async def case(tpm: MachineTpm) -> None:
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            challenge = await stream.show(FakeNode(verifier, tpm).identity(ak_public=software.ak.encode()))
            for by_policy in (False, True):
                with pytest.raises(TSS2_Exception, match="not available for selected entity"):
                    tpm.activate_external(software.ak, challenge, by_policy=by_policy)
            assert (await refused(stream.answer(bytes(32)))).findings == ("ak.activation",)

    with tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


_ACTIVATE_CREDENTIAL = 0x147
_POLICY_COMMAND_CODE = hashlib.sha256(
    bytes(32) + (0x16C).to_bytes(4, "big") + _ACTIVATE_CREDENTIAL.to_bytes(4, "big")
).digest()
"""TPM2_PolicyCommandCode(TPM2_ActivateCredential) (Part 3 §23.11)."""


# e04, e05: the endorsement key's certificate


def certified(node: FakeNode, facts: Facts, signer: str = "intermediate") -> enrollment_pb2.Identity:
    """Return the node's identity with a certificate of our own making, and no chain."""
    point = replace(facts, key=facts.key if facts.key != EK.key else _key_info(node.tpm.ek))
    return node.identity(ek_certificates=[point.sign(ec_key(signer))], ek_chain=[])


def _key_info(public: TpmPublic) -> bytes:
    key = public_key_of(public)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


CERTIFICATES: dict[str, tuple[Facts, str]] = {
    "expired": (replace(EK, not_after="20250201000000Z"), "ek.certificate-expired"),
    "of the future": (replace(EK, not_before="20340101000000Z"), "ek.certificate-expired"),
    "for signatures": (
        replace(EK, extensions=(made.constraints(ca=False), made.usage(0), *EK.extensions[2:])),
        "ek.certificate-usage",
    ),
    "for TLS servers": (
        replace(EK, extensions=(*EK.extensions[:2], made.extended_usage("1.3.6.1.5.5.7.3.1"), EK.extensions[3])),
        "ek.certificate-usage",
    ),
    "of an authority": (
        replace(EK, extensions=(made.constraints(ca=True), *EK.extensions[1:])),
        "ek.certificate-usage",
    ),
    "with a critical extension that nobody knows": (
        replace(EK, extensions=(*EK.extensions, made.extension("1.2.3.4", made.NULL, critical=True))),
        "ek.certificate-usage",
    ),
    "of another key": (replace(EK, key=key_info(ec_key("another"))), "ek.key-mismatch"),
    "from an unknown issuer": (replace(EK, issuer=made.name("Nobody")), "ek.untrusted-root"),
}


def test_e04_a_certificate_of_a_configured_authority_enrols(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    asyncio.run(node.enrol(certified(node, EK)))


@pytest.mark.parametrize("why", CERTIFICATES)
def test_e04_a_certificate_that_differs_in_one_fact_is_refused(verifier: RunningVerifier, why: str) -> None:
    facts, finding = CERTIFICATES[why]
    node = a_node(verifier)
    assert findings_of(refused_identity(node, certified(node, facts))) == (finding,)


def test_e04_a_certificate_that_its_issuer_did_not_sign_is_refused(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    refusal = refused_identity(node, certified(node, EK, signer="somebody else"))
    assert findings_of(refusal) == ("ek.untrusted-root", "ek.certificate-signature")


def test_e04_a_root_that_the_node_brings_along_is_not_trusted(verifier: RunningVerifier, tmp_path: Path) -> None:
    stranger = TpmVendor.create(tmp_path / "stranger", "stranger")
    node = FakeNode(verifier, SyntheticTpm(stranger))
    root = ssl.PEM_cert_to_DER_cert(stranger.root_pem.decode())
    refusal = refused_identity(node, node.identity(ek_chain=[stranger.intermediate, root]))
    assert findings_of(refusal) == ("ek.untrusted-root",)


def test_e04_an_intermediate_without_its_root_is_not_trusted(scene: Scene) -> None:
    node = FakeNode(scene.verifier, SyntheticTpm(scene.orphaned))
    assert findings_of(refused_identity(node, node.identity(ek_chain=[]))) == ("ek.untrusted-root",)


def test_e04_the_certificate_of_another_tpm_is_refused(verifier: RunningVerifier) -> None:
    node, other = a_node(verifier), a_node(verifier)
    refusal = refused_identity(node, node.identity(ek_certificates=[other.tpm.ek_certificate]))
    assert findings_of(refusal) == ("ek.key-mismatch",)


LINK = replace(INTERMEDIATE, subject=made.name("Link"), key=key_info(ec_key("link")))
"""An authority between the configured root and the node's certificate, which the node brings along."""
_CA, _SIGNS, _EK_USAGE = INTERMEDIATE.extensions
LINKS: dict[str, tuple[Facts, str, tuple[str, ...]]] = {
    "good": (LINK, "root", ()),
    "no authority": (
        replace(LINK, extensions=(made.constraints(ca=False), _SIGNS, _EK_USAGE)),
        "root",
        ("ek.certificate-usage",),
    ),
    "without basic constraints": (replace(LINK, extensions=(_SIGNS, _EK_USAGE)), "root", ("ek.certificate-usage",)),
    "not for certificates": (
        replace(LINK, extensions=(_CA, made.usage(0), _EK_USAGE)),
        "root",
        ("ek.certificate-usage",),
    ),
    "for TLS servers": (
        replace(LINK, extensions=(_CA, _SIGNS, made.extended_usage("1.3.6.1.5.5.7.3.1"))),
        "root",
        ("ek.certificate-usage",),
    ),
    "below one that may have none below it": (
        replace(LINK, issuer=INTERMEDIATE.subject),
        "intermediate",
        ("ek.certificate-usage",),
    ),
    "expired": (replace(LINK, not_after="20250201000000Z"), "root", ("ek.certificate-expired",)),
    "not signed by the root": (LINK, "nobody", ("ek.untrusted-root", "ek.certificate-signature")),
}


@pytest.mark.parametrize("why", LINKS)
def test_e04_an_authority_that_the_node_brings_along_must_be_one(verifier: RunningVerifier, why: str) -> None:
    """A TPM's owner who can sign with a key that a vendor certified for something else is no vendor."""
    facts, signer, expected = LINKS[why]
    node = a_node(verifier)
    leaf = replace(EK, issuer=LINK.subject, key=_key_info(node.tpm.ek)).sign(ec_key("link"))
    identity = node.identity(ek_certificates=[leaf], ek_chain=[facts.sign(ec_key(signer))])
    if expected:
        assert findings_of(refused_identity(node, identity)) == expected
    else:
        asyncio.run(node.enrol(identity))


def test_e05_a_key_without_certificate_that_is_not_listed_is_refused(scene: Scene) -> None:
    listed, stranger = FakeNode(scene.verifier, scene.allowed), a_node(scene.verifier)
    asyncio.run(listed.enrol(listed.identity(ek_certificates=[], ek_chain=[])))
    refusal = refused_identity(stranger, stranger.identity(ek_certificates=[], ek_chain=[]))
    assert findings_of(refusal) == ("ek.certificate-missing",)


def test_e05_the_listed_key_with_other_attributes_is_another_key(scene: Scene) -> None:
    node = FakeNode(scene.verifier, scene.allowed)
    ek = replace(scene.allowed.ek, attributes=scene.allowed.ek.attributes ^ ObjectAttributes.RESTRICTED)
    refusal = refused_identity(node, node.identity(ek_public=ek.encode(), ek_certificates=[], ek_chain=[]))
    assert set(findings_of(refusal)) == {"ek.certificate-missing", "ek.template"}


# e06, e07: the challenge

WRONG_SECRETS: Mapping[str, Callable[[bytes], bytes]] = {
    "another": lambda secret: bytes(len(secret)),
    "nothing": lambda secret: secret[:0],
    "cut": lambda secret: secret[:-1],
    "with a byte more": lambda secret: secret + b"\0",
    "with a flipped bit": lambda secret: bytes([secret[0] ^ 1]) + secret[1:],
}


@pytest.mark.parametrize("why", WRONG_SECRETS)
def test_e06_a_wrong_secret_ends_the_attempt_and_the_right_one_comes_too_late(
    verifier: RunningVerifier, why: str
) -> None:
    async def case() -> None:
        node = a_node(verifier)
        async with nothing_enrolled(verifier):
            refusal = await asyncio.to_thread(_two_answers, node, WRONG_SECRETS[why])
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("ak.activation",))
        await node.enrol()

    asyncio.run(case())


def _two_answers(node: FakeNode, change: Callable[[bytes], bytes]) -> Refusal:
    """Answer a challenge with a changed secret and at once with the right one; return the refusal."""
    secrets: SimpleQueue[bytes] = SimpleQueue()

    def requests() -> Iterator[enrollment_pb2.EnrollRequest]:
        yield enrollment_pb2.EnrollRequest(identity=node.identity())
        secret = secrets.get(timeout=10)
        for answer in (change(secret), secret):
            yield enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=answer))

    with _sync_channel(node.verifier) as channel:
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(requests(), timeout=20)
        challenge = next(call).challenge
        secrets.put(node.tpm.activate(challenge.id_object, challenge.encrypted_secret))
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        return refusal_of(caught.value)


def test_e07_a_secret_counts_on_its_own_stream_only(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        async with enrolling(verifier) as first, enrolling(verifier) as second:
            challenges = [await stream.show(node.identity()) for stream in (first, second)]
            secrets = [node.tpm.activate(each.id_object, each.encrypted_secret) for each in challenges]
            assert secrets[0] != secrets[1]
            async with nothing_enrolled(verifier):
                assert (await refused(second.answer(secrets[0]))).findings == ("ak.activation",)
            assert (await first.answer(secrets[0])).node_id

    asyncio.run(case())


def test_e07_a_challenge_of_yesterday_proves_nothing_today(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        async with enrolling(verifier) as stream:
            challenge = await stream.show(node.identity())
            secret = node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
            await stream.answer(secret)
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            again = await stream.show(node.identity())
            assert again != challenge
            assert (await refused(stream.answer(secret))).findings == ("ak.activation",)

    asyncio.run(case())


def test_e07_a_stream_takes_one_identity(verifier: RunningVerifier) -> None:
    """A challenge made for one identity must not enrol another that is shown afterwards."""

    async def case() -> None:
        node, other = a_node(verifier), a_node(verifier)
        async with nothing_enrolled(verifier), enrolling(verifier) as stream:
            await stream.show(node.identity())
            assert (await refused(stream.show(other.identity()))).code is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(case())


# e08: who owns an id


def test_e08_another_tpm_cannot_claim_an_id(verifier: RunningVerifier) -> None:
    async def case() -> None:
        owner, thief = a_node(verifier), a_node(verifier)
        await owner.enrol()
        claimed = owner.identity(
            ak_public=thief.tpm.ak.encode(), certificate_request=thief.identity().certificate_request
        )
        async with owner.attesting() as stream, verifier.person() as admin:
            await stream.round()
            async with nothing_enrolled(verifier), enrolling(verifier) as attempt:
                challenge = await attempt.show(claimed)
                with pytest.raises(MalformedInput):
                    thief.tpm.activate(challenge.id_object, challenge.encrypted_secret)
                assert (await refused(attempt.answer(bytes(32)))).findings == ("ak.activation",)
            assert (await seen_by(admin, owner)).ak_name == owner.tpm.ak.name().hex()
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_PENDING

    asyncio.run(case())


def test_e08_two_enrolments_of_one_key_at_once_leave_one_attestation_key_and_two_records(
    verifier: RunningVerifier,
) -> None:
    async def case() -> None:
        first = a_node(verifier)
        second = FakeNode(verifier, twin_of(first.tpm, verifier.vendor))
        nodes = (first, second)
        async with enrolling(verifier) as one, enrolling(verifier) as two, verifier.person() as admin:
            streams = (one, two)
            shown = [await stream.show(node.identity()) for stream, node in zip(streams, nodes, strict=True)]
            secrets = [
                node.tpm.activate(each.id_object, each.encrypted_secret)
                for node, each in zip(nodes, shown, strict=True)
            ]
            enrolled = await asyncio.gather(*(stream.answer(s) for stream, s in zip(streams, secrets, strict=True)))
            for node, done in zip(nodes, enrolled, strict=True):
                node.node_id, node.chain = done.node_id, tuple(done.certificate_chain)
            assert first.node_id == second.node_id
            active = (await seen_by(admin, first)).ak_name
        subject = f"node/{first.node_id}"
        recorded = [each["details"] for each in verifier.records() if each["subject"] == subject]
        names = [node.tpm.ak.name().hex() for node in nodes]
        assert sorted(each["ak_name"] for each in recorded) == sorted(names)
        assert [each["previous_ak_name"] for each in recorded] == ["", recorded[0]["ak_name"]]
        assert active == recorded[1]["ak_name"]
        winner, loser = sorted(nodes, key=lambda node: node.tpm.ak.name().hex() != active)
        async with winner.attesting() as stream:
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_PENDING
        async with loser.attesting() as stream:
            assert (await stream.end()).findings == ("node.unknown",)
        winner.tpm, loser.tpm = loser.tpm, winner.tpm  # the certificate that counts, and the key that does not
        async with winner.attesting() as stream:
            assert [finding.id for finding in (await stream.round()).findings] == ["quote.signature"]

    asyncio.run(case())


def test_e08_a_retired_id_is_refused_before_and_after_its_challenge(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin, enrolling(verifier) as stream:
            challenge = await stream.show(node.identity())
            await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="sold"))
            async with nothing_enrolled(verifier), enrolling(verifier) as another:
                secret = node.tpm.activate(challenge.id_object, challenge.encrypted_secret)
                assert (await refused(stream.answer(secret))).findings == ("node.retired",)
                assert (await refused(another.show(node.identity()))).findings == ("node.retired",)

    asyncio.run(case())


def test_e08_nobody_takes_a_retired_node_back(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin:
            nodes, node_id = admin.nodes, node.node_id
            await nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node_id, reason="sold"))
            async with nothing_enrolled(verifier):
                for attempt in (
                    nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node_id)),
                    nodes.QuarantineNode(admin_pb2.QuarantineNodeRequest(node_id=node_id, reason="back?")),
                    nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node_id, reason="again")),
                ):
                    assert (await refused(attempt)).code is grpc.StatusCode.FAILED_PRECONDITION
            assert (await seen_by(admin, node)).state == attestation_pb2.NODE_STATE_RETIRED

    asyncio.run(case())


@pytest.mark.parametrize(("real", "claimed"), [("L-1", "H-1"), ("L-2", "H-2"), ("H-1", "L-1"), ("H-2", "L-2")])
def test_e08_a_retired_key_does_not_come_back_under_another_template(
    verifier: RunningVerifier, real: str, claimed: str
) -> None:
    """A certificate covers a key, and so does a credential: attributes and policy are its holder's own word."""
    need("swtpm")

    async def case(tpm: MachineTpm) -> None:
        node = FakeNode(verifier, tpm)
        await node.enrol()
        async with verifier.person() as admin:
            await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="sold"))
        async with nothing_enrolled(verifier):
            disguised = node.identity(ek_public=_disguised(tpm.ek, claimed).encode())
            assert (await refused(node.enrol(disguised))).findings == ("node.retired",)

    with a_machine(verifier.vendor, ek=real) as machine, tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


def _disguised(ek: TpmPublic, name: str) -> TpmPublic:
    """Return the public area that the same key would have under another template."""
    public = template(name).public
    if isinstance(ek, RsaPublic) and isinstance(public, RsaPublic):
        return replace(public, modulus=ek.modulus)
    assert isinstance(ek, EccPublic)
    assert isinstance(public, EccPublic)
    return replace(public, x=ek.x, y=ek.y)


def test_e08_enrolling_again_takes_trust_and_leases_from_the_replaced_key(scene: Scene) -> None:
    verifier, model = scene.verifier, scene.model

    async def case() -> None:
        async with verifier.person() as admin:
            node = await granted_node(scene, admin)
            released = await node.release(model.digest, [model.slot])
            again = FakeNode(verifier, twin_of(node.tpm, verifier.vendor))
            async with node.attesting() as stream:
                assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
                await again.enrol()
                assert list((await stream.revocation()).lease_ids) == [released.lease_id]
                assert "enrolled again" in (await stream.end()).details
            known = await seen_by(admin, node)
            assert (known.state, list(known.leases)) == (attestation_pb2.NODE_STATE_STALE, [])
            assert verifier.actions(f"lease/{released.lease_id}") == ["lease.issued", "lease.ended"]
            refusal = await refused(again.release(model.digest, [model.slot]))
            assert refusal.findings == ("release.node-state",)
            async with again.attesting() as stream:
                challenge = await stream.challenge()
                assert challenge.values_required  # what the old key proved is not taken for the new one's word
                await stream.send(again.evidence(challenge))
                assert (await stream.verdict()).state == attestation_pb2.NODE_STATE_TRUSTED

    asyncio.run(case())


def test_e08_a_proof_under_way_by_the_replaced_key_releases_nothing(scene: Scene) -> None:
    """The challenge went out before the node enrolled again; its answer, by the old key, comes afterwards."""

    async def case() -> None:
        async with scene.verifier.person() as admin:
            node = await granted_node(scene, admin)

            async def enrol_again(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                await FakeNode(scene.verifier, twin_of(node.tpm, scene.verifier.vendor)).enrol()
                return node.proof(challenge)

            refusal = await refused_release(node, scene.model, enrol_again)
            assert (await seen_by(admin, node)).state == attestation_pb2.NODE_STATE_STALE
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))

    asyncio.run(case())


def test_e08_a_proof_that_waits_for_the_database_behind_an_enrolment_releases_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old key's answer is judged good while the enrolment of the new key is being written."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    write = Store.write

    async def slow(store: Store, change: Callable[[sa.Connection], Any]) -> Any:
        if reached.is_set():
            return await write(store, change)
        reached.set()
        await go_on.wait()
        return await write(store, change)

    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier), verifier.person() as admin:
            node = await trusted_node(verifier, admin)
            model = await a_sealed_model(admin)
            await grant(admin, node)
            node.leases = ("l-" + "a" * 26,)  # a lease that nobody knows: the round is no steady one

            async def race(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                monkeypatch.setattr(Store, "write", slow)
                tasks.append(asyncio.create_task(FakeNode(verifier, twin_of(node.tpm, verifier.vendor)).enrol()))
                await asyncio.wait_for(reached.wait(), 10)
                asyncio.get_running_loop().call_later(0.3, go_on.set)
                return node.proof(challenge)

            tasks: list[asyncio.Task[None]] = []
            refusal = await refused_release(node, model, race)
            await tasks[0]
            assert "release.node-state" in refusal.findings
            assert (await seen_by(admin, node)).state == attestation_pb2.NODE_STATE_STALE

    with a_verifier(tmp_path, start=False, interval_seconds=0) as verifier:
        asyncio.run(case(verifier))


# e09: weak and unknown keys


def _rsa_ek(key: rsa.RSAPrivateKey) -> RsaPublic:
    numbers = key.public_key().public_numbers()
    return _rsa_public(numbers.n, key.key_size)


def _rsa_public(modulus: int, bits: int = 2048) -> RsaPublic:
    l1 = template("L-1").public
    assert isinstance(l1, RsaPublic)
    return replace(l1, key_bits=bits, modulus=modulus.to_bytes(bits // 8, "big"))


def _roca_ek() -> RsaPublic:
    return _rsa_public(roca_modulus(2048))


def _p192_ek() -> EccPublic:
    l2 = template("L-2").public
    assert isinstance(l2, EccPublic)
    return replace(l2, curve=CurveId.P192, x=bytes(24), y=bytes(24))


WEAK_EKS = {
    "RSA 1024": (_rsa_ek(rsa_key("small", 1024)), {"ek.weak-key", "ek.template"}),
    "RSA with a ROCA modulus": (_roca_ek(), {"ek.weak-key"}),
    "P-192": (_p192_ek(), {"ek.weak-key", "ek.template"}),
}


@pytest.mark.parametrize("why", WEAK_EKS)
def test_e09_a_weak_endorsement_key_is_refused_even_if_it_is_listed(verifier: RunningVerifier, why: str) -> None:
    ek, expected = WEAK_EKS[why]
    node = a_node(verifier)
    refusal = refused_identity(node, node.identity(ek_public=ek.encode(), ek_certificates=[], ek_chain=[]))
    assert set(findings_of(refusal)) == expected


def test_e09_a_roca_key_is_refused_although_a_vendor_certified_it(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    certificate = made.ek_certificate(replace(RSA_EK, key=_key_info(_roca_ek())))
    identity = node.identity(ek_public=_roca_ek().encode(), ek_certificates=[certificate], ek_chain=[])
    assert findings_of(refused_identity(node, identity)) == ("ek.weak-key",)


def _rsa_ak(modulus: int, bits: int = 2048, scheme: Scheme | None = None) -> RsaPublic:
    return RsaPublic(
        name_alg=HashAlg.SHA256,
        attributes=GOOD_AK.attributes,
        auth_policy=b"",
        symmetric=None,
        scheme=scheme or Scheme(Alg.RSASSA, HashAlg.SHA256),
        key_bits=bits,
        exponent=0,
        modulus=modulus.to_bytes(bits // 8, "big"),
    )


_AK_MODULUS = rsa_key("ak").public_key().public_numbers().n
WEAK_AKS: Mapping[str, TpmPublic] = {
    "RSA 1024": _rsa_ak(rsa_key("small", 1024).public_key().public_numbers().n, 1024),
    "RSA with a ROCA modulus": _rsa_ak(roca_modulus(2048)),
    "RSA with SHA-1": _rsa_ak(_AK_MODULUS, scheme=Scheme(Alg.RSASSA, HashAlg.SHA1)),
    "RSA without a scheme": replace(_rsa_ak(_AK_MODULUS), scheme=None),
    "P-192": replace(GOOD_AK, curve=CurveId.P192, x=bytes(24), y=bytes(24)),
    "P-224": replace(GOOD_AK, curve=CurveId.P224, x=bytes(28), y=bytes(28)),
    "a point off the curve": replace(GOOD_AK, x=b"\1" * 32, y=b"\1" * 32),
    "ECDSA with SHA-1": replace(GOOD_AK, scheme=Scheme(Alg.ECDSA, HashAlg.SHA1)),
}


@pytest.mark.parametrize("why", WEAK_AKS)
def test_e09_a_weak_attestation_key_is_refused(verifier: RunningVerifier, why: str) -> None:
    node = a_node(verifier)
    refusal = refused_identity(node, node.identity(ak_public=WEAK_AKS[why].encode()))
    assert set(findings_of(refusal)) == {"ak.algorithm"}


def test_e09_a_name_by_sha1_is_refused(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    ak = replace(node.tpm.ak, name_alg=HashAlg.SHA1)
    assert findings_of(refused_identity(node, node.identity(ak_public=ak.encode()))) == ("ak.algorithm",)


@pytest.mark.parametrize("which", ["ek_public", "ak_public"])
@pytest.mark.parametrize("at", [0, 2], ids=["type", "nameAlg"])
def test_e09_an_unknown_algorithm_is_refused(verifier: RunningVerifier, which: str, at: int) -> None:
    node = a_node(verifier)
    raw = bytearray(getattr(node.identity(), which))
    raw[at : at + 2] = b"\x7f\xff"
    assert refused_identity(node, node.identity(**{which: bytes(raw)})).code is grpc.StatusCode.INVALID_ARGUMENT


# e10: text that others choose

HOSTILE = {
    "a newline": "node\nlevel=info event=ready",
    "a carriage return": "node\rroot",
    "a NUL": "node\0",
    "a terminal escape": ESCAPED,
    "a C1 control": "node\x9b2J",
    "a line separator": "node\u2028root",
    "text that runs backwards": "node\u202egpj.exe",
    "300 characters": "n" * 300,
}
FACTS = ("hostname", "boot_id", "tpm_manufacturer", "tpm_firmware")


@pytest.mark.parametrize("why", HOSTILE)
@pytest.mark.parametrize("fact", FACTS)
def test_e10_a_hostile_fact_is_refused_by_name(verifier: RunningVerifier, fact: str, why: str) -> None:
    node = a_node(verifier)
    facts = altered(node.identity().facts, **{fact: HOSTILE[why]})
    refusal = refused_identity(node, node.identity(facts=facts))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert fact in refusal.details
    log_is_sound(verifier)


@pytest.mark.parametrize("fact", FACTS)
def test_e10_a_megabyte_is_refused_before_it_is_decoded(verifier: RunningVerifier, fact: str) -> None:
    node = a_node(verifier)
    facts = altered(node.identity().facts, **{fact: "x" * MEGABYTE})
    assert refused_identity(node, node.identity(facts=facts)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_e10_a_host_name_with_separators_is_kept_as_text(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        name = "../../../etc/cron.d/$(reboot);`id`'\"<script>%s{}"
        await node.enrol(node.identity(facts=altered(node.identity().facts, hostname=name)))
        async with verifier.person() as admin:
            assert (await seen_by(admin, node)).hostname == name
        (enrolled,) = [each for each in verifier.records() if each["subject"] == f"node/{node.node_id}"]
        assert enrolled["details"]["hostname"] == name

    asyncio.run(case())
    log_is_sound(verifier)


def test_e10_a_name_in_the_certificate_request_goes_nowhere(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    asyncio.run(node.enrol(node.identity(certificate_request=certificate_request(node.key, "../admin\n" + ESCAPED))))
    assert b"admin" not in node.chain[0]


def test_e10_an_issuer_with_escapes_is_shown_inert(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    facts = replace(EK, issuer=made.name(f"Vendor\n{ESCAPED}"))
    refusal = refused_identity(node, certified(node, facts))
    assert findings_of(refusal) == ("ek.untrusted-root",)
    assert refusal.details.isprintable()
    log_is_sound(verifier)


CLAIMS = {"agent_version": "0.1.0", "boot_id": "boot", "kernel": "6.1.0", "leases": []}


@pytest.mark.parametrize("why", HOSTILE)
def test_e10_hostile_text_in_claims_is_refused_and_shown_inert(verifier: RunningVerifier, why: str) -> None:
    """Everything that a claim may be: a value, a lease, the name of a field, and a lone surrogate."""
    hostile = [
        *(encode_json({**CLAIMS, field: HOSTILE[why]}) for field in ("agent_version", "boot_id", "kernel")),
        encode_json({**CLAIMS, "leases": [HOSTILE[why]]}),
        encode_json({**CLAIMS, HOSTILE[why]: "x"}),
        encode_json(CLAIMS).replace(b"6.1.0", b"\\ud800"),
    ]

    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with node.attesting() as stream:
            assert not [each for each in (await stream.round()).findings if each.id.startswith("quote")]
            for claims in hostile:
                await stream.send(evidence_claiming(node, await stream.challenge(), claims))
                verdict = await stream.verdict()
                assert [finding.id for finding in verdict.findings] == ["quote.malformed"], claims
                assert (verdict.findings[0].seen + verdict.findings[0].where).isprintable()

    asyncio.run(case())
    log_is_sound(verifier)


ADMIN_CALLS: Mapping[str, Callable[[Stubs, str], Awaitable[object]]] = {
    "GetNode": lambda admin, text: admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=text)),
    "QuarantineNode": lambda admin, text: admin.nodes.QuarantineNode(
        admin_pb2.QuarantineNodeRequest(node_id=text, reason="x")
    ),
    "GetGolden": lambda admin, text: admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=text)),
    "CaptureGolden": lambda admin, text: admin.goldens.CaptureGolden(
        admin_pb2.CaptureGoldenRequest(name=text, node_ids=["n-" + "a" * 26])
    ),
    "CreateKey": lambda admin, text: admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=text)),
    "GetKey": lambda admin, text: admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id=text)),
    "GetModel": lambda admin, text: admin.models.GetModel(admin_pb2.GetModelRequest(digest=text)),
    "RegisterModel": lambda admin, text: admin.models.RegisterModel(
        admin_pb2.RegisterModelRequest(content=content_of("llama", 1).replace(b'"llama"', b'"' + text.encode() + b'"'))
    ),
    "ActivateGolden": lambda admin, text: admin.goldens.ActivateGolden(
        admin_pb2.ActivateGoldenRequest(document=text.encode())
    ),
}


@pytest.mark.parametrize("method", ADMIN_CALLS)
def test_e10_hostile_names_in_what_people_send_are_refused(verifier: RunningVerifier, method: str) -> None:
    async def case() -> None:
        async with nothing_enrolled(verifier), verifier.person() as admin:
            for text in ("../../keys/kek", *HOSTILE.values(), "x" * (MEGABYTE + 1)):
                refusal = await refused(ADMIN_CALLS[method](admin, text))
                expected = (
                    {grpc.StatusCode.RESOURCE_EXHAUSTED}
                    if len(text) > MEGABYTE
                    else {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
                )
                assert refusal.code in expected, (text, refusal)
                assert refusal.details.isprintable()

    asyncio.run(case())
    log_is_sound(verifier)


def log_is_sound(verifier: RunningVerifier) -> None:
    """The log is printable ASCII, one JSON document a line, and every line an event of ours."""
    raw = (verifier.folder / "log").read_bytes()
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in raw)
    lines = verifier.log()
    assert len(lines) == raw.count(b"\n")
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert [line["event"] for line in lines].count("ready") == 1
