"""Attacks by signatures of people that look good and prove too little: row g07.

Each starts from a signature that counts and changes one fact. ``ssh-keygen -Y verify`` accepts several of them.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from nodeseal.crypto.ssh_signature import verify_ssh_signature
from nodeseal.errors import MalformedInput, ProofFailed
from support.ssh import UP, UV, armoured, ed25519_signer, mpint, signature_blob, signed_part, string, token

NAMESPACE, DOCUMENT = "proposal@nodeseal", b'{"proposal":1}'
SIGNER = ed25519_signer()
GOOD = SIGNER.signature(DOCUMENT, NAMESPACE)


def refused(armour: bytes, *, user_verified: bool = False) -> str:
    """Return the finding, or the field, by which a signature is refused."""
    with pytest.raises((ProofFailed, MalformedInput)) as refusal:
        verify_ssh_signature(armour, DOCUMENT, NAMESPACE, require_user_verified=user_verified)
    return str(refusal.value)


def rsa_signature(bits: int, algorithm: hashes.HashAlgorithm, name: str) -> bytes:
    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    key = string("ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)
    inner = string(name) + string(private.sign(signed_part(DOCUMENT, NAMESPACE), PKCS1v15(), algorithm))
    return armoured(signature_blob(key, inner, NAMESPACE))


def test_g07_the_unchanged_signature_counts() -> None:
    assert verify_ssh_signature(GOOD, DOCUMENT, NAMESPACE).key.line in SIGNER.line
    touched = token(flags=UP | UV).signature(DOCUMENT, NAMESPACE)
    assert verify_ssh_signature(touched, DOCUMENT, NAMESPACE, require_user_verified=True).user_verified


def test_g07_a_token_without_a_touch_does_not_count() -> None:
    assert "ssh.user-presence" in refused(token(flags=0).signature(DOCUMENT, NAMESPACE))
    assert "ssh.user-presence" in refused(token(flags=UV).signature(DOCUMENT, NAMESPACE))


def test_g07_a_touch_without_the_user_s_pin_does_not_count_where_the_rule_asks_for_it() -> None:
    assert "ssh.user-verification" in refused(token().signature(DOCUMENT, NAMESPACE), user_verified=True)
    assert "ssh.user-verification" in refused(GOOD, user_verified=True)


def test_g07_a_reserved_field_does_not_count() -> None:
    assert "reserved is not empty" in refused(SIGNER.signature(DOCUMENT, NAMESPACE, reserved=b"x"))


def test_g07_a_weak_hash_or_a_short_rsa_key_does_not_count() -> None:
    sha1 = hashes.SHA1()  # noqa: S303  # to be refused
    assert "ssh.algorithm" in refused(SIGNER.signature(DOCUMENT, NAMESPACE, hash_name="sha1"))
    assert "ssh.algorithm" in refused(rsa_signature(3072, sha1, "ssh-rsa"))
    assert "2048 bits" in refused(rsa_signature(2048, hashes.SHA512(), "rsa-sha2-512"))


def test_g07_a_signature_for_another_purpose_does_not_count() -> None:
    assert "ssh.namespace" in refused(SIGNER.signature(DOCUMENT, "git"))


@pytest.mark.parametrize("around", [b"Approved.\n%s", b"%s\n", b"%s%s"])
def test_g07_text_around_the_armour_does_not_count(around: bytes) -> None:
    assert "SSH signature" in refused(around.replace(b"%s", GOOD))
