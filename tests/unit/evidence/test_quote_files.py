from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.crypto.signatures import InsecureSha1Verifier
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.quote_files import QuoteFiles, verify_quote_files
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted, encode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from support.damage import flipped
from support.pcr_files import serialized
from support.software_ak import SoftwareAk
from support.tpm_values import attest

NONCE = b"\x0f\x1e"
SELECTION = PcrSelection.of({HashAlg.SHA384: (0, 23), HashAlg.SHA1: (7,), HashAlg.SHA256: range(9)})
VALUES = tuple(bytes([number]) * bank.digest_size for number, (bank, _) in enumerate(SELECTION.indices()))
SCHEMES = [
    *(("P256", "ecdsa-sha256"), ("P384", "ecdsa-sha384"), ("P521", "ecdsa-sha512")),
    *(("2048", "rsassa-sha256"), ("2048", "rsapss-sha384"), ("2048", "rsassa-sha512")),
]


def files(ak: SoftwareAk, selection: PcrSelection | None = SELECTION, nonce: bytes = NONCE) -> QuoteFiles:
    digest = pcr_digest(ak.scheme.hash_alg, VALUES)
    raw = encode_attest(attest(Quoted(selection, digest), nonce))
    pcrs = serialized(SELECTION, VALUES)
    return QuoteFiles(attest=raw, signature=ak.sign_raw(raw), public=ak.pem(), pcrs=pcrs)


GOOD = files(SoftwareAk.of("P256", "ecdsa-sha256"))


def findings(given: QuoteFiles, nonce: bytes = NONCE) -> list[FindingId]:
    with pytest.raises(ProofFailed) as caught:
        verify_quote_files(given, nonce)
    return [finding.id for finding in caught.value.findings]


@pytest.mark.parametrize(("kind", "scheme"), SCHEMES)
@pytest.mark.parametrize("form", ["pem", "der", "tpmt"])
def test_a_quote_verifies_whatever_its_scheme_and_the_form_of_its_key(kind: str, scheme: str, form: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    public = {"pem": ak.pem(), "der": ak.der(), "tpmt": ak.public.encode()}[form]
    verified = verify_quote_files(replace(files(ak), public=public), NONCE)
    assert verified.pcrs is not None
    assert verified.pcrs.get(HashAlg.SHA384, 23) == VALUES[1]
    assert verified.public.scheme == ak.scheme


@pytest.mark.parametrize(("kind", "scheme"), SCHEMES)
def test_a_plain_signature_verifies_by_its_named_scheme(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    given = files(ak)
    plain = replace(given, signature=ak.sign_plain(given.attest), plain_scheme=ak.scheme)
    assert verify_quote_files(plain, NONCE).attest.extra_data == NONCE


def test_a_plain_signature_without_its_scheme_gets_a_hint() -> None:
    ak = SoftwareAk.of("2048", "rsassa-sha256")
    given = files(ak)
    with pytest.raises(MalformedInput) as caught:
        verify_quote_files(replace(given, signature=b"\x77" + ak.sign_plain(given.attest)[1:]), NONCE)
    assert "--scheme" in caught.value.remedy


@pytest.mark.parametrize("nonce", [b"", b"\0", bytes(20), bytes(64)])
def test_nonces_of_every_size_are_compared(nonce: bytes) -> None:
    given = files(SoftwareAk.of("P256", "ecdsa-sha256"), nonce=nonce)
    assert verify_quote_files(given, nonce).attest.extra_data == nonce
    assert findings(given, nonce + b"\0") == [FindingId.QUOTE_NONCE]


def test_without_pcr_file_no_value_is_proved() -> None:
    assert verify_quote_files(replace(GOOD, pcrs=None), NONCE).pcrs is None


def test_every_fault_behind_a_good_signature_is_named() -> None:
    other = serialized(SELECTION, (*VALUES[:-1], bytes(32)))
    assert findings(replace(GOOD, pcrs=other), b"other") == [FindingId.QUOTE_NONCE, FindingId.PCR_DIGEST]


def test_a_bad_signature_is_the_only_fault_named() -> None:
    assert findings(replace(GOOD, attest=flipped(GOOD.attest)), b"other") == [FindingId.QUOTE_SIGNATURE]


REFUSED = {
    "another key": (replace(GOOD, public=SoftwareAk.of("P256", "ecdsa-sha256", 1).pem()), FindingId.QUOTE_SIGNATURE),
    "a key of another type": (
        replace(GOOD, public=SoftwareAk.of("2048", "rsassa-sha256").pem()),
        FindingId.QUOTE_ALGORITHM,
    ),
    "a SHA-1 signature": (files(SoftwareAk.of("P256", "ecdsa-sha1")), FindingId.QUOTE_ALGORITHM),
    "a key that declares another scheme": (
        replace(GOOD, public=SoftwareAk.of("P256", "ecdsa-sha384").public.encode()),
        FindingId.QUOTE_ALGORITHM,
    ),
    "values for another selection": (
        replace(GOOD, pcrs=serialized(PcrSelection.of({HashAlg.SHA1: (0,)}), VALUES[2:3])),
        FindingId.PCR_DIGEST,
    ),
    "a quote of nothing": (files(SoftwareAk.of("P256", "ecdsa-sha256"), None), FindingId.QUOTE_SELECTION),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_quote_is_refused_with(case: str) -> None:
    given, finding = REFUSED[case]
    assert findings(given) == [finding]


def test_sha1_is_taken_on_explicit_demand_only() -> None:
    given = files(SoftwareAk.of("2048", "rsassa-sha1"))
    assert verify_quote_files(given, NONCE, InsecureSha1Verifier).pcrs is not None
