"""Attacks on the endorsement key and its certificate, over gRPC against a running verifier: rows e04, e05 and e09."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from nodeseal.agent.tpm import templates
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.public import RsaPublic, Scheme, TpmPublic
from support import certificates as made
from support.certificates import EK, INTERMEDIATE, RSA_EK, Facts, ec_key, key_info, rsa_key
from support.enrolments import Scene, certified, findings_of, key_info_of, p192_ek, refused_identity, roca_ek, rsa_ek
from support.fake_node import FakeNode, a_node
from support.roca import roca_modulus
from support.verifier import RunningVerifier

GOOD_AK = templates.attestation_key(bytes(64))


# e04, e05: the endorsement key's certificate


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
    leaf = replace(EK, issuer=LINK.subject, key=key_info_of(node.tpm.ek)).sign(ec_key("link"))
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


# e09: weak and unknown keys


WEAK_EKS = {
    "RSA 1024": (rsa_ek(rsa_key("small", 1024)), {"ek.weak-key", "ek.template"}),
    "RSA with a ROCA modulus": (roca_ek(), {"ek.weak-key"}),
    "P-192": (p192_ek(), {"ek.weak-key", "ek.template"}),
}


@pytest.mark.parametrize("why", WEAK_EKS)
def test_e09_a_weak_endorsement_key_is_refused_even_if_it_is_listed(verifier: RunningVerifier, why: str) -> None:
    ek, expected = WEAK_EKS[why]
    node = a_node(verifier)
    refusal = refused_identity(node, node.identity(ek_public=ek.encode(), ek_certificates=[], ek_chain=[]))
    assert set(findings_of(refusal)) == expected


def test_e09_a_roca_key_is_refused_although_a_vendor_certified_it(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    certificate = made.ek_certificate(replace(RSA_EK, key=key_info_of(roca_ek())))
    identity = node.identity(ek_public=roca_ek().encode(), ek_certificates=[certificate], ek_chain=[])
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
