"""File signatures: those that hold verify with the key that made them, and with no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from nodeseal.crypto.ima_signatures import ImaKey, read_ima_key
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.ima.hash import KERNEL_HASHES_BY_NAME
from nodeseal.ima.signature import ImaSignature, SignatureKind, decode_ima_signature
from nodeseal.ima.template import ImaFields, parse_template
from nodeseal.ima.text import ima_text_entries
from nodeseal.tpm.algorithms import HashAlg
from support.data import shared_data

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, PrivateKey] = {
    "RSA 2048": RSA,
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Brainpool P256": ec.generate_private_key(ec.BrainpoolP256R1()),
}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # to be refused
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def spki(key: PrivateKey | ed25519.Ed25519PrivateKey, encoding: serialization.Encoding = DER) -> bytes:
    return key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def fields(name: str = "sha256", digest_type: str = "") -> ImaFields:
    digest = HashAlg.from_name(name).digest(b"content")
    return ImaFields(algorithm=name, digest=digest, path=b"/usr/bin/tool", digest_type=digest_type)


def sign(
    key: PrivateKey, over: bytes, name: str = "sha256", kind: SignatureKind = SignatureKind.FILE, version: int = 2
) -> ImaSignature:
    """Sign the digest ``over`` as evmctl does."""
    prehashed = Prehashed(HASHES[name])
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(over, padding.PKCS1v15(), prehashed)
    else:
        signature = key.sign(over, ec.ECDSA(prehashed))
    key_id = ImaKey(spki(key)).key_id
    return ImaSignature(
        kind=kind, version=version, hash_alg=KERNEL_HASHES_BY_NAME[name], key_id=key_id, signature=signature
    )


def refusal(key: ImaKey, signature: ImaSignature, over: ImaFields) -> str:
    with pytest.raises(ProofFailed) as refused:
        key.verify(signature, over)
    (finding,) = refused.value.findings
    assert finding.id is FindingId.IMA_SIGNATURE
    assert finding.where == "/usr/bin/tool"
    return finding.seen


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", KEYS)
def test_a_signature_holds_for_its_key_and_for_no_other(kind: str, name: str) -> None:
    signature = sign(KEYS[kind], fields(name).digest, name)
    for other, key in KEYS.items():
        if other == kind:
            ImaKey(spki(key)).verify(signature, fields(name))
        else:
            assert "does not hold" in refusal(ImaKey(spki(key)), signature, fields(name))


def test_a_signature_over_another_content_is_refused() -> None:
    key = ImaKey(spki(RSA))
    other = replace(fields(), digest=HashAlg.SHA256.digest(b"other"))
    assert "does not hold" in refusal(key, sign(RSA, fields().digest), other)


def test_the_key_id_is_a_hint_that_proves_nothing() -> None:
    signature = sign(RSA, fields().digest)
    ImaKey(spki(RSA)).verify(replace(signature, key_id=b"\0\0\0\0"), fields())
    other = ImaKey(spki(KEYS["P-256"]))
    assert "does not hold" in refusal(other, replace(signature, key_id=other.key_id), fields())


@pytest.mark.parametrize(("kind", "digest_type"), [(SignatureKind.FILE, "ima"), (SignatureKind.VERITY, "verity")])
@pytest.mark.parametrize("key", KEYS)
def test_version_3_is_over_the_hash_of_type_algorithm_and_digest(
    key: str, kind: SignatureKind, digest_type: str
) -> None:
    """struct ima_file_id: hash_type, hash_algorithm (4: SHA-256), hash (ima_appraise.c, calc_file_id_hash)."""
    over = fields(digest_type=digest_type)
    file_id = HashAlg.SHA256.digest(bytes([kind, 4]) + over.digest)
    ImaKey(spki(KEYS[key])).verify(sign(KEYS[key], file_id, kind=kind, version=3), over)
    bare = sign(KEYS[key], over.digest, kind=kind, version=3)
    assert "does not hold" in refusal(ImaKey(spki(KEYS[key])), bare, over)


def test_a_signature_of_one_kind_does_not_count_for_a_digest_of_the_other() -> None:
    key = ImaKey(spki(RSA))
    assert "not over this digest" in refusal(key, sign(RSA, fields().digest), fields(digest_type="verity"))
    file_id = HashAlg.SHA256.digest(bytes([SignatureKind.VERITY, 4]) + fields().digest)
    verity = sign(RSA, file_id, kind=SignatureKind.VERITY, version=3)
    assert "not over this digest" in refusal(key, verity, fields(digest_type="ima"))


def test_a_signature_over_metadata_does_not_count_for_a_file() -> None:
    signature = sign(RSA, fields().digest, kind=SignatureKind.EVM_PORTABLE)
    assert "type EVM_PORTABLE" in refusal(ImaKey(spki(RSA)), signature, fields())


def test_sha1_signatures_are_refused() -> None:
    signature = sign(RSA, fields("sha1").digest, "sha1")
    assert "a signature over sha1" in refusal(ImaKey(spki(RSA)), signature, fields("sha1"))


def test_the_entry_must_hold_the_digest_that_was_signed() -> None:
    key, signature = ImaKey(spki(RSA)), sign(RSA, fields().digest)
    assert "another digest" in refusal(key, signature, fields("sha512"))
    assert "another digest" in refusal(key, signature, replace(fields(), algorithm="sm3"))
    assert "another digest" in refusal(key, signature, replace(fields(), digest=bytes(20)))


@pytest.mark.parametrize("kind", KEYS)
def test_bytes_that_are_no_signature_are_refused(kind: str) -> None:
    key, good = ImaKey(spki(KEYS[kind])), sign(KEYS[kind], fields().digest)
    for signature in (good.signature[:-1], good.signature + b"\0", b"\0", bytes(len(good.signature))):
        assert "does not hold" in refusal(key, replace(good, signature=signature), fields())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(spki(rsa.generate_private_key(65537, 1024)), id="RSA of 1024 bits"),  # noqa: S505  # to be refused
        pytest.param(spki(ec.generate_private_key(ec.SECP224R1())), id="a short curve"),
        pytest.param(spki(ed25519.Ed25519PrivateKey.generate()), id="an algorithm of which the kernel knows nothing"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"0", id="a byte"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\n", id="PEM that is cut"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n", id="a certificate that is cut"),
    ],
)
def test_what_is_no_key_for_files_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="IMA key"):
        read_ima_key(raw)


def test_a_file_that_is_too_large_for_a_key_is_refused() -> None:
    raw = spki(RSA, PEM)
    assert read_ima_key(raw.ljust(64 * 1024)).spki == spki(RSA)
    with pytest.raises(MalformedInput, match="at most 65536"):
        read_ima_key(raw.ljust(64 * 1024 + 1))


def certificate(key: PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "IMA")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_read_from_every_form_people_have(kind: str) -> None:
    key = KEYS[kind]
    forms = [spki(key), spki(key, PEM), b"\n" + spki(key, PEM)]
    forms += [certificate(key).public_bytes(encoding) for encoding in (DER, PEM)]
    assert {read_ima_key(raw).spki for raw in forms} == {spki(key)}


@pytest.mark.parametrize(("line", "pem"), [(0, "rsa2048pub.pem"), (1, "secp256k1pub.pem")])
def test_real_signatures_verify_with_their_key_and_with_no_other(line: int, pem: str) -> None:
    folder = shared_data("ima-logs", "keylime-ascii")
    entry = list(ima_text_entries((folder / "signatures.txt").read_bytes()))[line]
    said = parse_template(entry.template, entry.data)
    signature = decode_ima_signature(said.signature)
    for name in ("rsa2048pub.pem", "secp256k1pub.pem"):
        key = read_ima_key((folder / name).read_bytes())
        assert (key.key_id == signature.key_id) is (name == pem)
        if name == pem:
            key.verify(signature, said)
        else:
            with pytest.raises(ProofFailed, match="does not hold"):
                key.verify(signature, said)
