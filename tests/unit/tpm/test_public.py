from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import Alg, HashAlg
from nodeseal.tpm.public import Scheme, Symmetric, decode_public, decode_public_2b, encode_public_2b
from support.codec import assert_exact
from support.tpm_values import ECC, PUBLICS, RSA


@pytest.mark.parametrize("case", PUBLICS)
def test_a_public_area_survives_the_wire(case: str) -> None:
    public = PUBLICS[case]
    assert decode_public(public.encode()) == public
    assert decode_public_2b(encode_public_2b(public)) == public


@pytest.mark.parametrize("case", PUBLICS)
def test_cut_and_long_public_areas_are_refused(case: str) -> None:
    assert_exact(decode_public, PUBLICS[case].encode())
    assert_exact(decode_public_2b, encode_public_2b(PUBLICS[case]))


def test_a_size_that_hides_trailing_bytes_is_refused() -> None:
    raw = ECC.encode() + b"\0"
    with pytest.raises(MalformedInput, match="TPMT_PUBLIC: 1 bytes too many"):
        decode_public_2b(len(raw).to_bytes(2, "big") + raw)


def test_the_name_is_the_hash_by_name_alg() -> None:
    assert ECC.name() == b"\0\x0b" + hashlib.sha256(ECC.encode()).digest()
    assert RSA.name() == b"\0\x0c" + hashlib.sha384(RSA.encode()).digest()


def test_every_scheme_is_read() -> None:
    for scheme in (
        Scheme(Alg.RSASSA, HashAlg.SHA256),
        Scheme(Alg.RSAPSS, HashAlg.SHA1),
        Scheme(Alg.OAEP, HashAlg.SHA256),
    ):
        assert decode_public(replace(RSA, scheme=scheme).encode()).scheme == scheme
    assert decode_public(replace(ECC, scheme=Scheme(Alg.ECDH, HashAlg.SHA256)).encode()).scheme is not None


ECC_HEAD, RSA_HEAD = "0023 000b 00050002 0000", "0001 000b 00030002 0000"
REFUSED = {
    "a keyed hash": ("0008 000b 00000000 0000 0010 0000", "type is 0x0008"),
    "a symmetric cipher": ("0025 000b 00000000 0000", "type is 0x0025"),
    "a type that is no type": ("0043", "type is CFB, neither RSA nor ECC"),
    "an unknown name algorithm": ("0023 0012", "nameAlg is 0x0012"),
    "no name algorithm": ("0023 0010", "nameAlg is 0x0010"),
    "reserved attributes": ("0023 000b 80000000", "objectAttributes is 0x80000000"),
    "attribute bit 0": ("0023 000b 00000001", "objectAttributes is 0x00000001"),
    "a policy of another hash's size": ("0023 000b 00000000 0014" + "00" * 20, "authPolicy has 20 bytes"),
    "an oversized policy": ("0023 000b 00000000 0041" + "00" * 65, "authPolicy declares 65 bytes"),
    "another cipher": (f"{RSA_HEAD} 0026", "symmetric is 0x0026"),
    "AES of 100 bits": (f"{RSA_HEAD} 0006 0064 0043", "symmetric.keyBits is 100"),
    "AES in another mode": (f"{RSA_HEAD} 0006 0080 0042", "symmetric.mode is 0x0042"),
    "a mode that is no mode": (f"{RSA_HEAD} 0006 0080 0006", "symmetric.mode is AES, not CFB"),
    "a hash for a cipher": (f"{RSA_HEAD} 0014", "symmetric is RSASSA"),
    "an ECC scheme for RSA": (f"{RSA_HEAD} 0010 0018 000b", "scheme is ECDSA, none of RSASSA, RSAPSS, OAEP"),
    "an RSA scheme for ECC": (f"{ECC_HEAD} 0010 0014 000b", "scheme is RSASSA, none of ECDSA, ECDH"),
    "ECDAA": (f"{ECC_HEAD} 0010 001a 000b 0000", "scheme is 0x001a"),
    "an unknown hash in the scheme": (f"{ECC_HEAD} 0010 0018 0027", "scheme.hashAlg is 0x0027"),
    "RSA of 2047 bits": (f"{RSA_HEAD} 0010 0010 07ff 00000000 0000", "keyBits is 2047"),
    "a modulus longer than the key": (f"{RSA_HEAD} 0010 0010 0400 00000000 0081", "unique.rsa declares 129 bytes"),
    "an unknown curve": (f"{ECC_HEAD} 0010 0018 000b 0020", "curveID is 0x0020"),
    "a key derivation scheme": (f"{ECC_HEAD} 0010 0018 000b 0003 0020", "kdf is 0x0020"),
    "a hash where a kdf is due": (f"{ECC_HEAD} 0010 0018 000b 0003 0019", "kdf is ECDH, not NULL"),
    "a coordinate longer than the field": (f"{ECC_HEAD} 0010 0018 000b 0003 0010 0021", "unique.ecc.x declares 33"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_public_area_is_refused_with(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(MalformedInput, match=f"TPMT_PUBLIC: {reason}"):
        decode_public(bytes.fromhex(raw))


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_of_every_size_is_read(bits: int) -> None:
    assert decode_public(replace(RSA, symmetric=Symmetric(bits)).encode()).symmetric == Symmetric(bits)
