"""Verify a quote from files, offline, for auditors and scripts.

The signature comes first: without it nothing else has a meaning. All faults after it are collected, so that one
refusal names them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nodeseal.crypto.keys import decode_public_key
from nodeseal.crypto.signatures import SignatureVerifier, decode_plain_signature
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.quote import QuotedPcrs, decode_signed_quote, prove_pcr_values
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.attest import Attest
from nodeseal.tpm.public import Scheme, TpmPublic
from nodeseal.tpm.signature import TpmSignature, decode_signature
from nodeseal.tpm.tools import ClaimedPcrs, decode_pcr_file


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFiles:
    """Contents of the files with a quote.

    Attributes:
        attest: TPMS_ATTEST, the bytes that were signed.
        signature: TPMT_SIGNATURE, or a plain signature if ``plain_scheme`` is given.
        public: the attestation key, see :func:`nodeseal.crypto.keys.decode_public_key`.
        pcrs: PCR values, see :func:`nodeseal.tpm.tools.decode_pcr_file`; None: verify only that the quote
            is authentic and fresh.
        plain_scheme: scheme of a plain signature, which does not name its own.
    """

    attest: bytes
    signature: bytes
    public: bytes
    pcrs: bytes | None
    plain_scheme: Scheme | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """A quote that was verified.

    Attributes:
        attest: what the TPM signed.
        public: the attestation key, with the scheme of the signature.
        pcrs: the values behind the quote's digest; None: no file with values was given.
        ignored: number of values in the PCR file that the quote does not cover.
    """

    attest: Attest
    public: TpmPublic
    pcrs: QuotedPcrs | None
    ignored: int


def verify_quote_files(
    files: QuoteFiles, nonce: bytes, verifier_class: type[SignatureVerifier] = SignatureVerifier
) -> VerifiedQuote:
    """Verify signature, structure, nonce and PCR values.

    Args:
        files: what to verify.
        nonce: the expected extraData, at most 64 bytes; empty for a quote without a nonce.
        verifier_class: the class that decides which signatures are accepted.

    Raises:
        MalformedInput: the key or the signature does not parse.
        ProofFailed: the signature is wrong or not accepted; or all faults in what it covers.
    """
    public, signature = decode_public_key(files.public), _decode_signature(files)
    public = replace(public, scheme=public.scheme or Scheme(signature.scheme, signature.hash_alg))
    verifier = verifier_class(public)
    verifier.verify_decoded(signature, files.attest)
    attest = decode_signed_quote(files.attest)
    findings = list(_check_nonce(attest, nonce))
    pcrs, claimed = None, ClaimedPcrs(())
    if files.pcrs is not None:
        try:
            claimed = _claimed(files.pcrs, attest)
            pcrs = prove_pcr_values(attest.quoted, verifier.hash_alg, claimed.values)
        except ProofFailed as error:
            findings += error.findings
    if findings:
        raise ProofFailed(*findings)
    return VerifiedQuote(attest=attest, public=public, pcrs=pcrs, ignored=claimed.ignored)


def _decode_signature(files: QuoteFiles) -> TpmSignature:
    if files.plain_scheme:
        return decode_plain_signature(files.signature, files.plain_scheme, decode_public_key(files.public))
    try:
        return decode_signature(files.signature)
    except MalformedInput as error:
        remedy = "if it is a plain signature without TPMT_SIGNATURE around it, name its scheme: --scheme rsassa-sha256"
        raise MalformedInput(str(error), remedy=remedy) from error


def _check_nonce(attest: Attest, nonce: bytes) -> Iterator[Finding]:
    if attest.extra_data != nonce:
        yield Finding(
            id=FindingId.QUOTE_NONCE, expected=nonce.hex() or "no nonce", seen=attest.extra_data.hex() or "no nonce"
        )


def _claimed(raw: bytes, attest: Attest) -> ClaimedPcrs:
    selection = attest.quoted.selection
    if selection is None:
        return ClaimedPcrs(())
    try:
        return decode_pcr_file(raw, selection)
    except MalformedInput as error:
        expected = "a value for each PCR of the quote"
        raise ProofFailed(Finding(id=FindingId.PCR_DIGEST, expected=expected, seen=str(error))) from error
