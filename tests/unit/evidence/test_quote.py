from __future__ import annotations

import pytest

from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import ProofFailed
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values, verify_quote
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted, encode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from support.software_ak import SoftwareAk
from support.tpm_values import ATTESTED, attest

AK = SoftwareAk.of("P256", "ecdsa-sha256")
VERIFIER = SignatureVerifier(AK.public)
SELECTION = PcrSelection.of({HashAlg.SHA256: (0, 1), HashAlg.SHA1: (7,)})
VALUES = (b"\x01" * 32, b"\x02" * 32, b"\x03" * 20)
QUOTED = Quoted(SELECTION, pcr_digest(HashAlg.SHA256, VALUES))
GOOD = encode_attest(attest(QUOTED, b"challenge"))


def refusal(raw: bytes, signature: bytes | None = None, extra: bytes = b"challenge") -> FindingId:
    with pytest.raises(ProofFailed) as caught:
        verify_quote(raw, AK.sign_raw(raw) if signature is None else signature, VERIFIER, extra, SELECTION)
    return caught.value.findings[0].id


def test_a_quote_for_this_challenge_is_verified() -> None:
    verified = verify_quote(GOOD, AK.sign_raw(GOOD), VERIFIER, b"challenge", SELECTION)
    assert verified.quoted == QUOTED


def test_the_signature_is_checked_before_anything_is_parsed() -> None:
    signature = AK.sign_raw(GOOD)
    for unsigned in (b"", b"nonsense", GOOD + b"\0", encode_attest(attest(ATTESTED["a certification"]))):
        assert refusal(unsigned, signature) is FindingId.QUOTE_SIGNATURE


SIGNED_BUT_NO_QUOTE = {
    "a wrong magic": b"\xfe" + GOOD[1:],
    "a certification": encode_attest(attest(ATTESTED["a certification"], b"challenge")),
    "a creation": encode_attest(attest(ATTESTED["a creation"], b"challenge")),
    "trailing bytes": GOOD + b"\0",
    "nothing": b"",
}


@pytest.mark.parametrize("case", SIGNED_BUT_NO_QUOTE)
def test_what_the_key_signed_is_refused_if_it_is(case: str) -> None:
    assert refusal(SIGNED_BUT_NO_QUOTE[case]) is FindingId.QUOTE_MALFORMED


@pytest.mark.parametrize("extra", [b"", b"challengf", b"challenge\0", b"challeng"])
def test_a_quote_for_another_challenge_is_refused(extra: bytes) -> None:
    assert refusal(GOOD, extra=extra) is FindingId.QUOTE_BINDING


OTHER_SELECTIONS = {
    "nothing": None,
    "fewer pcrs": PcrSelection.of({HashAlg.SHA256: (0,), HashAlg.SHA1: (7,)}),
    "more pcrs": PcrSelection.of({HashAlg.SHA256: (0, 1, 2), HashAlg.SHA1: (7,)}),
    "another pcr": PcrSelection.of({HashAlg.SHA256: (0, 16), HashAlg.SHA1: (7,)}),
    "another bank": PcrSelection.of({HashAlg.SHA384: (0, 1), HashAlg.SHA1: (7,)}),
    "one bank": PcrSelection.of({HashAlg.SHA256: (0, 1)}),
    "the banks in another order": PcrSelection(SELECTION.banks[::-1]),
}


@pytest.mark.parametrize("case", OTHER_SELECTIONS)
def test_a_quote_is_refused_that_covers(case: str) -> None:
    raw = encode_attest(attest(Quoted(OTHER_SELECTIONS[case], QUOTED.pcr_digest), b"challenge"))
    assert refusal(raw) is FindingId.QUOTE_SELECTION


def test_faults_are_reported_in_their_order() -> None:
    other = PcrSelection.of({HashAlg.SHA1: (0,)})
    assert refusal(encode_attest(attest(Quoted(other, bytes(32)), b"other"))) is FindingId.QUOTE_BINDING


def test_proved_values_can_be_looked_up_and_nothing_else_can() -> None:
    proved = prove_pcr_values(QUOTED, HashAlg.SHA256, VALUES)
    assert proved.get(HashAlg.SHA256, 1) == VALUES[1]
    assert proved.get(HashAlg.SHA1, 7) == VALUES[2]
    assert proved.get(HashAlg.SHA256, 7) is None
    assert proved.get(HashAlg.SHA384, 1) is None
    assert dict(proved.items()) == dict(zip(SELECTION.indices(), VALUES, strict=True))
    assert (proved.selection, proved.quoted.pcr_digest) == (SELECTION, QUOTED.pcr_digest)


CLAIMS: dict[str, tuple[bytes, ...]] = {
    "permuted between registers": (VALUES[1], VALUES[0], VALUES[2]),
    "one of them changed": (VALUES[0], VALUES[1], bytes(20)),
    "one missing": VALUES[:2],
    "one too many": (*VALUES, b"\x04" * 20),
    "none": (),
    "a byte moved to the neighbour": (VALUES[0] + b"\x02", VALUES[1][1:], VALUES[2]),
    "all in the first": (b"".join(VALUES), b"", b""),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_claimed_values_are_refused_that_are(case: str) -> None:
    with pytest.raises(ProofFailed) as caught:
        prove_pcr_values(QUOTED, HashAlg.SHA256, CLAIMS[case])
    assert caught.value.findings[0].id is FindingId.PCR_DIGEST


def test_the_digest_is_of_the_signing_schemes_hash() -> None:
    quoted = Quoted(SELECTION, pcr_digest(HashAlg.SHA384, VALUES))
    prove_pcr_values(quoted, HashAlg.SHA384, VALUES)
    with pytest.raises(ProofFailed):
        prove_pcr_values(quoted, HashAlg.SHA256, VALUES)


def test_a_quote_of_nothing_proves_no_value() -> None:
    with pytest.raises(ProofFailed) as caught:
        prove_pcr_values(Quoted(None, HashAlg.SHA256.digest(b"")), HashAlg.SHA256, ())
    assert caught.value.findings[0].id is FindingId.QUOTE_SELECTION


def test_nothing_else_can_make_pcr_values() -> None:
    with pytest.raises(TypeError, match="prove_pcr_values only"):
        QuotedPcrs(object(), QUOTED, SELECTION, VALUES)
