from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nodeseal.crypto.signatures import (
    InsecureSha1Verifier,
    SignatureVerifier,
    decode_plain_signature,
)
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import Alg, HashAlg
from nodeseal.tpm.public import EccPublic, RsaPublic, Scheme, TpmPublic
from nodeseal.tpm.signature import EccSignature, RsaSignature, encode_signature
from support.data import ROOT
from support.software_ak import HASHES, SoftwareAk

MESSAGE = b"\xffTCG what a TPM said"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ACCEPTED = [
    ("P256", "ecdsa-sha256"),
    ("P384", "ecdsa-sha384"),
    ("P521", "ecdsa-sha512"),
    ("P256", "ecdsa-sha512"),
    ("2048", "rsassa-sha256"),
    ("2048", "rsassa-sha384"),
    ("2048", "rsapss-sha256"),
    ("3072", "rsapss-sha512"),
]


def refusal(public: TpmPublic, raw: bytes, message: bytes = MESSAGE) -> FindingId:
    with pytest.raises(ProofFailed) as caught:
        SignatureVerifier(public).verify(raw, message)
    return caught.value.findings[0].id


@pytest.mark.parametrize(("kind", "scheme"), ACCEPTED)
def test_a_signature_of_an_accepted_scheme_holds(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    verifier = SignatureVerifier(ak.public)
    verifier.verify(ak.sign_raw(MESSAGE), MESSAGE)
    verifier.verify_decoded(ak.sign(MESSAGE), MESSAGE)
    assert verifier.hash_alg is ak.scheme.hash_alg


@pytest.mark.parametrize(("kind", "scheme"), ACCEPTED)
def test_a_signature_over_another_message_or_by_another_key_does_not_hold(kind: str, scheme: str) -> None:
    ak, other = SoftwareAk.of(kind, scheme), SoftwareAk.of(kind, scheme, 1)
    assert refusal(ak.public, ak.sign_raw(MESSAGE), MESSAGE + b"\0") is FindingId.QUOTE_SIGNATURE
    assert refusal(ak.public, other.sign_raw(MESSAGE)) is FindingId.QUOTE_SIGNATURE


def test_a_pss_signature_with_a_salt_as_long_as_the_hash_holds() -> None:
    ak = SoftwareAk.of("2048", "rsapss-sha256")
    assert isinstance(ak.private, rsa.RSAPrivateKey)
    hash_alg = HASHES[HashAlg.SHA256]
    plain = ak.private.sign(MESSAGE, padding.PSS(padding.MGF1(hash_alg), padding.PSS.DIGEST_LENGTH), hash_alg)
    SignatureVerifier(ak.public).verify_decoded(RsaSignature(Alg.RSAPSS, HashAlg.SHA256, plain), MESSAGE)


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (0, 0), (P256_ORDER, 1), (1, P256_ORDER), (1 << 256, 1), ((1 << 528) - 1, (1 << 528) - 1)],
)
def test_r_and_s_that_are_zero_or_out_of_range_do_not_hold(r: int, s: int) -> None:
    raw = encode_signature(EccSignature(HashAlg.SHA256, r, s), 66)
    assert refusal(SoftwareAk.of("P256", "ecdsa-sha256").public, raw) is FindingId.QUOTE_SIGNATURE


def test_adding_the_order_to_s_does_not_hold() -> None:
    ak = SoftwareAk.of("P256", "ecdsa-sha256")
    signature = ak.sign(MESSAGE)
    assert isinstance(signature, EccSignature)
    shifted = signature._replace(s=signature.s + P256_ORDER)
    assert refusal(ak.public, encode_signature(shifted, 66)) is FindingId.QUOTE_SIGNATURE


MISMATCHES = [
    ("P256", "ecdsa-sha256", "ecdsa-sha384"),
    ("P384", "ecdsa-sha384", "ecdsa-sha256"),
    ("2048", "rsassa-sha256", "rsapss-sha256"),
    ("2048", "rsapss-sha256", "rsassa-sha256"),
    ("2048", "rsassa-sha384", "rsassa-sha256"),
    ("P256", "ecdsa-sha256", "ecdsa-sha1"),
    ("2048", "rsassa-sha256", "rsassa-sha1"),
]


@pytest.mark.parametrize(("kind", "declared", "used"), MISMATCHES)
def test_a_signature_in_another_scheme_than_the_keys_is_refused(kind: str, declared: str, used: str) -> None:
    raw = SoftwareAk.of(kind, used).sign_raw(MESSAGE)
    assert refusal(SoftwareAk.of(kind, declared).public, raw) is FindingId.QUOTE_ALGORITHM


def test_a_signature_of_another_type_of_key_is_refused() -> None:
    raw = SoftwareAk.of("2048", "rsassa-sha256").sign_raw(MESSAGE)
    assert refusal(SoftwareAk.of("P256", "ecdsa-sha256").public, raw) is FindingId.QUOTE_ALGORITHM


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0\0"])
def test_trailing_bytes_behind_a_signature_are_refused(tail: bytes) -> None:
    ak = SoftwareAk.of("P256", "ecdsa-sha256")
    assert refusal(ak.public, ak.sign_raw(MESSAGE) + tail) is FindingId.QUOTE_MALFORMED


def test_an_rsa_signature_shorter_than_the_modulus_does_not_hold() -> None:
    ak = SoftwareAk.of("2048", "rsassa-sha256")
    plain = ak.sign_plain(MESSAGE)
    short = encode_signature(RsaSignature(Alg.RSASSA, HashAlg.SHA256, plain[:-1]))
    assert refusal(ak.public, short) is FindingId.QUOTE_SIGNATURE


P256, RSA2048 = SoftwareAk.of("P256", "ecdsa-sha256").public, SoftwareAk.of("2048", "rsassa-sha256").public
assert isinstance(P256, EccPublic)
assert isinstance(RSA2048, RsaPublic)
WEAK: dict[str, TpmPublic] = {
    "of RSA 1024": SoftwareAk.of("1024", "rsassa-sha256").public,
    "of RSA with exponent 3": replace(RSA2048, exponent=3),
    "on P-192": SoftwareAk.of("P192", "ecdsa-sha256").public,
    "on P-224": SoftwareAk.of("P224", "ecdsa-sha256").public,
    "for ECDSA with SHA-1": SoftwareAk.of("P256", "ecdsa-sha1").public,
    "for RSASSA with SHA-1": SoftwareAk.of("2048", "rsassa-sha1").public,
    "without a scheme": replace(P256, scheme=None),
    "for key agreement": replace(P256, scheme=Scheme(Alg.ECDH, HashAlg.SHA256)),
    "for encryption": replace(RSA2048, scheme=Scheme(Alg.OAEP, HashAlg.SHA256)),
    "of RSA for ECDSA": replace(RSA2048, scheme=Scheme(Alg.ECDSA, HashAlg.SHA256)),
}


@pytest.mark.parametrize("case", WEAK)
def test_no_verifier_is_made_for_a_key(case: str) -> None:
    with pytest.raises(ProofFailed) as caught:
        SignatureVerifier(WEAK[case])
    assert caught.value.findings[0].id is FindingId.QUOTE_ALGORITHM


@pytest.mark.parametrize(("kind", "scheme"), [("P256", "ecdsa-sha1"), ("2048", "rsassa-sha1")])
def test_only_the_insecure_verifier_takes_sha1(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    InsecureSha1Verifier(ak.public).verify(ak.sign_raw(MESSAGE), MESSAGE)
    assert HashAlg.SHA1 not in SignatureVerifier.accepted_hashes


@pytest.mark.parametrize(("kind", "scheme"), ACCEPTED)
def test_a_plain_signature_is_read_by_its_scheme(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    signature = decode_plain_signature(ak.sign_plain(MESSAGE), ak.scheme, ak.public)
    SignatureVerifier(ak.public).verify_decoded(signature, MESSAGE)


def test_a_plain_ecdsa_signature_may_be_r_and_s_side_by_side() -> None:
    ak = SoftwareAk.of("P521", "ecdsa-sha512")
    signature = ak.sign(MESSAGE)
    assert isinstance(signature, EccSignature)
    raw = signature.r.to_bytes(66, "big") + signature.s.to_bytes(66, "big")
    assert decode_plain_signature(raw, ak.scheme, ak.public) == signature


@pytest.mark.parametrize(
    ("kind", "scheme", "raw"),
    [
        ("P256", "ecdsa-sha256", b""),
        ("P256", "ecdsa-sha256", b"\x30\x06\x02\x01\x01\x02\x01\x01\x00"),
        ("P256", "rsassa-sha256", bytes(256)),
        ("2048", "ecdsa-sha256", bytes(64)),
    ],
)
def test_a_plain_signature_that_does_not_fit_is_malformed(kind: str, scheme: str, raw: bytes) -> None:
    declared = SoftwareAk.of("P256", scheme).scheme
    with pytest.raises(MalformedInput, match="signature"):
        decode_plain_signature(raw, declared, SoftwareAk.of(kind, "ecdsa-sha256").public)


def test_nothing_but_the_forensic_command_takes_sha1() -> None:
    sources = {
        path
        for part in ("agent", "cli", "client", "common", "loader", "verifier")
        for path in (ROOT / part).rglob("*.py")
    }
    users = {path.name for path in sources if InsecureSha1Verifier.__name__ in path.read_text()}
    assert users == {"quote.py", "signatures.py"}
