from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.attest import Certified, decode_attest, encode_attest
from support.codec import assert_exact
from support.tpm_values import ATTESTED, attest

GOOD = encode_attest(attest())
CLOCK_AT = 6 + 2 + 34 + 2 + 5
SAFE_AT = CLOCK_AT + 16


@pytest.mark.parametrize("kind", ATTESTED)
def test_an_attestation_survives_the_wire(kind: str) -> None:
    value = attest(ATTESTED[kind])
    assert decode_attest(encode_attest(value)) == value


@pytest.mark.parametrize("kind", ATTESTED)
def test_cut_and_long_attestations_are_refused(kind: str) -> None:
    assert_exact(decode_attest, encode_attest(attest(ATTESTED[kind])))


def _with(at: int, new: bytes) -> bytes:
    return GOOD[:at] + new + GOOD[at + len(new) :]


REFUSED = {
    "a wrong magic": (_with(0, b"\xfe"), "magic is 0xfe544347"),
    "the type of a time attestation": (_with(4, b"\x80\x19"), "type is 0x8019"),
    "the type of a session audit": (_with(4, b"\x80\x16"), "type is 0x8016"),
    "an oversized signer": (_with(6, b"\x00\x43"), "qualifiedSigner declares 67 bytes, at most 66"),
    "an oversized nonce": (_with(CLOCK_AT - 7, b"\xff\xff"), "extraData declares 65535 bytes"),
    "a safe flag of 2": (_with(SAFE_AT, b"\2"), "clockInfo.safe is 2"),
    "an oversized digest": (GOOD[:-34] + b"\0\x41" + bytes(65), "pcrDigest declares 65 bytes, at most 64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_attestation_is_refused_with(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(MalformedInput, match=f"TPMS_ATTEST.*: {reason}"):
        decode_attest(raw)


@pytest.mark.parametrize("size", [0, 1, 20, 32, 64])
def test_nonces_of_every_size_are_read(size: int) -> None:
    assert decode_attest(encode_attest(attest(extra_data=bytes(size)))).extra_data == bytes(size)


def test_what_was_quoted_cannot_be_read_from_a_certification() -> None:
    certification = attest(ATTESTED["a certification"])
    assert certification.certified == ATTESTED["a certification"]
    with pytest.raises(MalformedInput, match="a quote is due, this is Certified"):
        _ = certification.quoted


def test_what_was_certified_cannot_be_read_from_a_quote() -> None:
    assert not isinstance(attest().attested, Certified)
    with pytest.raises(MalformedInput, match="a certification is due, this is Quoted"):
        _ = attest().certified
