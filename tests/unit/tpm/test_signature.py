from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import Alg, HashAlg
from nodeseal.tpm.signature import EccSignature, RsaSignature, TpmSignature, decode_signature, encode_signature
from support.codec import assert_exact

GOOD: dict[str, tuple[TpmSignature, int]] = {
    "P-256": (EccSignature(HashAlg.SHA256, 1 << 255, 7), 32),
    "P-384": (EccSignature(HashAlg.SHA384, 5, 1 << 380), 48),
    "P-521": (EccSignature(HashAlg.SHA512, 1 << 520, 1), 66),
    "RSASSA": (RsaSignature(Alg.RSASSA, HashAlg.SHA256, bytes(256)), 0),
    "RSAPSS": (RsaSignature(Alg.RSAPSS, HashAlg.SHA1, bytes(512)), 0),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_signature_survives_the_wire(case: str) -> None:
    signature, size = GOOD[case]
    raw = encode_signature(signature, size)
    assert decode_signature(raw) == signature
    assert_exact(decode_signature, raw)


def test_leading_zeros_of_r_and_s_do_not_matter() -> None:
    padded = encode_signature(EccSignature(HashAlg.SHA256, 1, 2), 66)
    assert decode_signature(padded) == EccSignature(HashAlg.SHA256, 1, 2)


REFUSED = {
    "an HMAC": ("0005 000b" + "00" * 32, "sigAlg is 0x0005"),
    "ECDAA": ("001a 000b 0001 01 0001 01", "sigAlg is 0x001a"),
    "the NULL scheme": ("0010 000b", "sigAlg is NULL"),
    "a scheme that encrypts": ("0017 000b 0000", "sigAlg is OAEP"),
    "an unknown hash": ("0018 0012 0001 01 0001 01", "hash is 0x0012"),
    "an r of 67 bytes": ("0018 000b 0043" + "01" * 67 + "0001 01", "signatureR declares 67 bytes, at most 66"),
    "an RSA signature of 513 bytes": ("0014 000b 0201" + "01" * 513, "sig declares 513 bytes, at most 512"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_signature_is_refused_with(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(MalformedInput, match=f"TPMT_SIGNATURE: {reason}"):
        decode_signature(bytes.fromhex(raw))
