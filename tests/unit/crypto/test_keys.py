from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from nodeseal.crypto.keys import (
    MAX_KEY_FILE,
    decode_public_key,
    public_key_of,
    public_of_key,
)
from nodeseal.errors import MalformedInput
from nodeseal.tpm.public import EccPublic, RsaPublic, encode_public_2b
from support.software_ak import SoftwareAk

KINDS = [("P256", "ecdsa-sha256"), ("P384", "ecdsa-sha384"), ("P521", "ecdsa-sha512"), ("2048", "rsassa-sha256")]


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_a_key_reads_the_same_from_every_form(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    bare = public_of_key(ak.private.public_key())
    assert decode_public_key(ak.pem()) == decode_public_key(b"\n" + ak.pem()) == decode_public_key(ak.der()) == bare
    assert decode_public_key(ak.public.encode()) == decode_public_key(encode_public_2b(ak.public)) == ak.public


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_the_key_of_a_public_area_is_that_of_its_private_key(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    assert public_key_of(ak.public) == ak.private.public_key()


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\x30\0"]
)
def test_what_is_no_key_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        decode_public_key(raw)


def test_a_key_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(MalformedInput, match="at most"):
        decode_public_key(bytes(MAX_KEY_FILE + 1))


def test_trailing_bytes_behind_a_der_key_are_refused() -> None:
    with pytest.raises(MalformedInput):
        decode_public_key(SoftwareAk.of("P256", "ecdsa-sha256").der() + b"\0")


def test_keys_that_no_tpm_signs_quotes_with_are_refused() -> None:
    for key in (
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
    ):
        with pytest.raises(MalformedInput, match="neither RSA nor on a NIST curve"):
            public_of_key(key)


def test_a_point_off_its_curve_is_refused() -> None:
    public = SoftwareAk.of("P256", "ecdsa-sha256").public
    assert isinstance(public, EccPublic)
    for moved in (
        replace(public, y=public.x),
        replace(public, x=b"", y=b""),
        replace(public, x=bytes(32), y=bytes(32)),
    ):
        with pytest.raises(MalformedInput, match="public key"):
            public_key_of(moved)


def test_a_modulus_of_another_size_than_declared_is_refused() -> None:
    public = SoftwareAk.of("2048", "rsassa-sha256").public
    assert isinstance(public, RsaPublic)
    for modulus in (b"", public.modulus[:-1], b"\0" + public.modulus[1:]):
        with pytest.raises(MalformedInput, match="RSA key: modulus"):
            public_key_of(replace(public, modulus=modulus))


def test_rsa_keys_that_no_tpm_has_are_refused() -> None:
    modulus = (1 << 2047) + 1
    numbers = {
        "RSA of 1536 bits": rsa.RSAPublicNumbers(65537, (1 << 1535) + 1),
        "exponent of more than 32 bits": rsa.RSAPublicNumbers((1 << 32) + 1, modulus),
    }
    for reason, each in numbers.items():
        with pytest.raises(MalformedInput, match=reason):
            public_of_key(each.public_key())
