"""Evidence: what a node sends in one round. Nothing in it is proved."""

from __future__ import annotations

from typing import NamedTuple

from nodeseal.evidence.logs import ImaDelta


class Evidence(NamedTuple):
    """The evidence of one round as it arrived. Nothing in it is proved.

    Attributes:
        claims: canonical JSON. The bytes as sent are hashed; they are decoded after the signature is verified.
        attest: TPMS_ATTEST of the quote.
        signature: TPMT_SIGNATURE by the attestation key over ``attest``.
        pcr_values: claimed values in the order of the quoted selection (bank by bank, index ascending); None: unchanged
            since the last accepted round.
        boot_log: the boot event log as firmware left it; None: the verifier knows it, or there is none.
        ima: entries of the IMA log that the verifier does not know yet; None: there is no such log.
        banks: numbers (TPM_ALG_ID) of the PCR banks that the node says are active in its TPM; empty: it does not say.
    """

    claims: bytes
    attest: bytes
    signature: bytes
    pcr_values: tuple[bytes, ...] | None
    boot_log: bytes | None = None
    ima: ImaDelta | None = None
    banks: tuple[int, ...] = ()

    @property
    def without_quote(self) -> bool:
        """Whether the node says only which banks its TPM has, because it cannot quote those that it was asked for."""
        return bool(self.banks) and not self.attest
