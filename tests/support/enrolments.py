"""Identities that enrol or must not, and a verifier that knows them apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nodeseal.crypto.keys import public_key_of
from nodeseal.ids import digest_of
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import CurveId
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.public import EccPublic, RsaPublic, TpmPublic
from nodeseal.v1 import attestation_pb2, enrollment_pb2, enrollment_pb2_grpc
from support import certificates as made
from support.admin import Sealed, a_sealed_model, grant, trusted_node
from support.attackers import admitted_node, nothing_enrolled
from support.certificates import EK, Facts, ec_key, rsa_key
from support.fake_node import FakeNode
from support.roca import roca_modulus
from support.verifier import Refusal, RunningVerifier, Stubs, a_verifier, refusal_of


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


@contextmanager
def a_scene(folder: Path) -> Iterator[Scene]:
    """Run the verifier."""
    vendor = TpmVendor.create(folder / "vendor")
    allowed, orphaned = SyntheticTpm(vendor), TpmVendor.create(folder / "orphaned", "orphaned")
    keys = [allowed.ek, rsa_ek(rsa_key("small", 1024)), roca_ek(), p192_ek()]
    listed = [str(digest_of(key.encode())) for key in keys]
    with a_verifier(folder, vendor, start=False, ek_allow=listed, trust_seconds=600, interval_seconds=0) as verifier:
        (verifier.folder / "ek-roots" / "made-root.der").write_bytes(made.root())
        (verifier.folder / "ek-roots" / "made-intermediate.der").write_bytes(made.intermediate())
        (verifier.folder / "ek-roots" / "orphaned.der").write_bytes(orphaned.intermediate)
        verifier.start()
        yield Scene(verifier, allowed, orphaned, asyncio.run(_prepared(verifier)))


async def _prepared(verifier: RunningVerifier) -> Sealed:
    async with verifier.person() as admin:
        await trusted_node(verifier)
        return await a_sealed_model(admin)


async def granted_node(scene: Scene, admin: Stubs) -> FakeNode:
    """Return a node that is trusted and may open the model."""
    node = await admitted_node(scene.verifier)
    await grant(admin, node)
    async with node.attesting() as stream:
        assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
    return node


def refused_identity(node: FakeNode, identity: enrollment_pb2.Identity | None = None) -> Refusal:
    """Enrol, which must fail before any challenge and change nothing."""

    async def case() -> Refusal:
        async with nothing_enrolled(node.verifier):
            return await asyncio.to_thread(_shown, node.verifier, identity or node.identity())

    return asyncio.run(case())


def _shown(verifier: RunningVerifier, identity: enrollment_pb2.Identity) -> Refusal:
    with sync_channel(verifier) as channel:
        requests = iter([enrollment_pb2.EnrollRequest(identity=identity)])
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(requests, timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        return refusal_of(caught.value)


def sync_channel(verifier: RunningVerifier) -> grpc.Channel:
    """Connect for calls whose refusal may overtake a message: gRPC's asyncio client calls that an internal error."""
    credentials = grpc.ssl_channel_credentials(verifier.ca)
    return grpc.secure_channel(verifier.listen_enrol, credentials, [("grpc.enable_http_proxy", 0)])


def findings_of(refusal: Refusal) -> tuple[str, ...]:
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED, refusal
    return refusal.findings


def certified(node: FakeNode, facts: Facts, signer: str = "intermediate") -> enrollment_pb2.Identity:
    """Return the node's identity with a certificate of our own making, and no chain."""
    point = replace(facts, key=facts.key if facts.key != EK.key else key_info_of(node.tpm.ek))
    return node.identity(ek_certificates=[point.sign(ec_key(signer))], ek_chain=[])


def key_info_of(public: TpmPublic) -> bytes:
    key = public_key_of(public)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_ek(key: rsa.RSAPrivateKey) -> RsaPublic:
    numbers = key.public_key().public_numbers()
    return _rsa_public(numbers.n, key.key_size)


def _rsa_public(modulus: int, bits: int = 2048) -> RsaPublic:
    l1 = template("L-1").public
    assert isinstance(l1, RsaPublic)
    return replace(l1, key_bits=bits, modulus=modulus.to_bytes(bits // 8, "big"))


def roca_ek() -> RsaPublic:
    return _rsa_public(roca_modulus(2048))


def p192_ek() -> EccPublic:
    l2 = template("L-2").public
    assert isinstance(l2, EccPublic)
    return replace(l2, curve=CurveId.P192, x=bytes(24), y=bytes(24))
