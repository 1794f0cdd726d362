"""Prove quotes: first the signature over the raw bytes, then their content, then the PCR values behind the digest.

The order is fixed, because only what a TPM signed is worth parsing: signature, magic and type, extraData, selection.
PCR values exist only as :class:`QuotedPcrs`, which only :func:`prove_pcr_values` can make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest, Quoted, decode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest

_PROVED = object()


class QuotedPcrs:
    """PCR values that a signed quote covers: these registers held these values when it was made.

    Attributes:
        quoted: selection and digest that the TPM signed.
    """

    __slots__ = ("_places", "_values", "quoted", "selection")

    def __init__(self, proof: object, quoted: Quoted, selection: PcrSelection, values: Sequence[bytes]) -> None:
        if proof is not _PROVED:
            raise TypeError("PCR values come from prove_pcr_values only")
        self.quoted = quoted
        self.selection = selection
        self._places = _places(selection)
        self._values = b"".join(values)

    def get(self, bank: HashAlg, index: int) -> bytes | None:
        """Return the value of a PCR, or None if the quote did not select it."""
        place = self._places.get((bank, index))
        return None if place is None else self._values[place]

    def items(self) -> Iterator[tuple[tuple[HashAlg, int], bytes]]:
        """Iterate over ((bank, index), value) in the TPM's order."""
        return ((register, self._values[place]) for register, place in self._places.items())


@lru_cache(maxsize=64)
def _places(selection: PcrSelection) -> Mapping[tuple[HashAlg, int], slice]:
    """Return the position of each PCR's value. Cached, because all nodes of a verifier quote the same selection."""
    places, start = {}, 0
    for bank, index in selection.indices():
        end = start + bank.digest_size
        places[bank, index] = slice(start, end)
        start = end
    return places


def decode_signed_quote(attest: bytes) -> Attest:
    """Decode a TPMS_ATTEST as a quote, after its signature was verified.

    Raises:
        ProofFailed: QUOTE_MALFORMED: it is signed, but it is not a quote.
    """
    try:
        decoded = decode_attest(attest)
        _ = decoded.quoted
    except MalformedInput as error:
        raise _failed(FindingId.QUOTE_MALFORMED, "a quote", str(error)) from error
    return decoded


def verify_quote(
    attest: bytes,
    signature: bytes,
    verifier: SignatureVerifier,
    expected_extra_data: bytes,
    expected_selection: PcrSelection,
) -> Attest:
    """Verify that this key signed the quote, for this challenge, over these PCRs.

    Args:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE over ``attest``.
        verifier: the attestation key.
        expected_extra_data: the qualifying data of the challenge (:func:`nodeseal.evidence.binding.qualifying_data`).
        expected_selection: the PCRs that the challenge asked for, in its order of banks.

    Raises:
        ProofFailed: a finding of :meth:`SignatureVerifier.verify`, QUOTE_MALFORMED, QUOTE_BINDING or QUOTE_SELECTION.
    """
    verifier.verify(signature, attest)
    decoded = decode_signed_quote(attest)
    if decoded.extra_data != expected_extra_data:
        raise _failed(FindingId.QUOTE_BINDING, expected_extra_data.hex(), decoded.extra_data.hex() or "none")
    selection = decoded.quoted.selection
    if selection != expected_selection:
        raise _failed(FindingId.QUOTE_SELECTION, str(expected_selection), str(selection or "no PCR"))
    return decoded


def prove_pcr_values(quoted: Quoted, signing_hash: HashAlg, claimed: Sequence[bytes]) -> QuotedPcrs:
    """Prove that ``claimed`` are the quoted values.

    Args:
        quoted: from an attestation whose signature was verified.
        signing_hash: hash of the signing scheme, which the digest uses too (TPM2_Quote, TPM Library Part 3).
        claimed: values in the order of the selection.

    Raises:
        ProofFailed: QUOTE_SELECTION: nothing was quoted. PCR_DIGEST: the values are wrong, too many, too few, or have
            a wrong size (sizes are checked so that no byte can move from one register to the next).
    """
    selection = quoted.selection
    if selection is None:
        raise _failed(FindingId.QUOTE_SELECTION, "a quote of at least one PCR", "one that selects nothing")
    expected_sizes = [bank.digest_size for bank, _ in selection.indices()]
    if [len(value) for value in claimed] != expected_sizes:
        raise _failed(FindingId.PCR_DIGEST, f"{selection.size} values of their banks' sizes", f"{len(claimed)} values")
    digest = pcr_digest(signing_hash, claimed)
    if digest != quoted.pcr_digest:
        raise _failed(FindingId.PCR_DIGEST, quoted.pcr_digest.hex(), digest.hex())
    return QuotedPcrs(_PROVED, quoted, selection, claimed)


def _failed(finding: FindingId, expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=finding, expected=expected, seen=seen))
