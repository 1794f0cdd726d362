"""Signatures of people: OpenSSH's verify here, ours verify there, and every changed one is refused."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nodeseal.crypto.ssh_key import parse_ssh_key
from nodeseal.crypto.ssh_signature import verify_ssh_signature
from nodeseal.errors import MalformedInput, NodesealError, ProofFailed
from nodeseal.findings import FindingId
from support.data import shared_data
from support.ssh import (
    SK_ED25519,
    SK_P256,
    UP,
    UV,
    Signer,
    armoured,
    ed25519_signer,
    keygen,
    keygen_accepts,
    keygen_sign,
    mpint,
    signature_blob,
    signed_part,
    string,
    token,
    unarmoured,
)

NAMESPACE, MESSAGE = "proposal@nodeseal", b"a document\n"
VECTORS = ["rsa", "ecdsa", "ed25519", "ecdsa_sk", "ed25519_sk", "ecdsa_sk_webauthn"]
KINDS = [("ed25519",), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384"), ("ecdsa", "-b", "521"), ("rsa", "-b", "3072")]


def finding(armour: bytes, *, message: bytes = MESSAGE, user_verified: bool = False) -> FindingId:
    with pytest.raises(ProofFailed) as refused:
        verify_ssh_signature(armour, message, NAMESPACE, require_user_verified=user_verified)
    (found,) = refused.value.findings
    return found.id


def malformed(armour: bytes) -> str:
    with pytest.raises(MalformedInput) as refused:
        verify_ssh_signature(armour, MESSAGE, NAMESPACE)
    return str(refused.value)


def vector(name: str) -> tuple[bytes, bytes, str]:
    folder = shared_data("openssh-sshsig")
    namespace = (folder / "namespace").read_text().strip()
    return (folder / f"{name}.sig").read_bytes(), (folder / "signed-data").read_bytes(), namespace


@pytest.mark.parametrize("name", VECTORS)
def test_signatures_of_openssh_s_own_tests_verify(name: str) -> None:
    armour, message, namespace = vector(name)
    proof = verify_ssh_signature(armour, message, namespace)
    assert proof.key == parse_ssh_key(shared_data("openssh-sshsig", f"{name}.pub").read_text())
    assert proof.user_present == proof.key.in_token
    if name in {"ecdsa_sk", "ed25519_sk"}:
        assert proof.counter == 305419896


def test_the_composite_of_openssh_is_refused_by_name() -> None:
    armour, message, namespace = vector("mldsa44-ed25519")
    with pytest.raises(MalformedInput, match=r"ssh-mldsa44-ed25519@openssh\.com is not supported yet"):
        verify_ssh_signature(armour, message, namespace)


@pytest.mark.parametrize("options", KINDS, ids=" ".join)
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_verifies(tmp_path: Path, options: tuple[str, ...], hash_name: str) -> None:
    private = keygen(tmp_path, "-t", *options)
    armour = keygen_sign(private, MESSAGE, NAMESPACE, "-O", f"hashalg={hash_name}")
    proof = verify_ssh_signature(armour, MESSAGE, NAMESPACE)
    assert proof.key == parse_ssh_key(private.with_suffix(".pub").read_text())
    assert (proof.user_present, proof.user_verified, proof.counter) == (False, False, None)
    assert finding(armour, message=MESSAGE + b"\n") is FindingId.SSH_SIGNATURE
    assert finding(armour, user_verified=True) is FindingId.SSH_USER_VERIFICATION


@pytest.mark.parametrize("make", [ed25519_signer, token, lambda: token(SK_P256)], ids=["ed25519", "sk", "sk p256"])
def test_what_is_signed_here_verifies_in_ssh_keygen(tmp_path: Path, make: Callable[[], Signer]) -> None:
    signer = make()
    armour = signer.signature(MESSAGE, NAMESPACE)
    assert keygen_accepts(tmp_path, signer.line, armour, MESSAGE, NAMESPACE)
    assert not keygen_accepts(tmp_path, signer.line, armour, MESSAGE + b"x", NAMESPACE)
    assert verify_ssh_signature(armour, MESSAGE, NAMESPACE).key.line + " test" == signer.line


@pytest.mark.parametrize("kind", [SK_ED25519, SK_P256])
def test_a_token_proves_touch_user_and_counter(kind: str) -> None:
    for flags, verified in ((UP, False), (UP | UV, True)):
        signer = token(kind, flags=flags, counter=4_000_000_000)
        proof = verify_ssh_signature(
            signer.signature(MESSAGE, NAMESPACE), MESSAGE, NAMESPACE, require_user_verified=verified
        )
        assert (proof.user_present, proof.user_verified, proof.counter) == (True, verified, 4_000_000_000)


@pytest.mark.parametrize("kind", [SK_ED25519, SK_P256])
@pytest.mark.parametrize("flags", [0, UV])
def test_a_token_that_nobody_touched_proves_nothing_though_ssh_keygen_says_good(
    tmp_path: Path, kind: str, flags: int
) -> None:
    signer = token(kind, flags=flags)
    armour = signer.signature(MESSAGE, NAMESPACE)
    assert keygen_accepts(tmp_path, signer.line, armour, MESSAGE, NAMESPACE)
    assert finding(armour) is FindingId.SSH_USER_PRESENCE


@pytest.mark.parametrize("flags", [UP | 0x40, UP | 0x80])
def test_flags_that_announce_more_data_are_refused(flags: int) -> None:
    assert "flags announce data" in malformed(token(flags=flags).signature(MESSAGE, NAMESPACE))


def test_a_touch_is_no_user_verification() -> None:
    assert finding(token().signature(MESSAGE, NAMESPACE), user_verified=True) is FindingId.SSH_USER_VERIFICATION


def test_a_token_that_signed_for_another_application_does_not_count() -> None:
    signer = token(application="ssh:a")
    key = signer.blob.replace(string("ssh:a"), string("ssh:b"))
    signature = signer.sign(signed_part(MESSAGE, NAMESPACE))
    assert finding(armoured(signature_blob(key, signature, NAMESPACE))) is FindingId.SSH_SIGNATURE


def test_namespace_reserved_field_hash_and_version_are_demanded() -> None:
    signer = ed25519_signer()
    verify_ssh_signature(signer.signature(MESSAGE, NAMESPACE), MESSAGE, NAMESPACE)
    assert finding(signer.signature(MESSAGE, "file")) is FindingId.SSH_NAMESPACE
    assert finding(signer.signature(MESSAGE, "")) is FindingId.SSH_NAMESPACE
    assert finding(signer.signature(MESSAGE, NAMESPACE, hash_name="sha384")) is FindingId.SSH_ALGORITHM
    assert finding(signer.signature(MESSAGE, NAMESPACE, hash_name="sha1")) is FindingId.SSH_ALGORITHM
    assert "reserved is not empty" in malformed(signer.signature(MESSAGE, NAMESPACE, reserved=b"x"))
    signature = signer.sign(signed_part(MESSAGE, NAMESPACE))
    blob = signature_blob(signer.blob, signature, NAMESPACE)
    assert "version is 2" in malformed(armoured(blob.replace(b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2")))
    assert "magic is not SSHSIG" in malformed(armoured(blob.replace(b"SSHSIG", b"SSHsig")))


def test_an_rsa_signature_with_sha_1_is_refused() -> None:
    private = rsa.generate_private_key(65537, 3072)
    numbers = private.public_key().public_numbers()
    blob = string("ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)

    def signature(name: str, algorithm: hashes.HashAlgorithm) -> bytes:
        made = private.sign(signed_part(MESSAGE, NAMESPACE), PKCS1v15(), algorithm)
        return armoured(signature_blob(blob, string(name) + string(made), NAMESPACE))

    verify_ssh_signature(signature("rsa-sha2-512", hashes.SHA512()), MESSAGE, NAMESPACE)
    assert finding(signature("ssh-rsa", hashes.SHA1())) is FindingId.SSH_ALGORITHM  # noqa: S303  # to be refused
    assert finding(signature("rsa-sha2-256", hashes.SHA1())) is FindingId.SSH_SIGNATURE  # noqa: S303  # to be refused


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    armour = keygen_sign(keygen(tmp_path, "-t", "rsa", "-b", "2048"), MESSAGE, NAMESPACE)
    assert "2048 bits, accepted are 3072" in malformed(armour)


def test_a_certificate_is_no_key(tmp_path: Path) -> None:
    private = keygen(tmp_path, "-t", "ed25519")
    public = private.with_suffix(".pub")
    subprocess.run(["ssh-keygen", "-q", "-s", private, "-I", "x", "-n", "x", public], check=True)
    text = (tmp_path / "key-cert.pub").read_text()
    with pytest.raises(MalformedInput, match="is a certificate"):
        parse_ssh_key(text)
    signature = ed25519_signer().sign(signed_part(MESSAGE, NAMESPACE))
    blob = signature_blob(base64.b64decode(text.split()[1]), signature, NAMESPACE)
    assert "is a certificate" in malformed(armoured(blob))


def test_nothing_stands_around_the_armour() -> None:
    armour = ed25519_signer().signature(MESSAGE, NAMESPACE)
    lines = armour.splitlines(keepends=True)
    for changed in (
        b"\n" + armour,
        armour + b"\n",
        armour + armour,
        b"text\n" + armour,
        armour.replace(b"\n", b"\r\n"),
        armour.removesuffix(b"\n"),
        b"".join([lines[0], b"\n", *lines[1:]]),
        b"".join([*lines[:2], b"\n", *lines[2:]]),
        b"".join([lines[0], lines[1][:20] + b"\n" + lines[1][20:], *lines[2:]]),
        b"",
    ):
        malformed(changed)
    assert "at most 16384" in malformed(armour + bytes(16384))


def test_lines_may_have_another_common_length() -> None:
    blob = unarmoured(ed25519_signer().signature(MESSAGE, NAMESPACE))
    verify_ssh_signature(armoured(blob, 76), MESSAGE, NAMESPACE)
    malformed(armoured(blob, 77))


def flips(raw: bytes) -> list[bytes]:
    """Return copies of ``raw``, each with one of two bits of one byte flipped."""
    return [raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in (1, 0x40)]


def changed_forms(armour: bytes) -> list[bytes]:
    """Return a signature with two bits of every byte flipped, in and out of its armour, and cut everywhere."""
    blob = unarmoured(armour)
    cut = [*(armoured(blob[:size]) for size in range(1, len(blob))), *(armour[:size] for size in range(len(armour)))]
    return [*map(armoured, flips(blob)), armoured(blob + b"\0"), *flips(armour), *cut]


@pytest.mark.parametrize("make", [ed25519_signer, token, lambda: token(SK_P256)], ids=["ed25519", "sk", "sk p256"])
def test_two_bits_in_every_byte_and_every_truncation_are_refused(make: Callable[[], Signer]) -> None:
    armour = make().signature(MESSAGE, NAMESPACE)
    verify_ssh_signature(armour, MESSAGE, NAMESPACE)
    for changed in changed_forms(armour):
        with pytest.raises(NodesealError):
            verify_ssh_signature(changed, MESSAGE, NAMESPACE)


@pytest.mark.parametrize("name", VECTORS)
def test_openssh_s_signatures_with_two_bits_changed_in_every_byte_are_refused(name: str) -> None:
    armour, message, namespace = vector(name)
    for changed in changed_forms(armour):
        with pytest.raises(NodesealError):
            verify_ssh_signature(changed, message, namespace)


def browser(
    *,
    kind: str = "webauthn.get",
    origin: str = "https://a.example",
    flags: int = UP,
    extensions: bytes = b"",
    of: bytes = MESSAGE,
) -> bytes:
    """Return the signature that a browser makes (PROTOCOL.u2f, "SSH signatures in browsers")."""
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = string(SK_P256) + string("nistp256") + string(point) + string("a.example")
    challenge = base64.urlsafe_b64encode(signed_part(of, NAMESPACE)).decode().rstrip("=")
    members = {"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}
    client = json.dumps(members, separators=(",", ":")).encode()
    trailer = bytes([flags]) + bytes(4)
    signed = sha256(b"a.example").digest() + trailer + extensions + sha256(client).digest()
    r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(hashes.SHA256())))
    parts = string(mpint(r) + mpint(s)) + trailer + string(origin) + string(client) + string(extensions)
    return armoured(signature_blob(key, string("webauthn-" + SK_P256) + parts, NAMESPACE))


def test_a_browser_signs_the_same_message_in_client_data() -> None:
    proof = verify_ssh_signature(browser(flags=UP | UV), MESSAGE, NAMESPACE, require_user_verified=True)
    assert proof.user_verified
    verify_ssh_signature(browser(flags=UP | 0x80, extensions=b"\xa0"), MESSAGE, NAMESPACE)
    assert finding(browser(of=b"another")) is FindingId.SSH_SIGNATURE
    assert finding(browser(kind="webauthn.create")) is FindingId.SSH_SIGNATURE
    assert finding(browser(flags=0)) is FindingId.SSH_USER_PRESENCE
    assert "origin is no origin" in malformed(browser(origin='https://a"b'))
    assert "flags announce" in malformed(browser(extensions=b"\xa0"))
    assert "flags announce" in malformed(browser(flags=UP | 0x80))


def test_an_integer_of_an_ecdsa_signature_has_one_spelling() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = string("ecdsa-sha2-nistp256") + string("nistp256") + string(point)
    der = private.sign(signed_part(MESSAGE, NAMESPACE), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    assert encode_dss_signature(r, s) == der

    def made(inner: bytes) -> bytes:
        return armoured(signature_blob(key, string("ecdsa-sha2-nistp256") + string(inner), NAMESPACE))

    verify_ssh_signature(made(mpint(r) + mpint(s)), MESSAGE, NAMESPACE)
    padded = string(b"\0\0" + r.to_bytes(32, "big"))
    assert "r is not a positive integer" in malformed(made(padded + mpint(s)))
    assert "too many" in malformed(made(mpint(r) + mpint(s) + b"\0"))
    assert "s is not a positive integer" in malformed(made(mpint(r) + string(b"")))
